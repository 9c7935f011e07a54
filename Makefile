# A few verbs. Each one uses the virtual environment in .venv, which the first of them makes.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
HOST ?= 127.0.0.1
PORT ?= 8000
DATA_DIR ?= .lookahead
# Each takes a gigabyte or two.
TEST_PROCESSES ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)

# What a shell happens to have set must not decide whether a build passes.
unexport PYTHONWARNINGS PYTHONPATH PYTHONHOME PYTHONSAFEPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo serve test check bench catalogue setup servers clean
.DEFAULT_GOAL := demo

demo: setup
	$(PY) -m demo

serve: setup
	$(VENV)/bin/lookahead serve --host $(HOST) --port $(PORT) --data-dir $(DATA_DIR)

test: setup servers
	$(PY) -m pytest tests -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

check: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m worker.engine catalogue --check
	$(PY) -m docs.methods --check

bench: setup
	$(PY) -m benchmarks.mask_speed
	$(PY) -m benchmarks.job_latency
	$(PY) -m benchmarks.transfer
	$(PY) -m benchmarks.mnist_lap
	$(PY) -m benchmarks.rescored_mnist
	$(PY) -m benchmarks.operator_coverage
	$(PY) -m benchmarks.step_time
	$(PY) -m benchmarks.round_trip
	$(PY) -m benchmarks.streaming
	$(PY) -m benchmarks.every_part
	$(PY) -m benchmarks.zoo
	$(PY) -m benchmarks.post_training
	$(PY) -m benchmarks.accuracy_floor
	$(PY) -m benchmarks.mnist_methods
	$(PY) -m benchmarks.cifar_methods
	$(PY) -m benchmarks.cifar_methods --network vgg11 --width 0.25
	$(PY) -m benchmarks.shared_models

catalogue: setup
	$(PY) -m worker.engine catalogue
	$(PY) -m docs.methods

setup: $(STAMP)

# torch comes first and by itself: pip then takes the wheel that this machine's configuration offers.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; PYTHON=... names one" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "this Python cannot make virtual environments: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet "torch==2.13.0"
	$(VENV)/bin/pip install --quiet -e ".[dev]"
	@touch $@

servers:
	@.ci/servers

clean:
	rm -rf build dist *.egg-info demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
