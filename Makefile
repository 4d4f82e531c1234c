# `make demo` and `make test` do all their own set-up: .venv with every extra they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint sim ladder bench-large clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[demo,dev,offline,validate]"
	touch $@

demo: setup
	$(BIN)/iconicity demo --out iconicity-demo

test: setup
	$(BIN)/python -m pytest

# mypy cannot follow the editable install's import hook, so it is shown the package under its import name.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .typing && ln -sfn .. .typing/iconicity
	$(BIN)/mypy -p iconicity

# Synthetic studies with known truth, about 5 minutes; docs/statistics.md shows its tables.
sim: setup
	$(BIN)/iconicity bench simulate --out simulation

# Controlled truth from references of yours: make ladder REFS=refs/; docs/when-to-believe-vr.md shows what it gave.
REFS ?= refs
ladder: setup
	$(BIN)/iconicity validate ladder --refs $(REFS) --out ladder --encoders offline

# 16 million synthetic patches: about 40 GB of disk and an hour.
bench-large: setup
	$(BIN)/iconicity bench search --synthetic --patches 16000000 --repeat 1

clean:
	rm -rf $(VENV) .typing build dist *.egg-info
