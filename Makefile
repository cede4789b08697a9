# PathSearch. `make run` starts a site with a demo archive, `make test` checks everything.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# torch comes before the lock file, in the build that the machine needs: cpu, or cuda (TORCH=cuda).
TORCH ?= cpu
TORCH_VERSION := 2.13.0
VENV_ENCODERS ?= .venv-encoders
TORCH_VERSION_ENCODERS := 2.14.1
TORCHVISION_VERSION := 0.29.1
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# Each worker has a database, a data folder and sites of its own.
TEST_WORKERS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test ldap messages attack audit test-encoders lint browser-deps partners providers vendor lock screenshots clean bench

## Start the site: environment, database, demo archive, web and workers.
run: $(VENV)/.installed
	@exec $(BIN)/python -m pathsearch_site.supervisor

## Everything that CI checks.
test: $(VENV)/.installed-dev browser-deps partners providers lint audit
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --ignore=tests/browser --ignore=tests/attacks
	@# By one worker: these share a site, whose demo slides take all cores to index.
	$(BIN)/python -m pytest tests/browser
	@# By one worker too: one site is attacked by all of it.
	$(BIN)/python -m pytest tests/attacks

## The attack suite alone, with twenty times as many generated requests.
attack: $(VENV)/.installed-dev
	ATTACK_EXAMPLES=40 $(BIN)/python -m pytest tests/attacks

## The encoders that need timm and open_clip, in the environment that has them (5.5 GB).
test-encoders: $(VENV_ENCODERS)/.installed-encoders
	$(VENV_ENCODERS)/bin/python -m pytest tests/retrieval/test_extra_encoders.py \
	  tests/retrieval/test_transformers_encoders.py tests/retrieval/test_model_files.py \
	  tests/retrieval/test_encoders.py

# torchvision belongs to one release of torch, and its ordinary build breaks the CPU torch of
# the default environment: docs/decisions has why this is an environment of its own.
$(VENV_ENCODERS)/.installed-encoders: requirements.lock requirements-dev.lock requirements-encoders.lock
	@$(PYTHON) -m venv $(VENV_ENCODERS)
	@echo "Installing torch and torchvision for timm and open_clip …"
	@$(VENV_ENCODERS)/bin/python -m pip --disable-pip-version-check --quiet install \
	  "torch==$(TORCH_VERSION_ENCODERS)" "torchvision==$(TORCHVISION_VERSION)"
	@$(VENV_ENCODERS)/bin/python -m pip --disable-pip-version-check --quiet install \
	  -r requirements.lock -r requirements-dev.lock -r requirements-encoders.lock
	@# `make run VENV=$(VENV_ENCODERS)` takes it as it is.
	@touch $(VENV_ENCODERS)/.torch-cpu $(VENV_ENCODERS)/.torch-cuda
	@touch $(VENV_ENCODERS)/.installed $(VENV_ENCODERS)/.installed-dev $@

## Known weaknesses of the pinned packages, where the advisory service answers.
audit: $(VENV)/.installed-dev
	$(BIN)/python -m tests.dependency_audit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python manage.py makemigrations --check --dry-run
	PATHSEARCH_DISK_RESERVE_GB=0 DJANGO_SETTINGS_MODULE=pathsearch_site.settings.production $(BIN)/python manage.py check --deploy --fail-level WARNING

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }

# The CPU build is looked for in the configured package index first, then in PyTorch's own,
# so that no CUDA packages are pulled unasked. TORCH=cuda takes the index's ordinary build.
$(VENV)/.torch-$(TORCH): | $(VENV)/bin/python
	@echo "Installing torch $(TORCH_VERSION) ($(TORCH)) …"
ifeq ($(TORCH),cuda)
	@$(PIP) install "torch==$(TORCH_VERSION)"
else
	@$(PIP) install "torch==$(TORCH_VERSION)+cpu" 2>/dev/null \
	  || $(PIP) install --index-url $(TORCH_CPU_INDEX) "torch==$(TORCH_VERSION)+cpu"
endif
	@touch $@

$(VENV)/.installed: requirements.lock $(VENV)/.torch-$(TORCH)
	@echo "Installing PathSearch's pinned requirements …"
	@$(PIP) install -r requirements.lock
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@$(PIP) install -r requirements-dev.lock
	@touch $@

# The browser tests drive Debian's Chromium.
browser-deps:
	@command -v chromium >/dev/null || { \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq chromium >/dev/null; }
	@[ ! -f package-lock.json ] || [ -d node_modules/dicom-microscopy-viewer ] || ! command -v npm >/dev/null || npm ci --silent --no-audit --no-fund

# The tests talk to other vendors' DICOM programs; those that are missing are skipped by name.
PARTNERS := orthanc orthanc-dicomweb orthanc-wsi dcmtk dicom3tools
partners:
	@dpkg -s $(PARTNERS) >/dev/null 2>&1 || { \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq $(PARTNERS) >/dev/null; } \
	  || echo "The DICOM partners cannot be installed here; their tests are skipped."

## Sign-on by an LDAP directory: headers of OpenLDAP from Debian, and what asks it.
LDAP_HEADERS := gcc python3.11-dev libldap2-dev libsasl2-dev
ldap: $(VENV)/.installed-ldap
$(VENV)/.installed-ldap: requirements-ldap.lock $(VENV)/.installed
	@dpkg -s $(LDAP_HEADERS) >/dev/null 2>&1 || { \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq $(LDAP_HEADERS) >/dev/null; }
	@$(PIP) install -r requirements-ldap.lock
	@touch $@

# The tests sign on at a real directory and a real SAML provider; what is missing is skipped by name.
PROVIDERS := slapd simplesamlphp php-cli php-xml
providers:
	@dpkg -s $(PROVIDERS) >/dev/null 2>&1 || { \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends $(PROVIDERS) >/dev/null; } \
	  || echo "slapd and SimpleSAMLphp cannot be installed here; their tests are skipped."
	@$(MAKE) --no-print-directory ldap || echo "python-ldap cannot be built here; its tests are skipped."

## Texts of the pages, read into the catalogues of translations and compiled.
messages: $(VENV)/.installed-dev
	$(BIN)/python -m tests.catalogue

## Front-end packages from npm, copied into static/vendor (the running site needs no Node).
vendor:
	npm ci --no-audit --no-fund
	npm run vendor

## Resolve the newest versions that pyproject.toml allows and pin them.
lock: $(VENV)/.torch-cpu
	$(BIN)/python -m pip install --quiet --upgrade -e '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | grep -vi '^torch==' > requirements.lock

## Pictures of every page, written to screenshots/.
screenshots: $(VENV)/.installed-dev browser-deps
	SCREENSHOTS=screenshots $(BIN)/python -m pytest tests/browser

## The benchmarks that docs/benchmarks.md quotes.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.indexing
	$(BIN)/python -m benchmarks.aggregation
	$(BIN)/python -m benchmarks.query
	$(BIN)/python -m benchmarks.archive_map
	$(BIN)/python -m benchmarks.tiles
	$(BIN)/python -m benchmarks.viewer_frames
	$(BIN)/python -m benchmarks.work_list
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.access_cost
	$(BIN)/python -m benchmarks.dimse
	$(BIN)/python -m benchmarks.dicomweb

clean:
	rm -rf $(VENV) $(VENV_ENCODERS) node_modules .pytest_cache .mypy_cache .ruff_cache
