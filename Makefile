# make demo: set up, then two kills under traffic; make test: every check and test. Both are quick the second time.
# make test-interop: other people's daemons, where need be in a kernel of their own (no root but for their packages);
# eight minutes. make test-interop-full: everything that we have tried with them, in half an hour.
PY := .venv/bin/python
STAMP := .venv/.ready

.PHONY: demo test soak test-interop test-interop-full lint unit docs bench bench-dataplane compiled clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml requirements.lock scripts/setup
	./scripts/setup

# A restart is timed from exec: byte code must be there, whatever PYTHONDONTWRITEBYTECODE says.
compiled: $(STAMP)
	@./scripts/build-bpf
	@$(PY) -m compileall -q src

demo: compiled
	@./scripts/demo

test: $(STAMP) lint unit

lint: $(STAMP)
	$(PY) -m ruff check src tests
	$(PY) -m ruff format --check src tests
	$(PY) -m mypy
	.venv/bin/lint-imports --cache-dir .import_linter_cache

unit: compiled
	./scripts/privileged $(PY) -m pytest

test-interop: INTEROP := --limit 1500
test-interop-full: INTEROP := --limit 5400 full
test-interop test-interop-full: compiled
	@./scripts/setup-interop
	@./scripts/interop $(INTEROP)

# Thousands of simulated histories, each kind to its end whatever the others found: twenty minutes on a busy core.
# `make soak SEEDS=200 START=5000` for fewer, elsewhere; WALK= leaves out every boundary with every outage, which takes
# as long however many seeds there are.
SEEDS := 1000
START := 0
WALK := --walk
SIM := $(PY) -m holdfast.lab.sim --seeds $(SEEDS) --start $(START)
soak: compiled
	@bad=; for kind in "" --nodes "--nodes --silent" "--peers $(WALK)" "--nodes --peers $(WALK)"; do \
	  echo "python -m holdfast.lab.sim --seeds $(SEEDS) --start $(START) $$kind"; $(SIM) $$kind || bad=1; \
	done; test -z "$$bad"

docs: $(STAMP)
	$(PY) -m holdfast.lab.gendocs

bench: compiled
	./scripts/privileged $(PY) -m holdfast.lab.bench

# Needs root: user namespaces have no bpf(2).
bench-dataplane: compiled
	$(PY) -m holdfast.lab.bench.dataplane

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info src/holdfast/dataplane/ebpf/*.bpf.o* src/holdfast/lab/bench/dataplane/*.bpf.o*
