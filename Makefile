# The two commands of a fresh clone are `make demo` and `make test`. They need Python 3.11 (or newer) and make.
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"    a CPU-only torch on Linux
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PIP_FLAGS ?=
DEMO_FOLDER ?= cmerge_demo
PYTEST_FLAGS ?= -n 2 --dist worksteal

PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(VENV)/bin/cmerge demo $(DEMO_FOLDER)

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP_INSTALL) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-wheel dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
