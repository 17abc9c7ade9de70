# Two commands for a fresh machine: `make demo` and `make test`. Both make what they need.
PYTHON ?= python3
VENV ?= .venv
# The OpenCV to test on, as a pip requirement; .ci/run runs the suite on both majors.
OPENCV ?= opencv-contrib-python-headless>=5,<6
# What the tests need: `test`, or `test-runtime` for those that depend on the OpenCV major.
EXTRA ?= test
# Arguments for pytest, as PYTEST="-m runtime".
PYTEST ?=

BIN = $(VENV)/bin

# A module for `make mutants`, as MODULE=spherecv/metrics.py; without it all that tests/mutants.toml names.
MODULE ?=
# Mutants of each module, drawn at random; all of them where it is empty.
SAMPLE ?= 25

# Pythons for `make pythons`, names or paths; those that do not run here are left out.
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: demo test check docs pythons mutants clean

demo: $(VENV)/.demo-installed
	$(BIN)/spherecv demo

test: $(VENV)/.$(EXTRA)-installed
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

check: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet --site-dir build/site

pythons:
	for python in $(PYTHONS); do if version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null); then \
	    $(MAKE) PYTHON=$$python VENV=.venv-$$version EXTRA=test-runtime PYTEST='-m runtime' test || exit 1; \
	else echo "$$python is not installed"; fi; done

mutants: $(VENV)/.$(EXTRA)-installed
	$(BIN)/python tests/mutants.py $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE))

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%-installed: setup.cfg setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[$*]' '$(OPENCV)'
	touch $@
