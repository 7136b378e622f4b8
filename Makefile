# `make demo` and `make test` work from a fresh clone; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= auto
# One thread a worker: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: install demo test test-fast soak lint clean

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
	$(PYTEST) -m 'not soak'

test-fast: install  # the inner loop: no pipelines, nothing that takes more than a second or two
	$(PYTEST) -m 'not soak and not slow' tests/unit

soak: install
	$(BIN)/python -m pytest -m soak --timeout 7200

clean:
	rm -rf .venv runs build *.egg-info
