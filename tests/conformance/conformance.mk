# The arithmetic of attention-flash is tested from inside, too.
$(BUILD)/tests/conformance/test_flash: $(call objects_of,$(wildcard plugins/attention/flash/tile_*.c))

# Says what a plugin is.
PLUGIN_KIND := $(BUILD)/tests/conformance/plugin_kind
$(PLUGIN_KIND): $(BUILD)/obj/tests/conformance/plugin_kind.o $(call archives_to,base model kernels plugin)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON)

# Plugins that break one rule each, and of each kind one that breaks none: tests/integration/test_conformance.sh looks
# whether the suite finds out. mutants.list: "KIND VARIANT CASE", case being the one that must notice; "-": none.
MUTANTS := $(shell awk '!/^#/ && NF { print $$1 "-" $$2 }' tests/conformance/mutants/mutants.list)
MUTANT_FILES := $(MUTANTS:%=$(BUILD)/tests/conformance/mutants/%.so)
mutant_kind = $(firstword $(subst -, ,$(1)))
define mutant_rule
$(BUILD)/tests/conformance/mutants/$(1).so: tests/conformance/mutants/$(call mutant_kind,$(1)).c \
    tests/conformance/mutants/mutant.h plugins/include/bora/plugin.h
	@mkdir -p $$(@D)
	$$(call say,LD)
	$$(Q)$$(CC) $$(BORA_CPPFLAGS) $$(BORA_CFLAGS) $$(CFLAGS) -DMUTANT=$(1:$(call mutant_kind,$(1))-%=%) \
	    -DMUTANT_NAME='"$(1:$(call mutant_kind,$(1))-%=%)"' -shared $$(BORA_LDFLAGS) $$(LDFLAGS) -o $$@ $$< -lm
endef
$(foreach mutant,$(MUTANTS),$(eval $(call mutant_rule,$(mutant))))

run-tests: $(PLUGIN_KIND) $(MUTANT_FILES)
mutants: $(PLUGIN_KIND) $(MUTANT_FILES) $(TESTS_CONFORMANCE) $(BUILD)/tests/unit/plugin/bad/other_major.so

conformance: all $(TESTS_CONFORMANCE) $(PLUGIN_KIND) ## the conformance suite on all plugins, or on PLUGIN=path.so alone
	@BORA_BUILD=$(abspath $(BUILD)) ./tests/conformance/run.sh $(PLUGIN)

.PHONY: conformance mutants
