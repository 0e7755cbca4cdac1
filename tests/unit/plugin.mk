# Plugins that the loader's test loads: tests/unit/plugin/bad/plugin.c once for each variant.

ODD_PLUGINS := right more_operations no_entry declines declines_silently small_table other_major other_kind \
               no_such_kind bad_name no_name no_version no_table tiny_operations fewer_operations half_an_operation \
               no_operation unresolved
ODD_PLUGIN_FILES := $(ODD_PLUGINS:%=$(BUILD)/tests/unit/plugin/bad/%.so)

$(ODD_PLUGIN_FILES): $(BUILD)/tests/unit/plugin/bad/%.so: tests/unit/plugin/bad/plugin.c plugins/include/bora/plugin.h
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_CPPFLAGS) $(BORA_CFLAGS) $(CFLAGS) -DPLUGIN_$* -shared $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $<

$(BUILD)/tests/unit/plugin/test_loader: | $(ODD_PLUGIN_FILES)
