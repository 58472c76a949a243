# make speedrun   from nothing to a reasoning model, with a prompt to talk to it
# make test       style, types and the test suite
# make check      style and types only
# make docs       regenerate docs/cli.md and docs/recipes-reference.md
#
# TORCH_INDEX=URL takes torch from that index, for instance PyTorch's own index of CPU builds.
# PYTHON=python3.12 chooses the interpreter that .venv is made with.

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN_DIR ?= runs/speedrun

.DELETE_ON_ERROR:
.PHONY: speedrun test check docs web install dev clean

speedrun: install
	$(BIN)/farthing run recipes/speedrun.toml --run-dir $(RUN_DIR)

# As many workers as cores, one thread each: two programs that both want all cores are several times slower.
# tests/conftest.py says which file begins first.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

docs: dev
	$(BIN)/python docs/generate.py

# The chat page, from its sources in web/ to what is committed under farthing/server/static; takes Node.js 20.19 or newer.
web:
	cd web && npm ci && npm run build

install: $(VENV)/.farthing-installed
dev: $(VENV)/.farthing-dev

# A stamp remembers each installation; it is out of date when what it was made from changes.
$(VENV)/.farthing-installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "farthing needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(PIP) install --no-deps --index-url $(TORCH_INDEX) -r constraints.txt
endif
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.farthing-dev: $(VENV)/.farthing-installed
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
