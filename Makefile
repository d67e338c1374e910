# make study   run the default study (about eighteen minutes on two cores); STUDY=studies/<name>.yaml runs another
# make sensitivity   every choice that the paper leaves open, set the other way
# make seeds   the embedded study with two more seeds (about twenty minutes), and the spread over the three
# make validation   the products on which nand_plus was chosen, and the values that were considered
# make test    run the tests (ARGS=... goes to pytest); make lint checks style
# make model   train the embedded model only (about five minutes)
# make lab     open the notebooks in JupyterLab
# make clean   remove intermediate results (keeps images, weights, figures/ and the environment)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STUDY ?= studies/mini.yaml
BIN := .venv/bin
NAME = $(basename $(notdir $(STUDY)))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study sensitivity seeds validation model test lint lab clean

study: .venv/installed
	nand use $(STUDY)
	dvc repro report@$(NAME)
	@echo "Tables and figures: figures/$(NAME)/ (start with report.html)"

sensitivity: .venv/installed
	nand use $(STUDY)
	dvc repro sensitivity_notebook@$(NAME)

validation: .venv/installed
	nand use studies/validation.yaml
	dvc repro ablation@validation
	nand selection validation

seeds: .venv/installed
	nand use studies/mini.yaml && nand use studies/mini_seed1.yaml && nand use studies/mini_seed2.yaml
	dvc repro ablation@mini ablation@mini_seed1 ablation@mini_seed2
	nand seeds mini mini_seed1 mini_seed2
	dvc repro --single-item --force plus_notebook@mini

model: .venv/installed
	dvc repro heads@mini

test: .venv/installed
	python -m pytest $(ARGS)

lint: .venv/installed
	ruff check . && ruff format --check .

lab: .venv/installed
	jupyter lab notebooks

clean:
	rm -rf data/auxiliary figures/*/report.html .dvc/cache .dvc/tmp
	rm -rf data/*/similarities data/*/maps data/*/scores.parquet data/*/manifest.csv data/*/manifest_notes.txt

.venv/installed: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@
