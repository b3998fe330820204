# Two commands on a fresh machine:  make run   and   make test
# (make run PORT=9000  has the site there, and the bridge at 9001)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test unit style types docs check-docs bench fuzz chaos soak faults \
	autobahn clean

run: $(VENV)/demo
	$(BIN)/pgbridge demo $(if $(PORT),--port $(PORT))

# Tests that measure nothing run side by side; most of them wait.
test: $(VENV)/dev
	$(BIN)/python -m pytest -n $(or $(JOBS),4) $(ARGS)

unit: $(VENV)/dev
	$(BIN)/python -m pytest tests/unit tests/property $(ARGS)

style: $(VENV)/dev
	$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/codespell

types: $(VENV)/dev
	$(BIN)/mypy

docs: $(VENV)/dev
	$(BIN)/python docs/generate.py

check-docs: $(VENV)/dev
	$(BIN)/python docs/generate.py --check

# Half an hour on a quiet machine; QUICK=1: two minutes, and figures that
# mean little. Writes docs/performance.md.
bench: $(VENV)/bench
	$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick) $(ARGS)

fuzz: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(or $(SECONDS),60)

# Kills and freezes things while everybody works; prints the seed.
chaos: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m chaos --seconds $(or $(SECONDS),600) $(ARGS)

# Ten minutes of churn; what is left behind is a problem.
soak: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m soak --minutes $(or $(MINUTES),10) $(ARGS)

# Every fault that is known, injected and accounted for; writes docs/faults.md.
faults: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

# RFC 6455 as others test it; needs Python 2.7, as that suite does.
autobahn: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m rfc6455 $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/%: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[$*]'
	touch $@
