# Plugins that the tests of swap and fork load: tests/unit/engine/odd/plugin.c once for each variant.

ENGINE_PLUGINS := bare sized halves refuses_pages refuses_layers strange_weights
ENGINE_PLUGIN_FILES := $(ENGINE_PLUGINS:%=$(BUILD)/tests/unit/engine/odd/%.so)

$(ENGINE_PLUGIN_FILES): $(BUILD)/tests/unit/engine/odd/%.so: tests/unit/engine/odd/plugin.c \
    $(wildcard plugins/cache/ring/*.[ch]) $(wildcard plugins/expert/reference/*.c) plugins/expert/gather.h \
    plugins/include/bora/plugin.h
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_CPPFLAGS) $(BORA_CFLAGS) $(CFLAGS) -DPLUGIN_$* -shared $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $< -lm

$(BUILD)/tests/unit/engine/test_swap $(BUILD)/tests/unit/engine/test_fork: | $(ENGINE_PLUGIN_FILES) $(PLUGINS)
