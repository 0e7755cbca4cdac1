/* Answers that have to look like something, from the whole daemon: random JSON schemas at temperature 1, where every
 * answer must parse and fit; grammars; and what is refused. */
#include "integration/wire.h"
#include "support/chat.h"
#include "support/schema_check.h"
#include "support/schema_random.h"

#include <stdlib.h>

#define AT_ONCE    24u
#define MAX_TOKENS 3000u /* some strings get long at temperature 1 */

static bora_test_daemon daemon_;

static int set_up(void **state)
{
    (void)state;
    const char *const arguments[] = {"--set", "engine.context=4096", NULL};
    return bora_test_daemon_init(&daemon_) && bora_test_daemon_start(&daemon_, arguments, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    int code = bora_test_daemon_end(&daemon_, SIGTERM);
    bora_test_daemon_release(&daemon_);
    return code;
}

/* One answer that is awaited. */
typedef struct answer {
    uint64_t id; /* 0: none */
    json_t *schema;
    char *text; /* [size] */
    size_t size;
    uint64_t n_tokens;
} answer;

static void add_text(answer *a, const wire_event *e)
{
    const char *bytes = "";
    size_t size = 0;
    if (!bora_value_text(bora_value_get(e->root, "text"), &bytes, &size))
        return;
    a->text = realloc(a->text, a->size + size + 1);
    assert_non_null(a->text);
    memcpy(a->text + a->size, bytes, size);
    a->size += size;
    a->text[a->size] = '\0';
}

static void ask(wire *w, answer *a, uint64_t *seed)
{
    a->schema = bora_schema_random(seed);
    char *text = json_dumps(a->schema, JSON_COMPACT);
    bora_pack pack = wire_request(w, "generate");
    bora_pack_string(&pack, "text", "Tell me about it, please.");
    bora_pack_string(&pack, "json_schema", text);
    bora_pack_float(&pack, "temperature", 1);
    bora_pack_uint(&pack, "seed", bora_random_below(seed, 1u << 30));
    bora_pack_uint(&pack, "max_tokens", MAX_TOKENS);
    wire_submit(w, &pack);
    a->id = w->last_id;
    free(text);
}

static void release(answer *a)
{
    json_decref(a->schema);
    free(a->text);
    *a = (answer){0};
}

/* True if the answer was whole. */
static bool judge(const answer *a, const wire_event *e)
{
    char reason[16], why[300] = "";
    wire_copy(reason, sizeof reason, bora_value_get(e->root, "reason"));
    if (strcmp(reason, "length") == 0)
        return false;
    assert_string_equal(reason, "stop");
    json_error_t error;
    json_t *value = json_loads(a->text, JSON_DECODE_ANY, &error);
    char *schema = json_dumps(a->schema, JSON_COMPACT);
    if (!value)
        fail_msg("%s: not JSON: %s\nschema: %s", a->text, error.text, schema);
    if (!bora_schema_check(a->schema, a->schema, value, why, sizeof why))
        fail_msg("%s\ndoes not fit: %s\nschema: %s", a->text, why, schema);
    free(schema);
    json_decref(value);
    return true;
}

static void random_schemas_are_kept(void **state)
{
    (void)state;
    const char *is_long = getenv("BORA_TEST_LONG");
    const uint32_t n_all = is_long && *is_long == '1' ? 500 : 60;
    uint64_t seed = 20;
    uint32_t n_asked = 0, n_done = 0, n_whole = 0;
    answer answers[AT_ONCE] = {0};
    wire w;
    wire_event e = {0};
    wire_open(&w, daemon_.socket);
    wire_hello(&w);
    while (n_done < n_all) {
        for (size_t i = 0; i < AT_ONCE && n_asked < n_all; i++)
            if (!answers[i].id) {
                ask(&w, &answers[i], &seed);
                n_asked++;
            }
        wire_receive(&w, &e);
        answer *a = answers;
        while (a->id != e.id)
            a++;
        if (strcmp(e.event, "error") == 0)
            fail_msg("%s: %s", e.code, e.message);
        add_text(a, &e);
        if (strcmp(e.event, "done") != 0)
            continue;
        n_whole += judge(a, &e);
        n_done++;
        release(a);
    }
    wire_event_release(&e);
    wire_close(&w);
    print_message("%u of %u answers were whole within %u tokens, and fit\n", n_whole, n_all, MAX_TOKENS);
    assert_true(n_whole >= n_all - n_all / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_schemas_are_kept),
    };
    return cmocka_run_group_tests_name("structured", tests, set_up, tear_down);
}
