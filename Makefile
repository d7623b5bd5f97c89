# The same lines on every machine; CI runs `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
MODEL ?=
FLAGS ?=
FILES ?=
CHOSEN := $(if $(MODEL),--model $(MODEL)) $(FLAGS)
# A process for each core up to four. The journeys come by themselves: a browser beside other work is a slow one.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
JOURNEYS := tests/pages tests/streamlit_pages
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Tests start many programs: without it each would compile the package again, and each process of pytest all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-streamlit test browser test-slow test-oldest check mutants fuzz stress long-life audit bench bench-speed bench-page bench-live bench-gpu bench-llamacpp bench-training bench-forgetting screenshots space clean

demo: $(VENV)/.demo  ## install what the page needs and open it: make demo MODEL=minicpm-v-2.6 FLAGS="--dtype int4"
	$(RUN) web_demo.py --open $(CHOSEN)

demo-streamlit: $(VENV)/.demo  ## the same with the Streamlit page
	$(RUN) web_demo_streamlit.py --open $(CHOSEN)

test: $(VENV)/.dev  ## all checks and tests; needs a Chromium and finds or installs one
	$(MAKE) --no-print-directory -j2 check browser
	$(RUN) -m pytest $(PARALLEL) $(JOURNEYS:%=--ignore=%) $(FLAGS)
	$(RUN) -m pytest $(PARALLEL) $(JOURNEYS) $(FLAGS)

browser: $(VENV)/.dev
	$(RUN) -m tests.browser

test-slow: $(VENV)/.dev  ## the journeys through both pages with slow browsers on a busy machine: finds races
	OMNILMM_TESTS_SLOW=1 $(RUN) -m pytest $(PARALLEL) $(JOURNEYS) --timeout 2400 $(FLAGS)

test-oldest: $(VENV)/.dev  ## the same tests with the oldest versions of the libraries, in a folder of their own
	$(RUN) -m tests.oldest > $(VENV)/oldest.txt
	$(RUN) -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/oldest.txt -r requirements-dev.txt
	cp -r $(VENV)/data $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pytest $(PARALLEL) $(JOURNEYS:%=--ignore=%) $(FLAGS)
	$(VENV)/oldest/bin/python -m pytest $(PARALLEL) $(JOURNEYS) $(FLAGS)

.PHONY: test-litellm
test-litellm: $(VENV)/.dev  ## LiteLLM's proxy before two llama.cpp servers; it needs other versions of libraries
	$(RUN) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/python -m pip install --quiet --disable-pip-version-check "litellm[proxy]==1.108.7"
	$(RUN) -m pytest tests/engine/remote/test_litellm.py

check: $(VENV)/.dev  ## lint, format, types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

mutants: $(VENV)/.dev  ## small faults that no test notices, in the files of a change: make mutants FILES="omnilmm/archive.py"
	$(RUN) -m tests.mutants $(FILES) $(FLAGS)

fuzz: $(VENV)/.dev  ## odd picture files: what each costs, through every door, and ten minutes of new ones
	$(RUN) -m tests.images.fuzz --minutes 10 $(FLAGS)
	$(RUN) -m tests.images.fuzz_doors
	-$(PIP) atheris
	$(RUN) -m tests.images.coverage_fuzz --minutes 10

long-life: $(VENV)/.dev  ## 2000 turns in one process, with switches, pictures and Stops: nothing may grow
	$(RUN) -m tests.long_life $(FLAGS)

stress: $(VENV)/.dev  ## 32 people on each page for ten minutes, in order and unruly: nothing of one reaches another
	$(RUN) -m tests.stress gradio $(FLAGS)
	$(RUN) -m tests.stress streamlit $(FLAGS)
	$(RUN) -m tests.stress gradio --unruly $(FLAGS)
	$(RUN) -m tests.stress streamlit --unruly $(FLAGS)

audit: $(VENV)/.audit  ## known holes in the versions of constraints.txt, and that all are pinned
	$(RUN) -m tests.audit

bench: $(VENV)/.demo  ## what it costs on this machine
	$(RUN) -m benchmarks

bench-speed: $(VENV)/.dev  ## how fast it is, as ratios against the published way and against the machine's limits
	$(RUN) -m benchmarks.speed $(FLAGS)

bench-page: $(VENV)/.dev  ## how soon both pages answer, in a real browser
	$(RUN) -m benchmarks.page

bench-live: $(VENV)/.dev  ## how soon the live view answers, part by part
	$(RUN) -m benchmarks.live $(FLAGS)

bench-llamacpp: $(VENV)/.dev  ## llama.cpp beside transformers, and our way to it beside its bare server
	$(RUN) -m benchmarks.llamacpp $(FLAGS)

bench-gpu: $(VENV)/.dev  ## every architecture at full size with random weights; needs a CUDA GPU
	$(RUN) -m benchmarks.full_size

bench-training: $(VENV)/.dev  ## 20 steps of LoRA and QLoRA at full size with random weights; needs a CUDA GPU
	$(RUN) -m benchmarks.full_size_training

bench-forgetting: $(VENV)/.dev  ## what a new task costs the built-in model's old abilities
	$(RUN) -m benchmarks.forgetting

screenshots: $(VENV)/.dev  ## the pictures of the README, anew
	$(RUN) -m tests.pages.screenshots

space: $(VENV)/.demo  ## a folder that is a Hugging Face Space, see docs/spaces.md
	rm -rf build/space
	$(RUN) -m deploy.space build/space $(FLAGS)

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "OmniLMM Chat needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "Creating $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { echo "Creating $(VENV) failed. On Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.demo: requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing what the pages need (a few minutes the first time) …"
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing what the pages and the tests need (a few minutes the first time) …"
	$(RUN) -m tests.installing -c constraints.txt -r requirements.txt -r requirements-dev.txt
	@# Only a tokenizer file in it is wanted: installed, it would hold numpy back.
	$(RUN) -m pip download --quiet --disable-pip-version-check --no-deps -d $(VENV)/data mistral_common==1.13.1
	@touch $(VENV)/.demo $@

$(VENV)/.audit: | $(VENV)/bin/python  # apart from what the programs run with
	$(RUN) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@
