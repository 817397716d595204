# The two commands of the README: make demo, make test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test lint types floors unit test-fault bench lock clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wattbus needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian, apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV): a minute or two, once"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## a neighbourhood of three real houses in this terminal
	@$(BIN)/wattbus run examples/neighbourhood.toml --start today@14:00 --speed 60 --for 4h --out out/demo-$$(date +%Y%m%d-%H%M%S) --window $(DEMO)

test: lint types floors unit  ## style, types, floors, and every test

lint: $(VENV)/.installed  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed  ## mypy, strict
	$(BIN)/mypy

floors: $(VENV)/.installed  ## import-linter: imports go down only
	$(BIN)/lint-imports

unit: $(VENV)/.installed
	$(BIN)/pytest -m "not fault" -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-fault: $(VENV)/.installed  ## the long fault tests
	$(BIN)/pytest -m fault

bench: $(VENV)/.installed  ## measure, beside what a user would pick instead
	$(BIN)/python -m benchmarks

lock: $(VENV)/.installed  ## renew constraints.txt
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --strip-extras --all-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --output-file constraints.txt pyproject.toml
	sed -i '/^wattbus @/d' constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info out log state DATA .mypy_cache .ruff_cache .pytest_cache .hypothesis
