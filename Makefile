# Needs Python 3.11 or later with venv, and make; everything else goes into .venv.
# Paths are relative and nothing is a make target with a path, so folders may have spaces.

# PYTHON=... names the one to use; otherwise the first of these that is new enough.
PYTHON ?=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench check setup setup-demo clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: setup-demo  ## sync example data to a pretended Braze on this machine, and check it
	@.venv/bin/persona-sync demo

test: setup  ## all tests but the slow ones
	@.venv/bin/python -m pytest -q -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-slow: setup  ## the tests that take minutes
	@.venv/bin/python -m pytest -m slow

bench: setup  ## every measure of speed and cost, about ten minutes; ARGS='--only freshness'
	@.venv/bin/python -m benchmarks.run $(ARGS)

check: setup  ## lint, format, types, import directions
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports

setup:  ## make .venv with all that development needs
	@$(call install,dev,.[dev])

setup-demo:
	@[ ! -f .venv/.ready-dev ] || cp .venv/.ready-dev .venv/.ready-demo; $(call install,demo,.)

clean:  ## remove .venv and what tools left; data in .persona-sync stays
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,NAME,WHAT): install once for each content of pyproject.toml and place of this
# folder (a moved .venv does not work). `.unfinished` marks a .venv that was interrupted while
# it was made; it is made again from nothing, as is one whose Python is gone.
install = set -e; \
	ready="$$(pwd -P) $$(cksum < pyproject.toml)"; \
	if [ "$$ready" = "$$(cat .venv/.ready-$(1) 2>/dev/null)" ] && .venv/bin/python -c '' 2>/dev/null; \
	then exit 0; fi; \
	found=; for name in "$${PYTHON:-python3.13}" "$${PYTHON:-python3.12}" "$${PYTHON:-python3.11}" "$${PYTHON:-python3}"; do \
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$name"; break; fi; done; \
	if [ -z "$$found" ]; then \
		echo "$${PYTHON:-python3} is missing or older than Python 3.11. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; fi; \
	if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$$found has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; fi; \
	echo "Setting up .venv, about 30 s the first time ..."; \
	place="$$(cat .venv/.place 2>/dev/null || pwd -P)"; \
	if [ -e .venv/.unfinished ] || [ "$$place" != "$$(pwd -P)" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; \
	then rm -rf .venv; mkdir .venv; touch .venv/.unfinished; "$$found" -m venv .venv; fi; \
	touch .venv/.unfinished; pwd -P > .venv/.place; \
	.venv/bin/python -m pip install --disable-pip-version-check -q -e '$(2)'; \
	echo "$$ready" > .venv/.ready-$(1); \
	rm .venv/.unfinished
