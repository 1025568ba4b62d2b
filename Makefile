# make demo: set up, then the main job; make test: every check and test. Both are quick the second time.
PY := .venv/bin/python
STAMP := .venv/.ready

.PHONY: demo test lint unit docs bench clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml requirements.lock scripts/setup
	./scripts/setup
	@touch $(STAMP)

demo: $(STAMP)
	@./scripts/privileged $(PY) -m holdfast drill restart --sessions 100 --tunnels 4

test: $(STAMP) lint unit

lint: $(STAMP)
	$(PY) -m ruff check src tests
	$(PY) -m ruff format --check src tests
	$(PY) -m mypy
	.venv/bin/lint-imports --cache-dir .import_linter_cache

unit: $(STAMP)
	./scripts/privileged $(PY) -m pytest

docs: $(STAMP)
	$(PY) -m holdfast.lab.gendocs

bench: $(STAMP)
	./scripts/privileged $(PY) -m holdfast.lab.bench

clean:
	rm -rf .venv build dist *.egg-info
