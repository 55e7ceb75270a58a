# make demo: trains a VAE on the embedded faces, evaluates it, says where the pictures and numbers lie.
# make test: runs the tests, make test-slow the slow ones, make test-all both.   All create .venv first if it is not there.
# make references: trains all models and compares their final numbers with stored ones, for changes of the structure.
# make results: trains all models with three seeds, evaluates, publishes and compares them; stopped, it goes on (EXPERIMENT=compare_full for GPUs).
.PHONY: demo test test-slow test-all lint bench references results clean
PYTHON ?= python3
MAX_IMAGES ?= 40_000
EXPERIMENT ?= compare
PY := .venv/bin/python
INSTALL := .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

demo: .venv/ready
	$(PY) -m zoo.train max_images=$(MAX_IMAGES)

test: .venv/ready-dev
	$(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal

test-slow: .venv/ready-dev
	$(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal -m slow

test-all: .venv/ready-dev
	$(PY) -m pytest -n auto --maxprocesses=4 --dist=worksteal -m "slow or not slow"

references: .venv/ready-dev
	$(PY) -m tests.references

lint: .venv/ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

bench: .venv/ready
	$(PY) -m zoo.bench

results: .venv/ready
	$(PY) -m zoo.results make $(EXPERIMENT)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/ready-dev: .venv/ready
	$(INSTALL) '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
