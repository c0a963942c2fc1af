# Every verb sets itself up: a machine with Python 3.11 to 3.13, pip and make needs nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_RUN := runs/demo

.PHONY: demo test test-fast lint types docs bench format lock clean

demo: $(STAMP)  ## suggest, search and predict on the bundled table, about 2 minutes
	rm -rf $(DEMO_RUN)
	$(BIN)/smarttune suggest examples/data/wine.csv --target quality --problem regression
	$(BIN)/smarttune search examples/data/wine.csv --target quality --problem regression --time 90s --run $(DEMO_RUN)
	$(BIN)/smarttune predict $(DEMO_RUN) examples/data/wine.csv -o $(DEMO_RUN)/predictions.csv
	@echo "Open $(DEMO_RUN)/report.html in a browser."

test: $(STAMP)  ## all tests, real trainings included
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(STAMP)  ## without the tests that train
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(STAMP)  ## style, and every rule file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/smarttune rules check rules

types: $(STAMP)  ## strict types
	$(BIN)/mypy

docs: $(STAMP)  ## rule pages, index and command reference
	$(BIN)/python docs/build.py

bench: $(STAMP)  ## ratios against KerasTuner, about 20 minutes
	$(BIN)/python benchmarks/suggest_time.py
	$(BIN)/python benchmarks/real.py --only adult,california,wine --systems smarttune,kerastuner_hyperband

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)  ## renew the versions that everyone tests with
	$(BIN)/uv pip compile pyproject.toml --extra tensorflow-cpu --extra dev --universal \
	  --python-version 3.11 --no-emit-index-url --no-annotate --no-header -q --upgrade -o requirements.lock

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache

# uv lives inside the environment: it installs five times as fast as pip, and nothing outside is touched.
$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	# Compiled now: where Python may not write bytecode, every process of the tests would compile
	# the backend anew, 15 seconds each.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $(STAMP)
