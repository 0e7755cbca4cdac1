/* The pipeline's books: what is in which account, that all of it comes back, and what happens at the limit. */
#include "pipeline_fixture.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */

#define HEAD_MAX UINT64_C(128) /* bytes that the books have on top of each piece of memory, at most */

/* The embedded model, whose weights are packed, with the default plugins. */
static void open_tiny(fixture *f, uint32_t n_stages)
{
    fixture_open(f, "dense-perlayer");
    bora_model_free(f->model);
    bora_error err = {""};
    if (bora_model_open(BORA_SOURCE_DIR "/models/bora-tiny/bora-tiny-q8_0.gguf", NULL, &f->log, &f->model, &err))
        fail_msg("%s", err.message);
    f->vocab_size = bora_model_hparams(f->model)->vocab_size;
    f->options.n_stages = n_stages;
    f->options.n_threads = 2;
    f->options.max_logits = 32;
    f->options.plugins[BORA_PLUGIN_ATTENTION] = "flash";
    f->options.plugins[BORA_PLUGIN_EXPERT] = "quant";
}

/* In place of the wide ledger. */
static void set_limit(fixture *f, uint64_t limit)
{
    bora_ledger_free(f->ledger);
    assert_int_equal(bora_ledger_new(limit, &f->ledger, NULL), BORA_OK);
    f->options.ledger = f->ledger;
}

static bora_ledger_state books_of(const fixture *f)
{
    bora_ledger_state books;
    bora_ledger_get(f->ledger, &books);
    return books;
}

static void feed(fixture *f, bora_sequence *sequence, uint64_t end)
{
    int32_t tokens[16];
    float *logits = bora_calloc(16 * (size_t)f->vocab_size, sizeof *logits);
    assert_non_null(logits);
    for (uint64_t at = bora_sequence_n_cached(sequence); at < end;) {
        uint32_t n = end - at < 16 ? (uint32_t)(end - at) : 16;
        for (uint32_t i = 0; i < n; i++)
            tokens[i] = fixture_token(0, at + i);
        bora_error err = {""};
        if (fixture_try(f, sequence, tokens, n, NULL, logits, &err) != BORA_OK)
            fail_msg("%s", err.message);
        at += n;
    }
    bora_free(logits);
}

static void test_accounts(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 2; n_stages++) {
        fixture f;
        open_tiny(&f, n_stages);
        fixture_start(&f);
        const bora_ledger_state built = books_of(&f);
        const bora_hparams *hp = bora_model_hparams(f.model);
        assert_int_equal(built.accounts[BORA_LEDGER_WEIGHTS], bora_pipeline_packed_size(f.pipeline));
        assert_true(built.accounts[BORA_LEDGER_WEIGHTS] > bora_model_n_active(f.model));
        /* At least the rows of residuals and of what q, k and v are; and what travels between stages. */
        uint64_t least = (uint64_t)n_stages * f.options.max_tokens * hp->dim * sizeof(float) * 4;
        if (n_stages > 1)
            least += (n_stages + 1) * (uint64_t)f.options.max_logits * f.vocab_size * sizeof(float);
        assert_in_range(built.accounts[BORA_LEDGER_ACTIVATIONS], least, least * 10 + (UINT64_C(1) << 23));
        assert_true(built.accounts[BORA_LEDGER_PLUGINS] > f.options.max_tokens * (uint64_t)hp->hidden_dim);
        const uint64_t kv_built = built.accounts[BORA_LEDGER_KV];
        assert_true(kv_built < 65536); /* instances without sequences */
        assert_int_equal(built.accounts[BORA_LEDGER_REQUESTS] + built.accounts[BORA_LEDGER_STORE] +
                             built.accounts[BORA_LEDGER_PROGRAM],
                         0);

        /* Caches: what the sequences say of themselves, and no more than heads on top. */
        bora_sequence *a = fixture_sequence(&f), *b = fixture_sequence(&f);
        feed(&f, a, 100);
        feed(&f, b, 40);
        const uint64_t bytes = bora_sequence_bytes(a) + bora_sequence_bytes(b);
        bora_ledger_state full = books_of(&f);
        assert_in_range(full.accounts[BORA_LEDGER_KV], kv_built + bytes,
                        kv_built + bytes + 2 * HEAD_MAX * (hp->n_layers * 4 + 8));
        full.accounts[BORA_LEDGER_KV] = kv_built; /* the only account that has moved */
        assert_memory_equal(full.accounts, built.accounts, sizeof full.accounts);
        bora_sequence_close(a);
        bora_sequence_close(b);
        assert_int_equal(books_of(&f).used, built.used);
        assert_int_equal(books_of(&f).peak, full.peak);
        fixture_close(&f); /* which asks that nothing is left */
    }
}

static void test_packed_size(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, 1);
    bora_error err = {""};
    /* Experts that another plugin reads from the file take nothing; nor does anything where nothing is packed. */
    f.options.plugins[BORA_PLUGIN_EXPERT] = "reference";
    fixture_start(&f);
    const uint64_t own = bora_pipeline_packed_size(f.pipeline);
    assert_int_equal(books_of(&f).accounts[BORA_LEDGER_WEIGHTS], own);
    assert_true(own > 0);
    bora_pipeline_free(f.pipeline);
    f.options.plugins[BORA_PLUGIN_EXPERT] = "quant";
    assert_int_equal(bora_pipeline_open(f.model, &f.options, &f.log, &f.pipeline, &err), BORA_OK);
    assert_true(bora_pipeline_packed_size(f.pipeline) > own); /* known before anything is built */
    assert_int_equal(books_of(&f).used, 0);
    bora_pipeline_free(f.pipeline);
    f.options.rounding = BORA_ROUNDING_F32;
    f.options.plugins[BORA_PLUGIN_EXPERT] = "reference";
    fixture_start(&f);
    assert_int_equal(bora_pipeline_packed_size(f.pipeline), 0);
    assert_int_equal(books_of(&f).accounts[BORA_LEDGER_WEIGHTS], 0);
    fixture_close(&f);
}

/* A limit below the weights is told before they are read, and says by how much; one below what else is needed while it
 * is built. Whatever the limit, everything comes back. */
static void test_limits(void **state)
{
    (void)state;
    for (uint32_t n_stages = 1; n_stages <= 2; n_stages++) {
        fixture f;
        open_tiny(&f, n_stages);
        fixture_start(&f);
        const uint64_t weights = bora_pipeline_packed_size(f.pipeline), all = books_of(&f).used;
        bora_pipeline_free(f.pipeline);
        f.pipeline = NULL;
        bora_error err = {""};
        set_limit(&f, weights - 1);
        assert_int_equal(bora_pipeline_open(f.model, &f.options, &f.log, &f.pipeline, &err), BORA_E_LIMIT);
        assert_null(f.pipeline);
        assert_non_null(strstr(err.message, "memory limit: the weights of 'bora-tiny' take "));
        assert_non_null(strstr(err.message, "that is 1 bytes more than the limit of "));
        assert_non_null(strstr(err.message, "memory.limit"));

        uint32_t n_refused = 0;
        for (uint64_t limit = weights; limit < all; limit += (all - weights) / 40 + 1, n_refused++) {
            set_limit(&f, limit);
            bora_status st = bora_pipeline_new(f.model, &f.options, &f.log, &f.pipeline, &err);
            /* Plugins, too, which only see that there is none. */
            if (st != BORA_E_LIMIT || !strstr(err.message, "memory limit: "))
                fail_msg("limit %llu: %d %s", (unsigned long long)limit, st, err.message);
            assert_null(f.pipeline);
            const bora_ledger_state books = books_of(&f);
            assert_true(books.used == 0 && books.peak <= limit);
        }
        assert_true(n_refused >= 30);
        set_limit(&f, all); /* and this is enough */
        fixture_start(&f);
        assert_int_equal(books_of(&f).used, all);
        fixture_close(&f);
    }
}

/* A cache that cannot grow costs its own batch; when another one leaves, it goes on with the same answers. */
static void test_full_cache(void **state)
{
    (void)state;
    fixture f;
    open_tiny(&f, 1);
    fixture_start(&f);
    float *should = fixture_feed_alone(&f, 0, 320, 16);
    const uint64_t most = books_of(&f).peak; /* a ring has two buffers while it grows */
    bora_pipeline_free(f.pipeline);

    set_limit(&f, most + 4096); /* one of them fits, at its widest, and the record of another */
    fixture_start(&f);
    bora_sequence *a = fixture_sequence(&f), *b = fixture_sequence(&f);
    feed(&f, a, 320);
    float *logits = bora_calloc(320 * (size_t)f.vocab_size, sizeof *logits);
    assert_non_null(logits);
    bora_error err = {""};
    bora_status st = BORA_OK;
    while (st == BORA_OK && bora_sequence_n_cached(b) < 320) {
        int32_t tokens[16];
        const uint64_t at = bora_sequence_n_cached(b);
        for (uint32_t i = 0; i < 16; i++)
            tokens[i] = fixture_token(0, at + i);
        st = fixture_try(&f, b, tokens, 16, NULL, logits + at * f.vocab_size, &err);
        if (st != BORA_OK) {
            assert_int_equal(st, BORA_E_NOMEM);
            assert_true(a && bora_sequence_n_cached(b) == at);
            bora_sequence_close(a);
            a = NULL;
            st = BORA_OK; /* again */
        }
    }
    assert_null(a); /* it had to leave */
    assert_int_equal(bora_sequence_n_cached(b), 320);
    assert_same_logits(&f, logits, should, 320);
    const bora_ledger_state books = books_of(&f);
    assert_true(books.peak <= books.limit);
    bora_sequence_close(b);
    bora_free(logits);
    bora_free(should);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_packed_size),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_full_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
