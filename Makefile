# `make run` and `make test` need only Python 3.11 or newer.
# ARGS is passed to the command: make run ARGS='--port 9000', make test ARGS='-k upload'.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for one in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$one -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEPLOYED := build/bench/python
HATCHLING := hatchling>=1.27

.PHONY: run test check mutants bench readme picture requirements scan audit dist clean

run: $(VENV)/.run  ## Serve everything on this machine, with a demo page
	$(BIN)/broker dev $(ARGS)

test: $(VENV)/.test  ## Run every test that needs no cloud
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.check  ## Lint, check types, imports and wording, run the browser modules' unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.words
	@if command -v node >/dev/null; then node --test tests/browser/unit/*.test.mjs; \
	else echo "node is not there: the browser modules' unit tests are left out"; fi

mutants: $(VENV)/.mutants  ## Put faults into the code, one at a time: MODULES=broker/domain/access/quota.py, SINCE=main~5
	$(BIN)/python -m tests.mutants $(MODULES) $(if $(SINCE),--since $(SINCE)) $(ARGS)

bench: $(VENV)/.test $(DEPLOYED)/.made  ## Compare the broker with its peers; ARGS=--quick for a short run
	$(BIN)/python -m tests.bench --python $(abspath $(DEPLOYED))/bin/python $(ARGS)

readme: $(VENV)/.run  ## Redraw the parts of the guides that come from the code
	$(BIN)/python -m tests.readme.drawing

picture: $(VENV)/.test  ## Draw README's picture of the console anew, by Chromium and ffmpeg
	$(BIN)/python -m tests.browser.picture

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements'

requirements: $(VENV)/.check  ## Pin the image's packages, with hashes
	$(COMPILE) pyproject.toml --extra postgres --extra redis --output-file infra/requirements.txt
	$(COMPILE) pyproject.toml --extra postgres --extra redis --extra dev --output-file infra/requirements-dev.txt
	echo '$(HATCHLING)' | $(COMPILE) - --output-file infra/requirements-build.txt

scan: build/checkov/.made  ## Check Terraform and Dockerfile by checkov's rules; a waiver stands in its resource, with the reason
	build/checkov/bin/checkov --directory infra --framework terraform dockerfile --skip-download --compact --quiet

audit: $(VENV)/.check  ## Fail for each pin that has a known advisory, or gets no answer from PyPI
	$(BIN)/uvx pip-audit --strict --disable-pip --require-hashes \
		-r infra/requirements.txt -r infra/requirements-dev.txt -r infra/requirements-build.txt

dist: $(VENV)/.dist  ## Build the wheel, the sdist and the npm tarball of the browser modules into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	@if command -v npm >/dev/null; then npm pack --silent --pack-destination dist ./broker/web; \
	else echo "npm is not there: the tarball of the browser modules is left out"; fi

clean:
	rm -rf $(VENV) var build dist

$(VENV)/.run: EXTRAS = dev
$(VENV)/.test: EXTRAS = test
$(VENV)/.check: EXTRAS = test,lint
$(VENV)/.mutants: EXTRAS = test,mutants
$(VENV)/.run $(VENV)/.test $(VENV)/.check $(VENV)/.mutants: pyproject.toml | $(VENV)/.made
	@echo "Installing what 'make $(@:$(VENV)/.%=%)' needs into $(VENV) …"
	@$(PIP) install --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.dist: | $(VENV)/.made
	@$(PIP) install --quiet '$(HATCHLING)'
	@touch $@

$(DEPLOYED)/.made: pyproject.toml Makefile | $(VENV)/.made  # the packages of a deployment, and of the tutorial
	@$(BIN)/python -m venv --clear $(DEPLOYED)
	@$(DEPLOYED)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[postgres]'
	@touch $@

build/checkov/.made: | $(VENV)/.made  # checkov pins many packages, so it has an environment of its own
	@$(BIN)/python -m venv --clear build/checkov
	@build/checkov/bin/python -m pip install --disable-pip-version-check --quiet 'checkov>=3.2.500,<4'
	@touch $@

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer with its venv module is required (on Debian: apt install python3-venv)." >&2; \
		echo "python3 here is: $$(python3 --version 2>&1). To use another: make run PYTHON=/path/to/python3" >&2; \
		exit 1; fi
	@$(PYTHON) -m venv $(VENV)
	@touch $@
