# Every target makes .venv ready first: nothing has to be installed but Python 3.11 or newer, git and make. For `demo`
# .venv holds what the product needs to run; the other targets add the rest.

.PHONY: help demo test screenshots check bench chaos mutants format constraints public-names reference bootstrap running clean
.DEFAULT_GOAL := help

# What the caller's shell has active must not leak into .venv.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONSTARTUP

PYTHON := .venv/bin/python

help:
	@echo 'make demo    boot fifty nodes on this machine and show their files'
	@echo 'make test    run the tests (ARGS="-k words" to choose)'
	@echo 'make check   lint, format, types, and who may import whom'
	@echo 'make docs    build the pages of docs/ into docs/_build, every warning an error'
	@echo 'make bench   measure, as ratios against a bare server in the same run'
	@echo 'make mutants put deliberate faults in, each of which must turn a test red'
	@echo 'make chaos   the long form of the tests that break things: ten to twenty minutes (ARGS="-k words" to choose)'
	@echo 'make screenshots  make the pictures of the page anew (needs a Chromium)'
	@echo 'make clean   remove .venv and caches'

bootstrap:
	@scripts/bootstrap

running:
	@scripts/bootstrap run

demo: running
	.venv/bin/cfgsync demo --nodes 50

test: bootstrap
	@scripts/engines
	@scripts/test $(ARGS)

check: bootstrap
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# The pages; tests/docs runs every block of them.
docs: bootstrap
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo 'open docs/_build/index.html'

format: bootstrap
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: bootstrap
	$(PYTHON) -m benchmarks $(ARGS)

# Deliberate faults, each of which must turn a test red.
mutants: bootstrap
	$(PYTHON) -m tests.mutants $(ARGS)

# Floods, kills, pauses, bad networks and hostile servers at full size. Each test prints its seed and its figures.
chaos: bootstrap
	CFGSYNC_CHAOS=long $(PYTHON) -m pytest tests/chaos tests/adapter/rollout/test_turns.py tests/end_to_end/test_kill_server.py tests/end_to_end/test_kill_client_while_writing.py tests/end_to_end/test_rollout_and_kill.py -s --timeout 1200 $(ARGS)

# The pins; needs uv. A file without a host in it, which pip and uv both read.
constraints:
	UV_PYTHON_DOWNLOADS=never uv lock --quiet --upgrade
	UV_PYTHON_DOWNLOADS=never uv export --quiet --frozen --all-packages --all-extras --all-groups --no-hashes --no-annotate --no-header --no-emit-workspace >constraints.new
	mv constraints.new constraints.txt

# The parts of docs/reference/ that are read from the program; a test compares them.
reference: bootstrap
	$(PYTHON) docs/generated.py

# The public names as they are now, for the test that compares them.
public-names: bootstrap
	$(PYTHON) scripts/public_names.py >tests/architecture/public_names.new
	mv tests/architecture/public_names.new tests/architecture/public_names.txt

# The pictures of docs/screenshots/, of real servers in a real Chromium.
screenshots: bootstrap
	@scripts/engines
	$(PYTHON) scripts/screenshots.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find packages tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
