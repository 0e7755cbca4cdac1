# Benchmarks: each prints ratios measured within one run. None of them asserts a time; bench_floors judges shares of the
# machine's limits.

BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/bench_*.c))

# Of borad's client and the engine at once.
BENCH_DAEMON := $(BUILD)/tests/bench/bench_daemon
$(BENCH_DAEMON): $(BUILD)/obj/tests/bench/bench_daemon.o $(SUPPORT_A) $(LIBBORA_A) \
                 $(call archives_to,base model kernels plugin engine)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL) $(LIBS_CLIENT)

$(filter-out $(BENCH_DAEMON),$(BENCHES)): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(call archives_to,base model kernels plugin engine)
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

.PHONY: bench bench-floors make-model
