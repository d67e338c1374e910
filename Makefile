# make study   run the default study; STUDY=studies/<name>.yaml runs another
# make sensitivity   every choice that the paper leaves open, set the other way
# make seeds   the embedded study with two more seeds (about twenty minutes), and the spread over the three
# make detectors   eleven detectors on the embedded data: the six that are trained are trained first (long: costs in README)
# make kinds   the boards under bad light and on a small device, surfaces, and heartbeats where ECG5000 is
# make control   the embedded study with a model that shares no drawing code with it, three seeds, and the choice between the two
# make numbers   every committed number made again from the committed csv files; ARGS=--write writes the pages' tables
# make validation   the products on which nand_plus was chosen, and the values that were considered
# make test    run the tests, in two processes (ARGS=... goes to pytest); make lint checks style, layers of imports, types and security
# make test-browser   the tests in a real browser alone; says what to install if there is no Chromium
# make fuzz   some thousand hostile inputs of every kind (the tests try some hundred); the counts go into figures/fuzz.csv
# make kills   runs killed at random moments, finished, and compared with undisturbed ones: figures/kills.csv
# make model   train the embedded model's heads anew, and compare them with those in the package
# make lab     open the notebooks in JupyterLab
# make docs    the reference of all functions, from their docstrings: site/index.html
# make clean   remove intermediate results (keeps images, weights, figures/ and the environment)
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
SHELL := $(shell command -v bash || echo /bin/sh) # another than make's own: GNU make 3.81, as on macOS, looks for commands in the PATH below
STUDY ?= studies/mini.yaml
BIN := .venv/bin
NAME = $(basename $(notdir $(STUDY)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # stages, notebooks and tests are processes of their own: each would compile the package anew

.PHONY: fuzz kills study sensitivity seeds detectors kinds control numbers validation model test test-browser lint lab docs clean

study: .venv/installed
	nand study run $(STUDY)

sensitivity: .venv/installed
	nand use $(STUDY)
	nand repro studies/on_demand/dvc.yaml:sensitivity_notebook@$(NAME)

validation: .venv/installed
	nand use studies/validation.yaml
	nand repro ablation@validation
	nand selection validation

seeds: .venv/installed
	nand use studies/mini.yaml && nand use studies/mini_seed1.yaml && nand use studies/mini_seed2.yaml
	nand repro ablation@mini ablation@mini_seed1 ablation@mini_seed2
	nand seeds mini mini_seed1 mini_seed2
	nand repro --single-item --force plus_notebook@mini

detectors: .venv/installed
	nand use studies/mini.yaml
	nand repro images@mini
	nand use studies/mini_detectors.yaml
	nand repro report@mini_detectors studies/on_demand/dvc.yaml:one_example@mini_detectors
	nand benchmark mini_detectors --detectors
	nand notebook which mini_detectors

kinds: .venv/installed
	nand use studies/light.yaml && nand use studies/device.yaml
	nand repro studies/on_demand/dvc.yaml:robustness_notebook@light protocol@device studies/on_demand/dvc.yaml:parts_notebook
	nand benchmark device --edge
	nand notebook edge device
	nand report parts
	@if test -f data/ecg5000/ecg5000.npz; then nand repro studies/on_demand/dvc.yaml:heartbeat_notebook && nand report heartbeat; \
	  else echo "data/ecg5000/ecg5000.npz is not there (data/README.md): no heartbeats"; fi

control: .venv/installed
	for name in mini_disjoint mini_disjoint1 mini_disjoint2 validation validation_disjoint pcb pcb_disjoint; do nand use studies/$$name.yaml; done
	nand repro $(patsubst %,studies/on_demand/dvc.yaml:heads@%,disjoint disjoint1 disjoint2)
	nand repro ablation@mini_disjoint ablation@mini_disjoint1 ablation@mini_disjoint2
	nand seeds mini_disjoint mini_disjoint1 mini_disjoint2
	nand repro protocol@validation protocol@validation_disjoint protocol@pcb protocol@pcb_disjoint

numbers: .venv/installed
	nand numbers $(ARGS)

model: .venv/installed
	nand repro studies/on_demand/dvc.yaml:heads@mini
	nand model compare data/models/mini/heads.safetensors

test: .venv/installed
	python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

fuzz: .venv/installed
	NAND_FUZZ=2000 python -m pytest -W ignore tests/test_hostile_input.py

kills: .venv/installed
	python tests/kill_harness.py

test-browser: .venv/installed
	@for name in $$CHROMIUM chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	  echo "No Chromium here. Debian, Ubuntu: 'sudo apt-get install chromium'; elsewhere install Chrome or Chromium, or set"; \
	  echo "CHROMIUM=/path/to/it."; exit 1
	python -m pytest tests/test_browser.py $(ARGS)

lint: .venv/installed
	ruff check . && ruff format --check .
	lint-imports --no-cache
	mypy nandlib
	bandit --quiet --configfile pyproject.toml --recursive nandlib

lab: .venv/installed
	jupyter lab notebooks

docs: .venv/installed
	rm -rf site
	python -m nandlib.show.reference site
	@echo "Open site/index.html"

clean:
	rm -rf site data/auxiliary figures/*/report.html .dvc/cache .dvc/tmp
	rm -rf data/*/similarities data/*/maps data/*/maps.safetensors data/*/fitting.json data/*/scores.parquet data/*/manifest.csv data/*/manifest_notes.txt

.venv/installed: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/it")'
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv || true
	@if test -x $(BIN)/uv; then $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
	  --editable '.[test]'; else $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'; fi
	@touch $@
