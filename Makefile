# `make demo` and `make test` work from a fresh clone; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test soak lint clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(BIN)/ragdro train configs/tiny.yaml name=demo --overwrite

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m 'not soak'

soak: install
	$(BIN)/python -m pytest -m soak --timeout 7200

clean:
	rm -rf .venv runs build *.egg-info
