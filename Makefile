PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRINT_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
VERSION := $(shell $(PYTHON) -c '$(PRINT_VERSION)')
INSTALLED := $(VENV)/.installed-$(VERSION)

.PHONY: help run test compat lint format types pytest docs bench picture clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The variable applies the constraints to build requirements, too.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; use make PYTHON=...") if sys.version_info < (3, 11) else None'
	@echo 'creating $(VENV) once, which takes about a minute'
	@test "$$($(BIN)/python -c '$(PRINT_VERSION)' 2>&1)" = '$(VERSION)' || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
		$(BIN)/python -m pip install --quiet --editable '.[experiments,stability,landscape,text,tensorboard,pep,bbob,river,quantum,docs,dev]'
	@touch $@

run: $(INSTALLED)  ## train the quickstart and write its report
	$(BIN)/python -m experiments quickstart

test: lint types pytest  ## run every check

compat:  ## run the tests on the newest Python beside the default, if there is one
	@newest=$$(.ci/newest_python $(VERSION)); \
	if [ -z "$$newest" ]; then echo 'compat: skipped, as there is no other Python 3.11, 3.12 or 3.13'; \
	else $(MAKE) pytest PYTHON="$$newest" VENV=.venv-compat; fi

pytest: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(INSTALLED)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)  ## check types
	$(BIN)/pyrefly check

bench: $(INSTALLED)  ## measure speed and memory, and compare BBOB with COCO
	$(BIN)/python -m experiments.benchmarks.towers
	$(BIN)/python -m experiments.benchmarks.linear_head
	$(BIN)/python -m experiments.benchmarks.low_rank
	$(BIN)/python -m experiments.benchmarks.sharpness
	$(BIN)/python -m experiments.benchmarks.runner
	$(BIN)/python -m experiments.benchmarks.convolution
	$(BIN)/python -m experiments.benchmarks.stability
	$(BIN)/python -m experiments.benchmarks.bbob
	$(BIN)/python -m experiments.benchmarks.landscape
	$(BIN)/python -m experiments.benchmarks.logistic_gradients
	XLA_FLAGS=--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=16384 \
		$(BIN)/python -m experiments.benchmarks.streams
	$(BIN)/python -m experiments.benchmarks.regret
	$(BIN)/python -m experiments.benchmarks.detectors
	XLA_FLAGS=--xla_force_host_platform_device_count=2 \
		$(BIN)/python -m experiments.benchmarks.agents

docs: $(INSTALLED)  ## build the documentation: docs/_build/index.html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build
	@echo 'open docs/_build/index.html'

picture: $(INSTALLED)  ## redraw the figure of the README
	$(BIN)/python -m experiments quickstart --picture docs/quickstart.png

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .venv-compat docs/_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
