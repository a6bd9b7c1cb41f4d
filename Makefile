# Every target sets up what it needs by itself: `make demo` and `make test` work in a fresh clone.
#
# torch and torchvision stand here and not in constraints.txt: whoever has a GPU names another
# build, and a pin in the constraints would contradict it. Name both in the same call, always:
# apart, pip would replace the one by what the other asks for. Examples:
#   make demo TORCH=torch TORCHVISION=torchvision                        newest, with CUDA on Linux
# For a CPU-only build, 1 GB in all, from PyTorch's own index set PIP_FLAGS to its --index-url
# option (and --extra-index-url for everything else).
# An environment that exists is kept; `make clean` first to build it anew.
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
PYTHON ?= python3
PIP_FLAGS ?=
RUN_DIR ?= runs/demo
FLAGS ?=
PYTEST_FLAGS ?=
N ?= 200

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	"$(TORCH)" "$(TORCHVISION)" -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two pips in one environment would break it
.DELETE_ON_ERROR:
.PHONY: help venv demo test bench chaos preemptions crash-points fuzz host-trials slurm-trials strangers same-bits lint format docs tensorboard clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## a virtual environment in .venv with all that users and developers need

demo: $(VENV)/.installed ## a Sparse Model Soup on handwritten digits: two candidate groups, no download
	@OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node=2 launcher/main.py \
		--config configs/demo.yaml --run-dir "$(RUN_DIR)"

# Two files at a time: most of a test with real processes is their start, which leaves a core idle.
# In the order of the folders, so that those with real processes do not come last, one after another.
test: $(VENV)/.dev ## all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		$(PYTEST_FLAGS)

bench: $(VENV)/.dev ## what is fast and what is not: ratios to what else one could run, under 10 minutes
	@OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_MMAP_THRESHOLD_=33554432 \
		$(BIN)/python benchmarks/all.py $(FLAGS)

# Long trials. They take minutes to an hour, and print what docs/recovery.md reports.
chaos: $(VENV)/.dev ## kill ranks, launchers and everything N times; the soups keep their bits
	@OMP_NUM_THREADS=1 $(BIN)/python tests/chaos.py --kills $(N) $(FLAGS)

preemptions: $(VENV)/.dev ## SIGTERM, N times, with data workers: status 75 within seconds
	@OMP_NUM_THREADS=1 $(BIN)/python tests/preemptions.py --times $(N) $(FLAGS)

crash-points: $(VENV)/.dev ## a whole run dies, or the power fails, at every operation on the disk
	@OMP_NUM_THREADS=1 $(BIN)/python tests/crash_points.py $(FLAGS)

fuzz: $(VENV)/.dev ## ten thousand bad configurations, run folders, weights and shards
	@OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py $(FLAGS)

host-trials: $(VENV)/.dev ## four hosts, of which one is lost, cut off, and comes back; root, iproute2
	@OMP_NUM_THREADS=1 $(BIN)/python tests/host_trials.py $(FLAGS)

slurm-trials: $(VENV)/.dev ## what may happen to jobs on a real Slurm; root, slurmctld, munge
	@OMP_NUM_THREADS=1 $(BIN)/python tests/slurm_trials.py $(FLAGS)

strangers: $(VENV)/.dev ## models of other libraries, and odd ones, from a run to an export
	@OMP_NUM_THREADS=1 $(BIN)/python tests/strangers.py $(FLAGS)

# The other checkout needs no environment of its own: both sides run with this one.
same-bits: $(VENV)/.dev ## eight small runs here and in the checkout OLD=..., every weight compared
	@test -n "$(OLD)" || { echo "name the checkout to compare with: make same-bits OLD=../before" >&2; \
		exit 2; }
	@$(BIN)/python tests/same_bits.py "$(OLD)" . $(FLAGS)

lint: $(VENV)/.dev ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## rewrite the code in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed ## write what is generated in docs: configuration.md, the table of performance.md
	@$(BIN)/python docs/make_configuration.py
	@$(BIN)/python docs/make_performance.py

tensorboard: $(VENV)/.installed ## look at the curves of all runs, also while they run
	@$(BIN)/tensorboard --logdir runs

clean: ## remove the environment, caches and build output; runs/ stays
	@rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# Two stamps: the demo needs no developer's tools. Both are one pip call, so that a fresh clone
# resolves all versions at once.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): this takes a minute or two, once"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): this takes a minute or two, once"
	@$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed
