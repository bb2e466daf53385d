# `make run` and `make test` work on a fresh machine: they create .venv and install what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

MINUTES ?= 25

.PHONY: run test test-launchers acceptance lint bench bench-gan bench-vae bench-flows bench-peak bench-scale gpu clean

run: $(VENV)/.installed
	$(BIN)/genbench experiment=vae-mnist5k

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not acceptance and not launchers"

test-launchers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev,all]"
	$(BIN)/python -m pytest -m launchers

acceptance: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "acceptance and not long"

acceptance-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m long -s

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.vae

bench-gan: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gan

bench-vae: $(VENV)/.installed
	$(BIN)/python -m benchmarks.likelihoods

bench-flows: $(VENV)/.installed
	$(BIN)/python -m benchmarks.flows

bench-peak: $(VENV)/.installed
	$(BIN)/python -m benchmarks.peak

bench-scale: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scale

gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu --minutes $(MINUTES)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
