# `make check` is what every commit passes: format, lint, types, fast tests, in under two minutes on two cores.
PYTHON ?= python

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy moe_mheight cli
	$(PYTHON) -m pytest -m "not slow"

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# the pages, into site/: they open from there, without a server or a network
docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

test:
	$(PYTHON) -m pytest

.PHONY: check docs format test
