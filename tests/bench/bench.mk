# Benchmarks: each prints ratios measured within one run. None of them asserts a time.

BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/bench_*.c))

$(BENCHES): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(call archives_to,base model kernels plugin engine)
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

bench: all $(BENCHES) ## build and run the benchmarks (some minutes)
	@for program in $(BENCHES); do echo "== $${program##*/}"; "$$program" || exit 1; done

.PHONY: bench make-model
