# No environment need be active: .venv is used where it is there.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

# what every commit passes: format, lint, types, fast tests
check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy moe_mheight cli
	$(PYTHON) -m pytest

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# the pages, into site/: they open from there, without a server or a network
docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

# all tests, slow ones too (extra test-all)
test:
	$(PYTHON) -m pytest -m "slow or not slow"

.PHONY: check docs format test
