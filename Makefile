# Everything here sets itself up: a virtual environment in .venv, the install, then the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Test processes side by side, of one thread each: more threads than cores slow each other down.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
RUNS ?= 20
CODE := src tests benchmarks examples docs
# The tests whose figures a processor's arithmetic can move.
ARITHMETIC := tests/networks tests/methods tests/model tests/conversion

.PHONY: demo test test-properties test-processors test-slow lint docs build results benchmark clean

demo: $(READY)          ## build a small inspection set, train, evaluate, write demo/report.html
	$(BIN)/blemish demo -o demo

test: $(READY)          ## the fast tests, JOBS at a time
	$(PYTEST) -m "not slow"

test-properties: $(READY) ## the property tests, RUNS times with fresh examples
	@for run in $$(seq $(RUNS)); do \
		echo "run $$run of $(RUNS)"; $(PYTEST) -m "hypothesis and not slow" --hypothesis-seed=random || exit 1; done

test-processors: $(READY) ## the tests of the arithmetic as on lesser processors, where this one has more
	@for features in avx512f:AVX2 avx512_bf16:AVX512_CORE; do \
		if grep -qsw "$${features%:*}" /proc/cpuinfo; then \
			echo "oneDNN as on a processor with $${features#*:}"; \
			ONEDNN_MAX_CPU_ISA=$${features#*:} $(PYTEST) -m "not slow" $(ARITHMETIC) || exit 1; \
		fi; done

test-slow: $(READY)     ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(READY)          ## style, types, and which package may import which
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)          ## the documentation site, into site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

build: $(READY)         ## source distribution and wheel, into dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

results: $(READY)       ## the tables of docs/results.md, from the data beside the checkout; repeats no run it has
	$(BIN)/python benchmarks/panel
	$(BIN)/python benchmarks/panel --tables

benchmark: $(READY)     ## the time of one image in every runtime, beside the plain trunk's
	$(BIN)/python benchmarks/performance.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } \
		|| { echo "No virtual environment can be made; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,serve,parquet,remote,ray,openvino,explain,tensorboard,mlflow,dev,docs]"
	@touch $(READY)

clean:                  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) demo dist site
