# make demo: set up and run the main job.  make test: set up and run the tests.  Both work on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many processes run the tests, with a thread each. One that has none left takes half of another's.
TEST_PROCESSES ?= 2
PLUGINS := $(patsubst plugins/%/pyproject.toml,plugins/%,$(wildcard plugins/*/pyproject.toml))
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

.PHONY: demo test test-slow lint wheels clean

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
	set -e; for plugin in $(PLUGINS); do $(BIN)/mypy --strict $$plugin/src; done
	$(BIN)/lint-imports

# zoo and every plugin, as what would be published.
wheels: $(VENV)/.dev
	set -e; for project in . $(PLUGINS); do $(BIN)/python -m build --wheel --no-isolation --outdir dist $$project; done

# The stamps depend on the pyproject.toml files alone: a second call installs nothing.
$(VENV)/.runtime: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime $(addsuffix /pyproject.toml,$(PLUGINS))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
		$(foreach plugin,$(PLUGINS),--editable '$(plugin)[test]')
	touch $@

clean:
	rm -rf $(VENV)
