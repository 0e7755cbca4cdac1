# Fuzz targets, one per parser. `make check` replays their corpora with plain mutations, whatever the compiler;
# `make fuzz` lets libFuzzer search for more. Included by the Makefile.

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_SHARED  := $(call objects_of,tests/fuzz/walk.c)
FUZZ_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# What a target links besides its own object.
fuzz_objects  = $(if $(filter frame,$(1)),$(PROTO_A),$(if $(filter config,$(1)),$(call objects_of,daemon/config.c) \
                    $(call archives_to,base model kernels plugin),$(FUZZ_SHARED) $(SUPPORT_A) \
                    $(call archives_to,base model grammar)))

# As part of the tests: with a main of our own.
TESTS_FUZZ := $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/fuzz_%)
TESTS      += $(TESTS_FUZZ)
run-tests tests: $(TESTS_FUZZ)

# With libFuzzer's main; $(FUZZ_CC) only.
define fuzz_rule
$(BUILD)/tests/fuzz/fuzz_$(1): $(call objects_of,tests/fuzz/replay.c tests/fuzz/fuzz_$(1).c) $(call fuzz_objects,$(1))
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$$(CC) $$(BORA_LDFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIBS_DAEMON)

$(BUILD)/fuzz/$(1): $(call objects_of,tests/fuzz/fuzz_$(1).c) $(call fuzz_objects,$(1))
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$$(CC) $$(BORA_LDFLAGS) -fsanitize=fuzzer $$(LDFLAGS) -o $$@ $$^ $$(LIBS_DAEMON)
endef
$(foreach target,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$(target))))

fuzz-build:
	@command -v $(FUZZ_CC) >/dev/null || \
	    { echo 'make fuzz needs clang with libFuzzer: apt-get install clang libclang-rt-dev' >&2; exit 1; }
	@$(MAKE) --no-print-directory BUILD=build-fuzz CC=$(FUZZ_CC) OPT=-O1 \
	    SANITIZE='$(FUZZ_SANITIZE) -fsanitize=fuzzer-no-link' $(FUZZ_TARGETS:%=build-fuzz/fuzz/%)

fuzz: fuzz-build ## search with libFuzzer, FUZZ_SECONDS=60 per target
	@for target in $(FUZZ_TARGETS); do ./tests/fuzz/run.sh $$target $(FUZZ_SECONDS) || exit 1; done

fuzz-seeds: $(BUILD)/tests/fuzz/seeds ## write the seed corpus anew
	$< tests/fuzz/corpus

$(BUILD)/tests/fuzz/seeds: $(call objects_of,tests/fuzz/seeds.c) $(SUPPORT_A) $(PROTO_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_CLIENT)

.PHONY: fuzz fuzz-build fuzz-seeds
