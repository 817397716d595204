"""What every HTTP API here has alike: /docs without the internet, /metrics, and refusals in one form."""

import traceback
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, ValidationException
from litestar.middleware import ASGIMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from runtime.armour import SlowBodyError
from runtime.bearer import COMPONENTS, Guards
from runtime.clock import SystemClock
from runtime.logs import Log
from runtime.metrics import Source
from runtime.refusals import Refusal

SWAGGER_UI = "mkdocs_swagger_ui_tag"
"""The package whose copy of Swagger UI is shown; nothing of its own is used."""
ASSETS = "/docs/swagger-ui"
BODY_BYTES_MAX = 100_000
"""A request with a larger body is refused, 413; the largest of ours has some hundred bytes."""


def web_app(
    handlers: Sequence[Any],
    *,
    title: str,
    description: str,
    log: Log,
    guards: Guards | None = None,
    collectors: Sequence[Collector] = (),
    invalid_code: int = 400,
) -> Litestar:
    """An application of these handlers.

    Args:
        handlers: litestar route handlers.
        title: heads its OpenAPI.
        description: one sentence in it.
        log: gets the errors that are bugs.
        guards: who may read /metrics; None: everybody.
        invalid_code: the status of a request that does not fit the OpenAPI.
        collectors: what /metrics shows beside the process's memory and the answers' times.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)

    guarded = {} if guards is None else guards.reads_all()

    @get("/metrics", media_type=MediaType.TEXT, include_in_schema=False, sync_to_thread=False, **guarded)
    def metrics() -> bytes:
        """Everything counted, for Prometheus."""
        return generate_latest(registry)

    def invalid(_request: Request[Any, Any, Any], error: ValidationException) -> Response[Refusal]:
        return _refuse(invalid_code, _told(error))

    def fail(request: Request[Any, Any, Any], error: Exception) -> Response[Refusal]:
        trace = "".join(traceback.format_exception(error))
        log.error("request failed", path=request.url.path, why=repr(error), trace=trace)
        return _refuse(500, "an error in the service: its log says which")

    def unreadable(request: Request[Any, Any, Any], error: Exception) -> Response[Refusal]:
        # What msgspec raises beside its own errors.
        log.warning("request refused", path=request.url.path, why=repr(error)[:200])
        return _refuse(invalid_code, "body: nested too deep, or no UTF-8")

    def slow(_request: Request[Any, Any, Any], error: SlowBodyError) -> Response[Refusal]:
        return _refuse(408, str(error), {"connection": "close"})

    swagger = SwaggerRenderPlugin(
        js_url=f"{ASSETS}/javascripts/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/stylesheets/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/javascripts/swagger-ui-standalone-preset.js",
        favicon='<link rel="icon" href="data:,">',
        path="/",
    )
    with resources.as_file(resources.files(SWAGGER_UI) / "swagger-ui") as folder:
        assets = create_static_files_router(ASSETS, directories=[Path(folder)], include_in_schema=False)
    return Litestar(
        [*handlers, metrics, assets],
        openapi_config=OpenAPIConfig(
            title=title,
            version=version("wattbus"),
            description=description,
            path="/docs",
            render_plugins=[swagger],
            use_handler_docstrings=True,
            components=COMPONENTS,
        ),
        exception_handlers={
            HTTPException: _refused,
            ValidationException: invalid,
            RecursionError: unreadable,
            UnicodeDecodeError: unreadable,
            SlowBodyError: slow,
            Exception: fail,
        },
        middleware=[_Timing(registry)],
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
    )


def _refused(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Refusal]:
    return _refuse(error.status_code, _told(error), error.headers)


def _told(error: HTTPException) -> str:
    told = error.extra if isinstance(error.extra, list) else []
    parts = [f"{part.get('key', 'body')}: {part['message']}" for part in told if "message" in part]
    return "; ".join(parts) or error.detail


def _refuse(code: int, detail: str, headers: Any = None) -> Response[Refusal]:  # noqa: ANN401 - litestar's
    return Response(Refusal(status_code=code, detail=detail), status_code=code, headers=headers)


class SourceCollector(Collector):
    """What a part counts by the standard library alone, such as the bus, on an API's /metrics."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Family]:
        for metric in self._source():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.values.items():
                family.add_metric(labels, value)
            yield family


class _Timing(ASGIMiddleware):
    """Measures every answer, by endpoint and status."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, registry: CollectorRegistry) -> None:
        self._clock = SystemClock()  # an answer takes real time, whatever the service runs on
        self._seconds = Histogram(
            "wattbus_http_seconds", "Time of an answer.", ("path", "code"), registry=registry
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        began_s = self._clock.monotonic()
        code = 0

        async def watch(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        await next_app(scope, receive, watch)
        self._seconds.labels(scope.get("path_template", ""), str(code)).observe(
            self._clock.monotonic() - began_s
        )
