# Every target works on a fresh machine with Python >= 3.10, make and git: it makes its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
EXTRA ?= cpu
CONSTRAINTS ?= constraints.txt
DEMO ?= demo
RUN := $(VENV)/bin/python
# Python compiles each module when it is first imported; pip would compile all of them, for a minute.
PIP_FLAGS := --quiet --no-compile

.PHONY: demo test test-processes test-rehearsal test-tpu test-beam mutants bench lint format reference
.DELETE_ON_ERROR:
.SECONDARY:

$(VENV)/.run-installed: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP_FLAGS) --constraint $(CONSTRAINTS) --editable '.[$(EXTRA)]'
	touch $@

$(VENV)/.dev-installed: $(VENV)/.run-installed
	$(VENV)/bin/pip install $(PIP_FLAGS) --constraint $(CONSTRAINTS) --editable '.[$(EXTRA),dev]'
	touch $@

PYTEST := $(RUN) -m pytest -n 3 --dist loadgroup --max-worker-restart 0

test: $(VENV)/.dev-installed
	$(PYTEST) $(patsubst %,--ignore %,$(PROCESSES) $(REHEARSALS)) $(PYTEST_ARGUMENTS)

# Whole command lines as processes of their own, killed, interrupted, cut off from their storage, or only watched.
PROCESSES := $(foreach name,training/test_resume devices/test_workers training/test_outage training/test_cloud_input \
  test_cloud_road studies/test_killed_study preparation/test_killed_preparation test_interrupts test_standard_streams \
  test_cli_processes test_public_names preparation/test_memory,tests/$(name).py)

test-processes: $(VENV)/.dev-installed
	$(PYTEST) $(PROCESSES)

# Whole models through the TPU's compiler, which need the extra `rehearsal` and 5 GB of memory each.
REHEARSALS := tests/preflight/test_rehearsed_models.py

test-rehearsal: $(VENV)/.dev-installed
	$(RUN) -m pytest -n 2 $(REHEARSALS)

# The wheel that TPU users install (TensorFlow 2.20), here on logical CPU devices.
# What follows from the same operations (Muon, averages, spikes, kills) is left to `make test`.
TPU_TESTS := $(foreach name,model/test_gpt model/test_layers model/test_dropout training/test_step training/test_loop,tests/$(name).py) \
  -k "test_gpt or model or layers or dropout or same_parameters or bfloat16 or interrupted_and_resumed"

test-tpu:
	TPU_SKIP_MDS_QUERY=1 $(MAKE) VENV=.venv-tpu EXTRA=tpu PYTEST_ARGUMENTS='$(TPU_TESTS)' test

# Preparations by Apache Beam, which has an environment of its own, without TensorFlow and so without tests/conftest.py.
BEAM := .venv-beam

$(BEAM)/.installed: setup.py constraints-beam.txt
	$(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/pip install $(PIP_FLAGS) --constraint constraints-beam.txt --editable '.[beam,near]' pytest pytest-timeout
	touch $@

test-beam: $(BEAM)/.installed
	$(BEAM)/bin/python -m pytest --noconftest tests/preparation/test_beam.py

# Deliberate mistakes, one after the other in a copy of the code; status 1 if the tests miss one.
# For example `make mutants MUTANTS='--only dropout'`.
mutants: $(VENV)/.dev-installed
	$(RUN) tests/run_mutants.py $(MUTANTS)

# Our step and input beside others'; tables on stderr; it takes long.
# keras-hub brings TensorFlow itself, so none of the extras cpu, gpu and tpu is taken beside it.
BENCH := .venv-bench

$(BENCH)/.installed: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install $(PIP_FLAGS) --constraint $(CONSTRAINTS) --editable '.[bench,rehearsal]'
	touch $@

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks.input
	for dropout in 0.1 0; do for model in gpt2-tiny algpt2-tiny; do \
	  $(BENCH)/bin/python -m benchmarks.step --config_path $$model --batch_size 16 --steps 5 --dropout $$dropout || exit; \
	done; $(BENCH)/bin/python -m benchmarks.step --config_path gpt2 --batch_size 4 --seq_len 256 --dropout $$dropout || exit; done
	$(BENCH)/bin/python -m benchmarks.startup
	$(BENCH)/bin/python -m benchmarks.rehearsal --presets gpt2 algpt2 --kinds v3 v5e --optimizers adamw --no-search \
	  --dropout 0 --peer v3 v5e

lint: $(VENV)/.dev-installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.dev-installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The pages of docs/reference; a test fails where they do not say what the code says.
reference: $(VENV)/.run-installed
	$(RUN) docs/reference/generate.py

# From raw text to perplexity and generated text; an interrupted demo goes on where it was.
DEMO_MODELS := gpt2-tiny algpt2-tiny algpt2-v2-tiny
DEMO_STEPS ?= 800
DEMO_PROMPT ?= Return the number of

demo: $(DEMO_MODELS:%=$(DEMO)/%.heldout.json)
	@echo; echo "The runs side by side; bits per byte of the uniform model for scale:"; echo
	@$(RUN) data_tools/compare_runs.py --run $(DEMO_MODELS:%=$(DEMO)/%) --val_path $(DEMO)/records \
	  --evaluation $(DEMO_MODELS:%=$(DEMO)/%.heldout.json) > $(DEMO)/comparison.json
	@for model in $(DEMO_MODELS); do echo; \
	  $(RUN) generate.py --checkpoint $(DEMO)/$$model --prompt "$(DEMO_PROMPT)" --temperature 0.7 --top_k 40 --max_new_tokens 60; \
	done

$(DEMO)/corpus/corpus.jsonl: | $(VENV)/.run-installed
	rm -rf $(@D)
	$(RUN) data_tools/make_demo_corpus.py --output $(@D)

$(DEMO)/tokenizer/tokenizer.json: $(DEMO)/corpus/corpus.jsonl
	rm -rf $(@D)
	$(RUN) data_tools/train_tokenizer.py --input $< --vocab_size 4096 --output $(@D)

$(DEMO)/records/manifest.json: $(DEMO)/corpus/corpus.jsonl $(DEMO)/tokenizer/tokenizer.json
	rm -rf $(@D)
	$(RUN) data_tools/make_tfrecords.py --input $< --tokenizer $(DEMO)/tokenizer --seq_len 128 --num_shards 4 \
	  --val_fraction 0.01 --output $(@D)

$(DEMO)/%/result.json: $(DEMO)/records/manifest.json
	$(RUN) train_tfrecords.py --train_path $(DEMO)/records --val_path $(DEMO)/records --config_path $* \
	  --model_dir $(@D) --steps $(DEMO_STEPS) --batch_size 16 --learning_rate 3e-3 --warmup_steps 80 \
	  --log_every_steps 50 --eval_every_steps 400 --save_every_steps 200

$(DEMO)/%.heldout.json: $(DEMO)/%/result.json
	$(RUN) eval/wikitext.py --checkpoint $(<D) --data $(DEMO)/corpus/heldout.txt --protocol raw > $@
