# make demo: trains a VAE on the embedded faces, evaluates it, says where the pictures and numbers lie.
# make test: runs all tests.          Both create .venv first if it is not there.
.PHONY: demo test test-slow lint bench clean
PYTHON ?= python3
PY := .venv/bin/python

demo: .venv/ready
	$(PY) -m zoo.train budget=$${BUDGET:-40_000}

test: .venv/ready
	$(PY) -m pytest

test-slow: .venv/ready
	$(PY) -m pytest -m slow

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: .venv/ready
	$(PY) -m zoo.bench

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch .venv/ready

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
