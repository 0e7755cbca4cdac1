# Benchmarks: each prints ratios measured within one run. None of them asserts a time.

BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/bench_*.c))

$(BENCHES): $(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(call archives_to,base model kernels plugin engine)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL) $(shell pkg-config --libs openblas)

bench: all $(BENCHES) ## build and run the benchmarks (some minutes)
	@for program in $(BENCHES); do echo "== $${program##*/}"; "$$program" || exit 1; done

.PHONY: bench
