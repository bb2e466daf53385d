# `make run` and `make test` work on a fresh machine: they create .venv and install what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

MINUTES ?= 25

.PHONY: run test test-launchers acceptance acceptance-long lint docs release-check bench bench-gan bench-vae bench-flows bench-peak bench-scale bench-start gpu clean

run: $(VENV)/.installed
	$(BIN)/genbench experiment=vae-mnist5k

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not acceptance and not launchers"

test-launchers: $(VENV)/.all
	$(BIN)/python -m pytest -m launchers

acceptance: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "acceptance and not long"

acceptance-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m long -s

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -E -W --keep-going -q -c docs/site -d build/doctrees -b html . build/docs
	$(BIN)/python docs/check_links.py build/docs

release-check: $(VENV)/.release
	rm -rf build/release
	$(BIN)/python -m build --outdir build/release
	$(BIN)/python -m twine check --strict build/release/*
	$(BIN)/python packaging/try_wheel.py build/release/*.whl

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

bench-start: $(VENV)/.installed
	$(BIN)/python -m benchmarks.start

gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu --minutes $(MINUTES)

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "genbench needs Python 3.10 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/.all $(VENV)/.docs $(VENV)/.release: $(VENV)/.%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev,$*]"
	touch $@

clean:
	rm -rf $(VENV) build
