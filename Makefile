# `make demo` and `make test` each set up all they need, in a virtual environment in this checkout.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# CUDA comes in only where an NVIDIA driver answers.
REQUIREMENTS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup demo world test test-all test-newer test-gpu lint docs fuzz faults attack soak bench-feed clean

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt requirements-cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r $(REQUIREMENTS) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) install -e '.[test]'
	touch $@

# Who is on film, by the model in the package; then a small GaitBase trained with MCL, and whom it recognises.
demo: $(VENV)/installed
	$(BIN)/mcl-jax demo

# `make world WORLD_PEOPLE=20 WORLD_OTHERS=6 WORLD_STEPS=101` tries all of it in minutes, for no model worth having.
WORLD_PEOPLE := 2000
WORLD_OTHERS := 100
WORLD_STEPS := 2600
WORLD := --views 090 --conditions nm-01,nm-02,nm-03,nm-04,nm-05,nm-06,bg-01,cl-01 --frames 16 \
	--frames-per-second 8 --scene 1 --everyday 1 --wardrobe 0.7 --camera 2.5 --identity-spread 1.2 --noise 0.7

# The model in the package: walkers as the world shows them, half an hour or more of training, and the file that mcl_jax.load() reads.
world: $(VENV)/installed
	$(BIN)/python scripts/make_walkers.py --out world/walkers $(WORLD) \
		--subjects $$(($(WORLD_PEOPLE) + $(WORLD_OTHERS))) --test-subjects $(WORLD_OTHERS)
	$(BIN)/python -m mcl_jax.main --config configs/walkers_world.py --workdir world/run \
		--config.data.root=world/walkers --config.data.partition=world/walkers_partition.json \
		--config.train.steps=$(WORLD_STEPS) --config.schedule.steps=$(WORLD_STEPS)
	$(BIN)/python scripts/make_walkers.py --out world/troubled --subjects $(WORLD_OTHERS) \
		--test-subjects $(WORLD_OTHERS) --seed 1 $(WORLD) --scene-share 1
	$(BIN)/python scripts/make_walkers.py --out world/clean --subjects $(WORLD_OTHERS) \
		--test-subjects $(WORLD_OTHERS) --seed 2 $(WORLD) --scene-share 0
	$(BIN)/python scripts/pack_model.py world/run --whitening world/troubled --thresholds world/clean --out world/pocket.npz
	$(BIN)/python benchmarks/real_people.py world/pocket.npz --synthetic 30

# All tests but the slow ones; `make test-all` has these too.
test: lint
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: test
	$(BIN)/python -m pytest -n 2 -m slow
	COMPILE_AS_USERS=1 $(BIN)/python -m pytest -n 2 tests/test_embed.py tests/models/test_layers.py \
		tests/test_main.py::test_train_then_test_from_the_command_line

# The newest JAX needs Python 3.12: a part of the tests with it, where there is such a Python.
NEWER_PYTHON := $(shell for python in python3.12 python3.13 \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[23].*/bin/python3; do \
	"$$python" -c 'import ensurepip' 2>/dev/null && echo "$$python" && break; done)
NEWER_VENV := .venv-newer
NEWER_TESTS := tests/models tests/losses tests/devices tests/workdir/test_checkpoints.py tests/test_embed.py \
	tests/test_compilations.py tests/test_transfers.py tests/training tests/weights/test_packed.py tests/ops

ifeq ($(NEWER_PYTHON),)
test-newer:
	@echo "SKIPPED: no Python 3.12 or newer here, so nothing was tested with a newer JAX"
else
$(NEWER_VENV)/installed: requirements-cpu.txt pyproject.toml
	$(NEWER_PYTHON) -m venv $(NEWER_VENV)
	$(NEWER_VENV)/bin/python -m pip --disable-pip-version-check --quiet install -e '.[train,test-newer]'
	touch $@

test-newer: $(NEWER_VENV)/installed
	$(NEWER_VENV)/bin/python -c 'import sys, jax; print("Python", sys.version.split()[0], "jax", jax.__version__)'
	$(NEWER_VENV)/bin/python -m pytest -n 2 -m 'not slow' $(NEWER_TESTS)
endif

# Programs of the published recipes, compiled for a GPU that is not there. XLA's compiler for it, three wheels
# of 220 MB, is kept apart, so that nothing else finds it.
GPU_CHECK := .gpu-check

$(GPU_CHECK)/installed: $(VENV)/installed-test
	version=$$($(BIN)/python -c 'import jax; print(jax.__version__)') && $(PIP) install --no-deps --upgrade \
		--target $(GPU_CHECK) jax-cuda12-plugin==$$version jax-cuda12-pjrt==$$version 'nvidia-cuda-nvcc-cu12<13'
	touch $@

test-gpu:
	@if $(MAKE) --no-print-directory $(GPU_CHECK)/installed; then \
		PYTHONPATH=$(GPU_CHECK) $(BIN)/python -m pytest -n 2 tests/gpu_check/test_programs.py; \
	else echo "SKIPPED: XLA's compiler for GPUs cannot be had here, so no program was compiled for one"; fi

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror mcl_jax/ops/cpu/*.cc mcl_jax/ops/cpu/*.h
	$(BIN)/mypy

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) install -e '.[docs]'
	touch $@

# These pages as a site, with the reference of the Python API; a warning, such as a dead link, is an error.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

# Ten minutes of mutated files for the readers of pickles, checkpoints and embeddings; docs/security.md.
fuzz: $(VENV)/installed
	$(PIP) install -e '.[fuzz]'
	for reader in pkl pt npz; do $(BIN)/python scripts/fuzz_readers.py --reader $$reader --seconds 200 || exit 1; done

# Two hundred kills of real runs and every damage to a checkpoint, half an hour or more; docs/reliability.md.
faults: $(VENV)/installed
	$(BIN)/python tests/faults/harness.py kill faults --times 200 --workers 1
	$(BIN)/python tests/faults/harness.py damage faults --times 40

# Twenty thousand steps of a tiny model with saves, tests and restarts, about an hour of CPU time; nothing may grow.
soak: $(VENV)/installed
	$(BIN)/python tests/attack/soak.py soak --steps 20000

# How many CPU cores feed one GPU and eight; docs/performance.md.
bench-feed: $(VENV)/installed
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/feed_gpu.py

# An hour of harmed files, names and command lines for every reader; writes the table of docs/security.md.
# What failed is kept in attack/. `make attack SECONDS=300` is a short one.
SECONDS := 3600
SEED := 0

attack: $(VENV)/installed-test
	$(BIN)/python tests/attack/rounds.py --seconds $(SECONDS) --seed $(SEED) --keep attack --page docs/security.md

clean:
	rm -rf $(VENV) $(NEWER_VENV) $(GPU_CHECK) demo world faults attack site soak
