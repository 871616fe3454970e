# Everything a stranger needs: `make demo`, `make serve`, `make test`, `make lint`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= embedded
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: help install install-dev demo serve test mutants lint format lock clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed-$(EXTRAS) ## Make .venv and install the locked dependencies
install-dev: $(VENV)/.installed-dev ## The same, and what tests and lint need

# The client is a package of its own. It brings the command `lama-refinery`, to which the others add what they can do.
$(VENV)/.installed-%: pyproject.toml client/pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[$*]' --editable ./client
	touch $@

demo: install ## Fill two holes of a 4K photo through the service and show the result
	$(PY) -m demo

serve: install ## The whole service on this machine, until Ctrl-C
	exec $(PY) -m api --embedded --with-parent

# What checks the web page: TypeScript's compiler, a browser's driver, accessibility rules.
BROWSER := tests/browser
# The clients for Node.js of the services whose interfaces this one answers too.
DOORS := tests/api/doors/node
%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed: install nodejs and npm" >&2; exit 1; }
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

test: install-dev $(BROWSER)/node_modules/.package-lock.json $(DOORS)/node_modules/.package-lock.json ## All tests
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

mutants: $(VENV)/.installed-mutants ## Small bugs, one at a time: do the tests notice? Half an hour (docs/mutants.md)
	$(PY) -m tests.mutants --out docs/mutants.json

lint: install-dev $(BROWSER)/node_modules/.package-lock.json ## Format, rules, types, and who may import whom
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	@lua=$$(command -v luac5.1 || command -v luac || command -v luajit); case "$$lua" in \
		*luajit) for file in jobs/store/lua/*.lua; do "$$lua" -bl $$file >/dev/null || exit 1; done ;; \
		?*) "$$lua" -p jobs/store/lua/*.lua ;; \
		*) echo "no Lua compiler (luac or luajit): the syntax of jobs/store/lua is not checked" ;; esac
	$(BROWSER)/node_modules/.bin/tsc --project $(BROWSER)/tsconfig.json

format: install-dev ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: install-dev ## Write constraints.txt from what is installed
	$(PY) -m pip freeze --exclude-editable --exclude pip --exclude setuptools --exclude uv \
		| sed -E 's/\+cpu$$//' | grep -v ' @ ' > constraints.txt

clean: ## Remove what make made
	rm -rf $(VENV) .cache demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache \
		$(BROWSER)/node_modules $(BROWSER)/shots $(DOORS)/node_modules
