# The front door: `make demo` and `make test`. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
FUZZ_SECONDS ?= 120
FUZZ_JOBS ?= 1
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --constraint constraints.txt
STAMP  := $(VENV)/.unfloat
SOURCES := $(shell find csrc src CMakeLists.txt pyproject.toml constraints.txt -name '*.so' -prune -o -name '*.pyc' -prune -o -type f -print)

.PHONY: demo test lint format bench mutate fuzz clean

demo: $(STAMP)-demo            ## a real network, real pictures: float beside integer
	$(BIN)/python examples/demo.py --output demo_output

test: $(STAMP)-test            ## every rung of the ladder
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder tests

lint: $(STAMP)-test            ## style, types, import directions, native format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.c' 'csrc/*.h' 'csrc/*.cc' 'tests/native/*' 'benchmarks/*.c' 'benchmarks/*.cc' 'fuzz/*.cc')

format: $(STAMP)-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.c' 'csrc/*.h' 'csrc/*.cc' 'tests/native/*' 'benchmarks/*.c' 'benchmarks/*.cc' 'fuzz/*.cc')

bench: $(STAMP)-demo           ## speed beside other runtimes, one process each, in turns
	$(BIN)/python -m benchmarks.speed

mutate: $(STAMP)-test          ## each named mutation of the arithmetic must turn a test red
	$(BIN)/python benchmarks/mutate.py

fuzz: $(STAMP)-fuzz            ## hostile files and native Programs, for FUZZ_SECONDS, FUZZ_JOBS at a time; needs clang
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

clean:
	rm -rf $(VENV) build demo_output

$(STAMP)-%: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[torch,tflite,$*]'
	touch $@

$(STAMP)-fuzz: $(STAMP)-test   ## the extra "fuzz" by its name, as another editable install would compile again
	$(PIP) 'atheris>=2.3'
	touch $@
