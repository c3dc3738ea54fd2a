# make demo               a real search on a tiny model, from an empty machine to the leaderboard
# make demo MODEL=smollm2 the same on SmolLM2-135M
# make demo SERVE=1       stays up with the page open
# make test               the tests (at most a quarter of an hour on two cores)
# make test-searches     whole searches beyond the first: the papers' twins, families, several processes, kills
# make test-real          a search on SmolLM2-135M, judged; make test-browser: the page in Chromium;
#                        make test-cluster: searches on several Ray nodes
# make check              format, lint, types, import contracts
# make bench              benchmarks, as ratios
# make bench-service      latency of lists and searches over 1,000 searches, then 2,000, on both databases
# make search-bench       how many training tokens each way of searching needs, on tables of retrained students (minutes)
# make fidelity           the papers' findings on a model of a million parameters (40 minutes on two cores);
#                        make fidelity-smollm2: some of them on SmolLM2-135M

PYTHON ?= python3
VENV ?= .venv
MODEL ?= tiny
SERVE ?=
BIN := $(VENV)/bin

.PHONY: demo test test-real test-browser test-cluster test-searches check bench bench-service search-bench search-real fidelity fidelity-smollm2 clean
.DEFAULT_GOAL := test

demo: $(VENV)/worker
	$(BIN)/nas run deploy/examples/$(MODEL).yaml $(if $(SERVE),--serve)

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not real and not browser and not cluster and not searches"

test-real: $(VENV)/dev
	$(BIN)/python -m pytest -m real -s

test-searches: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m searches

test-cluster: $(VENV)/dev
	$(BIN)/python -m pytest -m cluster

test-browser: $(VENV)/dev
	$(BIN)/python -m pytest -m browser

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev
	for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

bench-service: $(VENV)/dev
	$(BIN)/python -m tests.benchmarks.load_service

search-bench: $(VENV)/dev
	$(BIN)/python -m tests.search_bench

search-real: $(VENV)/dev
	$(BIN)/python -m tests.search_bench.real

fidelity: $(VENV)/dev
	$(BIN)/python -m tests.fidelity tiny

fidelity-smollm2: $(VENV)/dev
	$(BIN)/python -m tests.fidelity smollm2

# The stamps say what an environment holds, so that a second make installs nothing.
$(VENV)/worker: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing minitron-nas[worker] into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[worker]'
	@touch $@

$(VENV)/dev: $(VENV)/worker
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[worker,dev]'
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
