# One image for every service: docker run wattbus meter --help
# Old builders do too: no BuildKit syntax in here.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
RUN python3 -m venv /opt/wattbus
ENV PATH=/opt/wattbus/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# What it stands on first, so that a change of our own code rebuilds seconds and not minutes.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = p['optional-dependencies']; \
own = [d for e in extras if e not in ('all', 'dask', 'dev') for d in extras[e] if not d.startswith('wattbus[')]; \
print(*p['dependencies'], *own, sep='\n')" > needs.txt \
 && pip install --quiet -r needs.txt -c constraints.txt
COPY . .
# Not needed at run time: pip, the libraries' own tests, and a solver of 145 MB that cvxpy comes with.
RUN pip install --quiet --no-deps . \
 && pip uninstall --quiet --yes scs setuptools pip \
 && find /opt/wattbus/lib -type d -name tests -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --home-dir /app wattbus \
 && mkdir -p /app/DATA /app/state /app/log \
 && chown -R wattbus /app
COPY --from=build /opt/wattbus /opt/wattbus
COPY examples /app/examples
ENV PATH=/opt/wattbus/bin:$PATH PYTHONUNBUFFERED=1 WATTBUS_HEALTH_FILE=/tmp/wattbus.health
USER wattbus
WORKDIR /app
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["wattbus", "health"]
ENTRYPOINT ["wattbus"]
CMD ["--help"]
