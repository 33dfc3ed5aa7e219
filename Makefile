# Two commands do everything: `make book` and `make test`. The rest is for those who work on the study.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help book test release readme lint lock clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

# `python -m study repro` and `times` do the same as the two modules here, which start without torch and its seconds.
book: $(READY) ## environment, published results, pipeline, site in book/_build/html
	@start=$$(date +%s) && dvc pull --quiet --allow-missing && python -m study.pipeline && python -m study.times $$start
	@echo "open book/_build/html/index.html"

test: $(READY) ## unit tests, planted truths, a toy run of the whole pipeline, the site in a browser
	pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations 15

release: $(READY) ## site, data, PDF, citation, manifest and checksums of this version in release/<version>
	python -m study release

readme: book ## renew the scorecard's head and the figure in README.md from the latest run
	python -m study claims --readme
	cp book/_static/figures/case_studies/removal_curve.svg book/_static/front.svg

lint: $(READY) ## style
	ruff check .
	ruff format --check .

lock: $(READY) ## resolve the dependencies of pyproject.toml anew into requirements.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --upgrade --quiet --output-file requirements.lock

clean: ## everything that can be made again, but not trained models
	rm -rf $(VENV) book/_build book/chapters book/records book/_static/figures .preview

# The environment is exactly requirements.lock; it is made anew when that file changes. uv, which is in it, installs the rest
# in seconds; where uv cannot reach the registry, pip does it in minutes.
$(READY): requirements.lock pyproject.toml
	rm -rf $(VENV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' \
	  || { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@start=$$(date +%s); $(PYTHON) -m venv $(VENV) \
	  && sed -n '/^uv==/,/^[^u ]/{/^uv==/p;/^ /p}' requirements.lock > $(VENV)/uv.txt \
	  && python -m pip install --quiet --require-hashes -r $(VENV)/uv.txt \
	  && { uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements.lock \
	       || python -m pip install --quiet --require-hashes -r requirements.lock; } \
	  && python -m pip install --quiet --no-deps --no-build-isolation --editable . \
	  && echo "environment: $$(($$(date +%s) - start)) s"
	touch $(READY)
