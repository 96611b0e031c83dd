# make run   set up and do the main job: Bach's chorales, from the corpus to a new one you can hear
# make test  set up and run the tests
# make figures  run every recipe, one after the other, and write the table of their figures: hours
# make quick set up and run those that take no server, browser or training: under a minute
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Python keeps what it compiled: every process of the tests would compile the sources again
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

.PHONY: run test quick machines lint docs pictures screenshots bench figures torture ui clean

run: $(READY)
	$(BIN)/reprise run chorales

test: $(READY)
	$(PYTEST)

quick: $(READY)
	$(PYTEST) --quick

machines: $(READY)
	tests/machines.sh

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m properdocs build --strict

docs: $(READY)
	$(BIN)/python -m docs.tools.reference
	$(BIN)/python -m properdocs build --strict

pictures: $(READY)
	$(BIN)/python -m docs.tools.vanishing docs/images
	$(BIN)/python -m docs.tools.diagrams docs/images

screenshots: $(READY)
	$(BIN)/python -m docs.tools.screenshots chorales

torture: $(READY)
	$(BIN)/python -m benchmarks.torture

bench: $(READY)
	$(BIN)/python -m benchmarks.kernels

figures: $(READY)
	$(BIN)/python -m benchmarks.figures

ui: $(READY)
	$(BIN)/reprise ui

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

# made again when what it is made from changes; setuptools comes from the lock, so nothing is built in isolation
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reprise needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@
