# make demo: set up and run the main job.  make test: set up and run the tests.  Both work on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many processes run the tests, with a thread each. One that has none left takes half of another's.
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.runtime
	$(BIN)/zoo finetune recipes/resnet50_cls.toml

test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(PYTEST) -m "slow and not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict plugins/zoo-onnx/src
	$(BIN)/mypy --strict plugins/zoo-serve/src
	$(BIN)/lint-imports

# The stamps depend on the pyproject.toml files alone: a second call installs nothing.
$(VENV)/.runtime: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime $(wildcard plugins/*/pyproject.toml)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
		--editable 'plugins/zoo-onnx[test]' --editable 'plugins/zoo-serve[test]'
	touch $@

clean:
	rm -rf $(VENV)
