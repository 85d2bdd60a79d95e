# Two commands for a fresh machine with Python 3.11 and git: `make demo` and `make test`.
PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
# Two test files at once; tests of one file share what they set up, so they stay together.
AT_ONCE ?= -n 2 --dist loadfile

.PHONY: demo test slow oracle lint bench clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,chronos,importance,wandb,mlflow,postgres]'
	touch $@

demo: $(VENV)/.ready      ## set up, then run the selector grid on the embedded sample market
	$(BIN)/alphasweep run selector_grid
	$(BIN)/alphasweep leaderboard selector_grid --top 3
	$(BIN)/alphasweep verify selector_grid

test: $(VENV)/.ready      ## set up, then run the tests
	$(BIN)/python -m pytest -m "not slow" $(AT_ONCE)

slow: $(VENV)/.ready      ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(AT_ONCE)

oracle: $(VENV)/.ready    ## compare with backtesting.py and vectorbt (installs them)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pytest tests/oracles

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready     ## measure the selector beside its peers (installs the bench extra)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/selector.py --peers

clean:
	rm -rf $(VENV) build *.egg-info
