# Needs Python >= 3.10 and make. Everything is installed into .venv in this folder, or into one beside
# it: .venv-peers, .venv-wheel, .venv-next.
#   make train ARGS="memory=lstm seed=1"        make setup PYTHON=python3.12

PYTHON ?= python3
ARGS ?=
VENV := .venv
PEERS := .venv-peers
WHEEL := .venv-wheel
NEXT := .venv-next
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint
INPUTS := pyproject.toml constraints.txt hatch_build.py
DISTRIBUTION = dist/neurl-*.whl

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train test test-learning test-faults test-grid test-slow test-planted test-soak test-ray test-next wheel test-wheel guard lint types format docs pictures peers bench learning solve clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(VENV)/.installed-dev ## Create .venv and install everything, tools included
	@echo "Ready: make train, make test, or . $(BIN)/activate"

train: $(VENV)/.installed ## Train: PPO on CartPole-v1, or what ARGS says
	$(BIN)/python train.py $(ARGS)

test: $(VENV)/.installed-dev ## Run the fast tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

test-learning: $(VENV)/.installed-dev ## Train to published scores and check them (minutes)
	$(BIN)/python -m pytest -m learning $(ARGS)

test-faults: $(VENV)/.installed-dev ## Kill runs, break environments and disks, and compare (minutes; FAULT_RUNS=50 for more)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m faults $(ARGS)

test-grid: $(VENV)/.installed-dev ## Train every network with every memory, agent and action space (minutes)
	$(BIN)/python -m pytest --numprocesses 2 -m grid $(ARGS)

test-slow: $(VENV)/.installed-dev ## Compile networks in every way, train the slower probes (minutes)
	$(BIN)/python -m pytest -m slow $(ARGS)

test-planted: $(VENV)/.installed-dev ## Plant faults, one by one, and see that tests notice (ARGS="--jobs 2 dqn")
	$(BIN)/python -m tests.planted.run $(ARGS)

test-soak: $(VENV)/.installed-dev ## Train every agent, memory and value head for long and watch the memory (half an hour)
	$(BIN)/python -m pytest --numprocesses 2 -m soak $(ARGS)

test-ray: $(VENV)/.installed-ray ## Run studies on a Ray cluster of three nodes (installs Ray, 400 MB)
	$(BIN)/python -m pytest -m slow tests/analysis/studies/test_ray.py $(ARGS)

test-next: $(NEXT)/.installed-dev ## Run the tests of configuration with the next Hydra, a release candidate
	$(NEXT)/bin/python -m pytest tests/conf $(ARGS)
	@rm -rf $(NEXT)/run
	$(NEXT)/bin/python train.py total_env_steps=2000 evaluation.interval=0 run_dir=$(NEXT)/run
	$(NEXT)/bin/python evaluate.py run=$(NEXT)/run evaluation.episodes=2

wheel: $(BIN)/python ## Build dist/neurl-*.whl, for `pip install`
	@rm -rf $(DISTRIBUTION)
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls $(DISTRIBUTION)

test-wheel: wheel $(WHEEL)/bin/python ## Install the wheel apart, and use it as a stranger does (minutes)
	@$(WHEEL)/bin/python $(INSTALL) constraints.txt --force-reinstall --no-deps $(DISTRIBUTION)
	@$(WHEEL)/bin/python $(INSTALL) constraints.txt "$$(echo $(DISTRIBUTION))[onnx]"
	$(WHEEL)/bin/python tests/installed/trial.py $(WHEEL)/bin/neurl

guard: $(VENV)/.installed-dev ## Compare the weights of short trainings, bit for bit: ARGS="--against COMMIT"
	$(BIN)/python -m tests.guard $(ARGS)

lint: $(VENV)/.installed-dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## Build the documentation as a site: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)
	@echo "site/index.html is ready; with search: $(BIN)/python -m http.server --directory site"

pictures: $(VENV)/.installed ## Draw the tutorial's figures and take its screenshots, after its commands (needs chromium)
	$(BIN)/python -m docs.images.tutorial
	$(BIN)/python -m docs.images.tensorboard

peers: $(PEERS)/.installed ## Install stable-baselines3, skrl and SheepRL apart, to measure beside

bench: $(VENV)/.installed-learning $(PEERS)/.installed ## Measure throughput beside the peers
	$(BIN)/python -m benchmarks.throughput --peers-python $(PEERS)/bin/python $(ARGS)

learning: $(VENV)/.installed-learning ## Train rows of the published scores: ARGS="L1 L14", or "--list"
	$(BIN)/python -m benchmarks.learning $(ARGS)

solve: $(VENV)/.installed $(PEERS)/.installed ## Measure time to solve beside the peers
	$(BIN)/python -m benchmarks.solve --peers-python $(PEERS)/bin/python $(ARGS)

clean: ## Remove the environments and caches; runs/ stays
	rm -rf $(VENV) $(PEERS) $(WHEEL) $(NEXT) .pytest_cache .mypy_cache .ruff_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environments: installed again only when what they are made from changes

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "NeuRL needs Python >= 3.10; '$(PYTHON)' is not that. Name another: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $* || \
		{ rm -rf $*; echo "'$(PYTHON) -m venv' failed (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 2; }

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two ..."
	@$(BIN)/python $(INSTALL) constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two ..."
	@$(BIN)/python $(INSTALL) constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two ..."
	@$(BIN)/python $(INSTALL) constraints.txt --editable '.[docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-ray: $(VENV)/.installed-dev
	@$(BIN)/python $(INSTALL) constraints.txt --editable '.[ray]'
	@touch $@

$(VENV)/.installed-learning: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV): a minute or two ..."
	@$(BIN)/python $(INSTALL) constraints.txt --editable '.[atari,box2d,minatar,minigrid,popgym]'
	@touch $(VENV)/.installed $@

$(NEXT)/.installed-dev: $(INPUTS) | $(NEXT)/bin/python
	@echo "Installing into $(NEXT): a minute or two ..."
	@grep -vE '^(hydra-core|omegaconf)==' constraints.txt > $(NEXT)/constraints.txt
	@$(NEXT)/bin/python $(INSTALL) $(NEXT)/constraints.txt --editable '.[dev]'
	@$(NEXT)/bin/python $(INSTALL) $(NEXT)/constraints.txt --upgrade --pre 'hydra-core>=1.4.0rc1' omegaconf
	@touch $@

$(PEERS)/.installed: constraints-peers.txt | $(PEERS)/bin/python
	@echo "Installing into $(PEERS): a minute or two ..."
	@$(PEERS)/bin/python $(INSTALL) constraints-peers.txt stable-baselines3 sb3-contrib 'skrl[torch]' sheeprl ale-py opencv-python
	@touch $@
