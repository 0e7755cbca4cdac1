# Running the tests: included by the Makefile.

run-tests: all $(TESTS)
	@BORA_BUILD=$(abspath $(BUILD)) ./tests/run.sh $(TESTS) $(TESTS_SHELL)

tests: $(TESTS)

# One test by name: make test-gguf runs every test binary called test_gguf.
test-%: all
	@$(MAKE) --no-print-directory $(filter %/test_$(subst -,_,$*),$(TESTS))
	@BORA_BUILD=$(abspath $(BUILD)) ./tests/run.sh $(filter %/test_$(subst -,_,$*),$(TESTS))

.PHONY: run-tests tests
