# Everything that a fresh machine needs to run, test and change Tidegate: `make run`, `make test`, `make check`.
#
# A machine needs git, make and Python >= 3.11 (Debian 12: nothing else). Each target makes the environment in .venv
# first, from requirements.lock with checked hashes; when it is up to date already, that costs nothing.

# The interpreter that the environment is made from.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The installer; pinned, for it is the one thing that the lock file cannot pin.
UV_VERSION := 0.13.9
# More options for the gateway: make run ARGS="--address 127.0.0.1:9000 --data DIR"
ARGS ?=
# More options for pytest: make test TESTS="tests/unit -k lifecycle"
TESTS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEER := .envs/peer
UV := $(BIN)/uv
# Trust what the system trusts, as pip does: behind a company's own authority nothing could be fetched otherwise.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := 1
endif
# For what Debian has to bring. Root in a container has no sudo and needs none.
APT := DEBIAN_FRONTEND=noninteractive $(if $(filter 0,$(shell id -u)),,sudo )apt-get

.DEFAULT_GOAL := help
.PHONY: help env run test check format docs lock bench clean

help:
	@echo "make run     start the gateway here (ARGS=\"--address 127.0.0.1:9000\" passes options on)"
	@echo "make test    run the tests (TESTS=\"tests/unit -k name\" runs some of them)"
	@echo "make check   what has to hold before a commit: style, types, layers, generated pages"
	@echo "make format  bring the code into the common form"
	@echo "make docs    write the generated pages anew"
	@echo "make bench   measure, beside dask-gateway"
	@echo "make lock    resolve requirements.lock anew"
	@echo "make clean   remove the environments"

env: $(INSTALLED)

# A virtual environment without pip is what a failed start leaves behind on a Debian without python3-venv.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "cannot go on: Python >= 3.11 is needed, $(PYTHON) is older; name one with make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { $(APT) update && $(APT) install -y --no-install-recommends python3-venv; }
	$(PYTHON) -m venv --clear $(VENV)

$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

run: env
	@exec $(BIN)/tidegate serve $(ARGS)

check: env
	$(BIN)/ruff check src tests docs benchmarks
	$(BIN)/ruff format --check src tests docs benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

# The console and the dashboards are tested in Debian's Chromium, which needs a font to draw with; what drives it needs
# libatomic.
test: env
	@{ command -v chromium && /sbin/ldconfig -p | grep -F libatomic.so.1; } >/dev/null \
	  || { $(APT) update && $(APT) install -y --no-install-recommends chromium fonts-dejavu-core libatomic1; }
	$(BIN)/python -m pytest -n 2 $(TESTS)

format: env
	$(BIN)/ruff check --fix src tests docs benchmarks
	$(BIN)/ruff format src tests docs benchmarks

docs: env
	$(BIN)/python docs/generate.py

# The peer lives in an environment of its own, with the same Dask.
$(PEER)/.installed: requirements.lock | $(INSTALLED)
	$(UV) venv --quiet --clear --python $(BIN)/python $(PEER)
	$(UV) pip install --quiet --python $(PEER)/bin/python --constraint requirements.lock \
	  dask-gateway==2026.3.0 "dask-gateway-server[local]==2026.3.0" distributed bokeh psutil
	@touch $@

bench: env $(PEER)/.installed
	$(BIN)/python benchmarks/run.py $(ARGS)

lock: $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip compile pyproject.toml --extra server --extra jupyter --extra tour --group dev --upgrade \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock

clean:
	rm -rf $(VENV) $(PEER)
