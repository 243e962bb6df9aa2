# `make demo` runs a real experiment; `make test` passes the tests. Both set up what they need.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test bench clean

demo: $(VENV)/ready
	@$(VENV)/bin/chaoskit demo

# Most tests wait for something most of the time: twice as many workers as processors.
test: $(VENV)/ready-test
	@$(VENV)/bin/pytest -n $$((2 * $$(nproc))) --dist worksteal $(ARGS)

bench: $(VENV)/ready-test
	@$(VENV)/bin/pip install --quiet -e '.[bench]'
	@for bench in bench/*.py; do $(VENV)/bin/python $$bench || exit 1; done

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
