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
PLOTS := .envs/plots
HUB := .envs/hub
IDENTITY := .envs/identity
PLATFORM := .envs/platform
UV := $(BIN)/uv
# Trust what the system trusts, as pip does: behind a company's own authority uv and npm could fetch nothing otherwise.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := 1
export NODE_EXTRA_CA_CERTS ?= /etc/ssl/certs/ca-certificates.crt
endif
# For what Debian has to bring. Root in a container has no sudo and needs none.
APT := DEBIAN_FRONTEND=noninteractive $(if $(filter 0,$(shell id -u)),,sudo )apt-get

.DEFAULT_GOAL := help
.PHONY: help env run platform test test-compat test-chaos test-identity test-postgres test-platform fuzz check format docs lock bench chaos clean

help:
	@echo "make run     start the gateway here (ARGS=\"--address 127.0.0.1:9000\" passes options on)"
	@echo "make platform   start a JupyterHub with the gateway here, for two users (ARGS=\"--port 8011\" passes options on)"
	@echo "make test    run the tests (TESTS=\"tests/unit -k name\" runs some of them)"
	@echo "make test-compat   run those with other versions of Python and Dask"
	@echo "make test-chaos   kill each kind of process once, and run those with full disks, locks, and clocks that are set"
	@echo "make test-identity   run those with a real JupyterHub, OpenID provider, Kerberos realm, and two users of this machine"
	@echo "make test-postgres   run those of the store on a real PostgreSQL, and a gateway with it"
	@echo "make test-platform   run those of the platform: two people log in and compute"
	@echo "make fuzz    throw 20,000 odd requests at a gateway, as everybody (ARGS=\"--seed 7\" repeats a run)"
	@echo "make check   what has to hold before a commit: style, types, layers, generated pages"
	@echo "make format  bring the code into the common form"
	@echo "make docs    write the generated pages anew"
	@echo "make chaos   kill every process at random moments, 200 rounds (ARGS=\"--rounds 20 --seed 7\")"
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
	$(BIN)/ruff check src tests docs benchmarks deploy
	$(BIN)/ruff format --check src tests docs benchmarks deploy
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m benchmarks.page --check

# The console and the dashboards are tested in Debian's Chromium, which needs a font to draw with; what drives it needs
# libatomic. Half of the time is waiting, so there are twice as many processes as the least machine has cores; each gets a
# part of the list, and who is done takes from another's.
test: env
	@{ command -v chromium && /sbin/ldconfig -p | grep -F libatomic.so.1; } >/dev/null 2>&1 \
	  || { $(APT) update && $(APT) install -y --no-install-recommends chromium fonts-dejavu-core libatomic1; }
	$(BIN)/python -m pytest -n 4 --dist worksteal $(TESTS)

# The agent beside the newest Dask and the oldest that it promises, in an environment that the tests make; the client in
# every Python that pyenv has.
test-compat: env
	$(BIN)/python -m pytest -n 4 --dist worksteal tests/compat $(TESTS)

# Faults to whole gateways. Clocks are set by libfaketime, for the gateway's processes alone.
test-chaos: env
	@ls /usr/lib/*/faketime >/dev/null 2>&1 || { $(APT) update && $(APT) install -y --no-install-recommends libfaketime; }
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/chaos $(TESTS)

# A JupyterHub, in an environment of its own, with its proxy, and an OpenID provider; what is in the two files is all
# that there is in it.
$(HUB)/.installed: tests/identity/hub.lock tests/identity/package-lock.json | $(INSTALLED)
	@command -v npm >/dev/null || { $(APT) update && $(APT) install -y --no-install-recommends npm; }
	$(UV) venv --quiet --clear --python $(BIN)/python $(HUB)
	$(UV) pip sync --quiet --python $(HUB)/bin/python --require-hashes tests/identity/hub.lock
	cp tests/identity/package.json tests/identity/package-lock.json $(HUB)/
	npm ci --prefix $(HUB) --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

# What the notebook servers of the platform run: JupyterLab with both clients, and the same Dask as the gateway's.
$(PLATFORM)/.installed: deploy/jupyterhub/notebook.lock pyproject.toml | $(INSTALLED)
	$(UV) venv --quiet --clear --python $(BIN)/python $(PLATFORM)
	$(UV) pip sync --quiet --compile-bytecode --python $(PLATFORM)/bin/python --require-hashes deploy/jupyterhub/notebook.lock
	$(UV) pip install --quiet --python $(PLATFORM)/bin/python --no-deps --editable .
	@touch $@

platform: env $(HUB)/.installed $(PLATFORM)/.installed
	@exec $(BIN)/python deploy/jupyterhub/demo/start.py $(ARGS)

test-platform: env $(HUB)/.installed $(PLATFORM)/.installed
	$(BIN)/python -m pytest tests/platform $(TESTS)

# The gateway with the Kerberos packages, and the official client with its own; both are compiled here.
$(IDENTITY)/.installed: requirements.lock pyproject.toml tests/identity/kerberos.lock | $(INSTALLED)
	@{ command -v gcc && command -v krb5-config && test -e /usr/include/gssapi/gssapi_ext.h && $(BIN)/python -c \
	  'import os.path, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; } \
	  >/dev/null || { $(APT) update && $(APT) install -y --no-install-recommends gcc libc6-dev python3-dev libkrb5-dev; }
	$(UV) venv --quiet --clear --python $(BIN)/python $(IDENTITY)
	$(UV) pip sync --quiet --compile-bytecode --python $(IDENTITY)/bin/python --require-hashes \
	  requirements.lock tests/identity/kerberos.lock
	$(UV) pip install --quiet --python $(IDENTITY)/bin/python --no-deps --editable .
	@touch $@

# Hub and realm take seconds to start, so each file is of one process, which starts what the file needs.
test-identity: env $(HUB)/.installed $(IDENTITY)/.installed
	@{ command -v chromium && test -x /usr/sbin/krb5kdc && command -v kinit && /sbin/ldconfig -p | grep -F libatomic.so.1; } \
	  >/dev/null || { $(APT) update && $(APT) install -y --no-install-recommends \
	  chromium fonts-dejavu-core libatomic1 krb5-kdc krb5-admin-server krb5-user; }
	$(IDENTITY)/bin/python -m pytest -n 2 --dist loadfile tests/identity $(TESTS)

# A server is started for the tests, by an account that is not root's; the one that Debian's package starts is not used.
test-postgres: env
	@test -x "$$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -1)" \
	  || { $(APT) update && $(APT) install -y --no-install-recommends postgresql; }
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/postgres $(TESTS)

# Requests made from the API's own description, and long runs of the tests that make up their examples. Some minutes.
fuzz: env
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=long --timeout 900 tests/security/test_framing.py \
	  tests/security/test_answers.py tests/security/test_bodies.py tests/unit/proxy/test_hello.py
	$(BIN)/python -m tests.fuzz.run $(ARGS)

format: env
	$(BIN)/ruff check --fix src tests docs benchmarks deploy
	$(BIN)/ruff format src tests docs benchmarks deploy

docs: env
	$(BIN)/python docs/generate.py

chaos: env
	$(BIN)/python -m tests.chaos.run $(ARGS)

# The peer lives in an environment of its own, with the same Dask.
$(PEER)/.installed: requirements.lock | $(INSTALLED)
	$(UV) venv --quiet --clear --python $(BIN)/python $(PEER)
	$(UV) pip install --quiet --python $(PEER)/bin/python --constraint requirements.lock \
	  dask-gateway==2026.3.0 "dask-gateway-server[local]==2026.3.0" distributed bokeh psutil
	@touch $@

# What draws the plots of the benchmark, apart from everything that is measured.
$(PLOTS)/.installed: requirements.lock | $(INSTALLED)
	$(UV) venv --quiet --clear --python $(BIN)/python $(PLOTS)
	$(UV) pip install --quiet --python $(PLOTS)/bin/python --constraint requirements.lock matplotlib==3.11.2
	@touch $@

# All of it takes 25 minutes; make bench ARGS="--only lifecycle --rounds 3" measures a part.
bench: env $(PEER)/.installed $(PLOTS)/.installed
	$(BIN)/python -m benchmarks $(ARGS)
	$(BIN)/python -m benchmarks.page
	$(PLOTS)/bin/python -m benchmarks.plots

lock: $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip compile pyproject.toml --extra server --extra postgres --extra jupyter --extra tour --group dev --upgrade \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	$(UV) pip compile pyproject.toml deploy/jupyterhub/notebook.in --extra jupyter --extra tour \
	  --constraint requirements.lock --upgrade \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o deploy/jupyterhub/notebook.lock

clean:
	rm -rf $(VENV) $(PEER) $(PLOTS) $(HUB) $(IDENTITY) $(PLATFORM)
