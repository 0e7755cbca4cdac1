# The arithmetic of attention-flash is tested from inside, too.
$(BUILD)/tests/conformance/test_flash: $(call objects_of,$(wildcard plugins/attention/flash/tile_*.c))
