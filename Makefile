# Every target is enough on a fresh machine with Python 3.11 or newer: it makes its own .venv first.
PYTHON ?= python3
SUITE  ?= quick
DEVICE ?= auto
JOBS   ?= 2
BIN    := .venv/bin

.PHONY: bench regress microbench test docs check format lint types clean

bench: .venv/ready
	$(BIN)/python -m bench run $(SUITE) --device $(DEVICE) $(ARGS)

# Tests start processes of their own: more jobs than cores gain nothing. JOBS=0 is for a debugger.
test: .venv/ready
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --benchmark-disable $(ARGS)

# --strict counts no warning that --quiet hides
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; with the search: $(BIN)/python -m http.server -d site"

check: format lint types test

regress: .venv/ready
	$(BIN)/python -m bench regress --device $(DEVICE) $(ARGS)

microbench: .venv/ready
	$(BIN)/python -m pytest bench/micro -o python_files='bench_*.py' -o python_functions='bench_*' --benchmark-autosave $(ARGS)

format: .venv/ready
	$(BIN)/ruff format --check .

lint: .venv/ready
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/mypy

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s; set PYTHON=" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
