/* Answers that have to look like something, from the whole daemon: random JSON schemas at temperature 1, where every
 * answer must be whole, parse and fit; grammars; choices, sessions and stop texts with them; what is refused; compiling
 * that takes long; and the likeliest tokens. */
#include "integration/wire.h"
#include "support/chat.h"
#include "support/schema_check.h"
#include "support/schema_random.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>

#define AT_ONCE    24u
#define MAX_TOKENS 400u /* without a bound some strings would take thousands at temperature 1 */
#define CHOICES    3u

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
    char reason[16];
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

/* It is JSON and fits its schema. */
static void must_fit(const answer *a)
{
    char why[300] = "";
    json_error_t error;
    json_t *value = json_loads(a->text ? a->text : "", JSON_DECODE_ANY, &error);
    char *schema = json_dumps(a->schema, JSON_COMPACT);
    if (!value)
        fail_msg("%s: not JSON: %s\nschema: %s", a->text, error.text, schema);
    if (!bora_schema_check(a->schema, a->schema, value, why, sizeof why))
        fail_msg("%s\ndoes not fit: %s\nschema: %s", a->text, why, schema);
    free(schema);
    json_decref(value);
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
        wire_copy(a->reason, sizeof a->reason, bora_value_get(e.root, "reason"));
        if (strcmp(a->reason, "stop") == 0) {
            must_fit(a);
            n_whole++;
        } else {
            char *schema = json_dumps(a->schema, JSON_COMPACT);
            print_error("%s: %.300s ...\nschema: %s\n", a->reason, a->text, schema);
            free(schema);
        }
        n_done++;
        release(a);
    }
    wire_event_release(&e);
    wire_close(&w);
    print_message("%u of %u answers were whole within %u tokens, and fit\n", n_whole, n_all, MAX_TOKENS);
    assert_int_equal(n_whole, n_all);
}

/* ---- one request at a time ----------------------------------------------------------------------------------- */

/* What is asked for; NULL and 0 are left out. */
typedef struct form {
    const char *text, *prompt, *session, *schema, *grammar, *stop;
    uint64_t seed, n, max_tokens, top_logprobs;
    double temperature;
    bool ignore_eos;
} form;

static uint64_t form_send(wire *w, const form *f)
{
    bora_pack pack = wire_request(w, "generate");
    bora_pack_string(&pack, "text", f->text);
    bora_pack_string(&pack, "prompt", f->prompt);
    bora_pack_string(&pack, "session", f->session);
    bora_pack_string(&pack, "json_schema", f->schema);
    bora_pack_string(&pack, "grammar", f->grammar);
    bora_pack_float(&pack, "temperature", f->temperature);
    bora_pack_uint(&pack, "seed", f->seed);
    bora_pack_uint(&pack, "max_tokens", f->max_tokens ? f->max_tokens : 100);
    if (f->n)
        bora_pack_uint(&pack, "n", f->n);
    if (f->top_logprobs)
        bora_pack_uint(&pack, "top_logprobs", f->top_logprobs);
    if (f->ignore_eos)
        bora_pack_bool(&pack, "ignore_eos", true);
    if (f->stop) {
        bora_pack_array(&pack, "stop");
        bora_pack_string(&pack, NULL, f->stop);
        bora_pack_end(&pack);
    }
    wire_submit(w, &pack);
    return w->last_id;
}

/* The answers to the last request, by choice; look is called with each token event, if there is one. */
static void form_wait(wire *w, answer answers[CHOICES], void (*look)(const wire_event *e))
{
    wire_event e = {0};
    for (;;) {
        uint64_t choice = 0;
        wire_receive(w, &e);
        assert_int_equal(e.id, w->last_id);
        if (strcmp(e.event, "error") == 0)
            fail_msg("%s: %s", e.code, e.message);
        (void)bora_value_uint(bora_value_get(e.root, "choice"), &choice);
        assert_true(choice < CHOICES);
        answer *a = &answers[choice];
        add_text(a, &e);
        if (look && strcmp(e.event, "token") == 0)
            look(&e);
        bool is_done = strcmp(e.event, "done") == 0;
        if ((is_done && !a->reason[0]) || strcmp(e.event, "choice") == 0)
            wire_copy(a->reason, sizeof a->reason, bora_value_get(e.root, "reason"));
        if (is_done)
            break;
    }
    wire_event_release(&e);
}

/* One answer; its text is to be freed. */
static answer form_ask(wire *w, const form *f)
{
    answer answers[CHOICES] = {0};
    (void)form_send(w, f);
    form_wait(w, answers, NULL);
    assert_non_null(answers[0].text);
    assert_null(answers[1].text);
    return answers[0];
}

static void must_match(const char *pattern, const char *text)
{
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&compiled, text, 0, NULL, 0) != 0)
        fail_msg("'%s' does not match %s", text, pattern);
    regfree(&compiled);
}

/* ---- grammars ------------------------------------------------------------------------------------------------ */

static void texts_in_the_notation(void **state)
{
    (void)state;
    static const struct {
        const char *grammar, *pattern;
    } cases[] = {
        {"root ::= year \"-\" month \"-\" day\nyear ::= [0-9]{4}\nmonth ::= \"0\" [1-9] | \"1\" [0-2]\n"
         "day ::= \"0\" [1-9] | [12] [0-9] | \"3\" [01]",
         "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"},
        {"# a move\nroot ::= (castle | pawn | piece) [+#]?\ncastle ::= \"O-O\" \"-O\"?\n"
         "pawn ::= ([a-h] \"x\")? [a-h] [1-8] (\"=\" [QRBN])?\npiece ::= [KQRBN] \"x\"? [a-h] [1-8]",
         "^(O-O(-O)?|([a-h]x)?[a-h][1-8](=[QRBN])?|[KQRBN]x?[a-h][1-8])[+#]?$"},
        {"root ::= (\"- \" [a-z ]+ \"\\n\"){2,3}", "^(- [a-z ]+\n){2,3}$"},
    };
    wire w;
    wire_greet(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t seed = 0; seed < 8; seed++) {
            form f = {.grammar = cases[i].grammar, .seed = seed, .temperature = 1, .max_tokens = 24};
            *(seed % 2 ? &f.text : &f.prompt) = "The answer is"; /* a raw text is gone on with: no space is dropped */
            answer a = form_ask(&w, &f);
            assert_string_equal(a.reason, "stop");
            must_match(cases[i].pattern, a.text);
            free(a.text);
        }
    wire_close(&w);
}

static const char person[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
                             "\"integer\",\"minimum\":1,\"maximum\":99},\"likes\":{\"type\":\"array\",\"items\":{"
                             "\"type\":\"string\"}}},\"required\":[\"name\",\"age\",\"likes\"],"
                             "\"additionalProperties\":false}";

static void must_be_a_person(answer *a)
{
    a->schema = json_loads(person, 0, NULL);
    assert_non_null(a->schema);
    assert_string_equal(a->reason, "stop");
    must_fit(a);
    release(a);
}

/* Each has its own place in the grammar, and its own tokens left. */
static void choices_fit_each_by_itself(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    form f = {.text = "Who is it?", .schema = person, .n = CHOICES, .seed = 5, .temperature = 1, .max_tokens = 80};
    answer answers[CHOICES] = {0};
    (void)form_send(&w, &f);
    form_wait(&w, answers, NULL);
    assert_string_not_equal(answers[0].text, answers[1].text);
    assert_string_not_equal(answers[0].text, answers[2].text);
    f.n = 1;
    answer alone = form_ask(&w, &f);
    assert_string_equal(alone.text, answers[0].text);
    for (size_t i = 0; i < CHOICES; i++)
        must_be_a_person(&answers[i]);
    must_be_a_person(&alone);
    wire_close(&w);
}

/* A turn is held to a schema; the next one is free, and stands where it would stand if the first had been said freely.
 */
static void a_schema_in_a_session(void **state)
{
    (void)state;
    wire w;
    wire_answer history[2];
    wire_greet(&w, daemon_.socket);
    form f = {.text = "Who is it?", .session = "formed", .schema = person, .max_tokens = 80};
    answer a = form_ask(&w, &f);
    must_be_a_person(&a);
    wire_say(&w, "formed", "And now freely.", 12, &history[0]);
    assert_true(history[0].n_history > 20 && history[0].n > 0);
    form free_turn = {.text = "Go on.", .session = "formed", .max_tokens = 12};
    a = form_ask(&w, &free_turn);
    json_t *value = json_loads(a.text, JSON_DECODE_ANY, NULL);
    assert_null(value);
    free(a.text);
    a = form_ask(&w, &f); /* and held again */
    must_be_a_person(&a);
    wire_say(&w, "formed", "Goodbye.", 4, &history[1]);
    assert_true(history[1].n_history > history[0].n_history + history[0].n + 20);
    wire_close(&w);
}

static void the_end_and_stops(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    /* Behind a whole text there is nothing to go on with. */
    form f = {.text = "Who is it?", .schema = person, .ignore_eos = true, .max_tokens = 80, .temperature = 1};
    answer a = form_ask(&w, &f);
    must_be_a_person(&a);
    /* A stop text ends the answer in the middle of the form. */
    f = (form){.text = "Say it.", .schema = "{\"const\":[\"one\",\"two\",\"three\"]}", .stop = "\"three"};
    a = form_ask(&w, &f);
    assert_string_equal(a.reason, "stop_text");
    must_match("^\\[[ \n]*\"one\"[ \n]*,[ \n]*\"two\"[ \n]*,[ \n]*$", a.text);
    free(a.text);
    /* What cannot be whole in so few tokens is cut, as any answer is. */
    f = (form){.text = "Say it.", .grammar = "root ::= [a-z]{200}", .max_tokens = 6};
    a = form_ask(&w, &f);
    assert_string_equal(a.reason, "length");
    must_match("^[a-z]{1,199}$", a.text);
    free(a.text);
    /* What can is, whatever the model would rather do. */
    f = (form){.text = "Say it.", .grammar = "root ::= [a-z]* \".\"", .temperature = 1};
    for (f.max_tokens = 2; f.max_tokens < 12; f.max_tokens++) {
        a = form_ask(&w, &f);
        assert_string_equal(a.reason, "stop");
        must_match("^[a-z]*[.]$", a.text);
        free(a.text);
    }
    wire_close(&w);
}

/* The context leaves fewer tokens than were asked for: those count. */
static void the_context_is_nearly_full(void **state)
{
    (void)state;
    static char prompt[4 * 4096];
    wire w;
    wire_event e = {0};
    wire_greet(&w, daemon_.socket);
    /* As many words as fit, found by their tokens. */
    uint64_t context = 0, n_tokens = 0;
    bora_pack pack = wire_request(&w, "model");
    wire_submit(&w, &pack);
    wire_expect_result(&w, &e);
    context = wire_uint_of(&e, "context");
    for (size_t n_words = context; n_tokens == 0 || n_tokens + 40 > context; n_words -= 16) {
        for (size_t i = 0; i < n_words; i++)
            memcpy(prompt + 2 * i, " a", 3);
        pack = wire_request(&w, "tokenize");
        bora_pack_string(&pack, "text", prompt);
        bora_pack_bool(&pack, "bos", true);
        wire_submit(&w, &pack);
        wire_expect_result(&w, &e);
        n_tokens = bora_value_count(bora_value_get(e.root, "tokens"));
        assert_true(n_words > 16);
    }
    wire_event_release(&e);
    form f = {.prompt = prompt, .grammar = "root ::= \"(\" [a-z ]* \").\"", .temperature = 1, .max_tokens = 4000};
    answer a = form_ask(&w, &f);
    assert_string_equal(a.reason, "stop");
    must_match("^[(][a-z ]*[)][.]$", a.text);
    free(a.text);
    wire_close(&w);
}

/* ---- refused ------------------------------------------------------------------------------------------------- */

static char *repeat(const char *begin, const char *part, size_t n, const char *end)
{
    size_t size = strlen(part);
    char *text = calloc(1, strlen(begin) + n * size + strlen(end) + 1);
    assert_non_null(text);
    char *at = stpcpy(text, begin);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, part);
    (void)stpcpy(at, end);
    return text;
}

static void what_is_refused(void **state)
{
    (void)state;
    char *large = repeat("{\"description\":\"", "very ", 60000, "large\"}");
    char *long_notation = repeat("root ::= \"", "a", 300000, "\"");
    char *deep = repeat("root ::= ", "(", 2000, "\"a\"");
    char *wide = repeat("root ::= ", "[a-z]{65535} ", 8, "\"a\"");
    const struct {
        const char *schema, *grammar, *code, *message;
    } cases[] = {
        {"{\"type\":", NULL, "invalid", "JSON"},
        {"[1]", NULL, "invalid", "schema"},
        {"{\"type\":\"thing\"}", NULL, "invalid", "type"},
        {"{\"properties\":{\"a\":{\"not\":{}}}}", NULL, "unsupported", "'not'"},
        {"{\"oneOf\":[{\"type\":\"null\"}]}", NULL, "unsupported", "'oneOf'"},
        {"{\"type\":\"string\",\"pattern\":\"a(?=b)\"}", NULL, "unsupported", "pattern"},
        {"{\"$ref\":\"#/$defs/missing\"}", NULL, "invalid", "missing"},
        {"{}", "root ::= \"a\"", "invalid", "not both"},
        {large, NULL, "limit", "bytes"},
        {NULL, long_notation, "limit", "bytes"},
        {NULL, deep, "limit", "parentheses"},
        {NULL, wide, "limit", "more than"},
        {NULL, "root = \"a\"", "invalid", "line 1"},
        {NULL, "root ::= \"a\"\n\nb ::= c", "invalid", "line 3"},
        {NULL, "root ::= root \"a\" | \"b\"", "invalid", "begins with itself"},
        {NULL, "root ::= \"a\" root", "invalid", "no text fits"},
        {NULL, "", "invalid", "root"},
    };
    wire w;
    wire_greet(&w, daemon_.socket);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        form f = {.text = "Hello.", .schema = cases[i].schema, .grammar = cases[i].grammar, .max_tokens = 4};
        (void)form_send(&w, &f);
        wire_expect_error(&w, w.last_id, cases[i].code, cases[i].message);
    }
    wire_wait_status(&w, "n_running", 0);
    wire_wait_status(&w, "n_waiting", 0);
    free(large);
    free(long_notation);
    free(deep);
    free(wide);
    wire_close(&w);
}

/* ---- compiling that takes long ------------------------------------------------------------------------------- */

/* A grammar of so many states as may be. */
static char *slow_grammar(void)
{
    return repeat("root ::= \"x\" | y\ny ::= ", "([a-m\\u00e0-\\u00ef] | \"zz\"){13000} ", 6, "\"a\"");
}

static double ms_since(const struct timespec *from)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) * 1e3 + (double)(now.tv_nsec - from->tv_nsec) / 1e6;
}

static void others_do_not_wait_for_a_compiler(void **state)
{
    (void)state;
    static witness other;
    char *grammar = slow_grammar();
    wire w;
    wire_event e = {0};
    struct timespec begin, asked;
    double longest = 0;
    size_t n_asked = 0, n_done = 0;
    witness_begin(&other, &daemon_, 3);
    wire_greet(&w, daemon_.socket);
    form f = {.text = "Hello.", .grammar = grammar, .max_tokens = 2};
    const size_t n_all = 8;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t i = 0; i < n_all; i++)
        (void)form_send(&w, &f);
    while (n_done < n_all) {
        (void)clock_gettime(CLOCK_MONOTONIC, &asked);
        (void)wire_status(&other.wire, "pid");
        double ms = ms_since(&asked);
        longest = ms > longest ? ms : longest;
        if (n_asked++ % 64 == 0 && other.turn < other.n_turns)
            witness_check(&other);
        while (wire_receive_within(&w, &e, 0)) {
            if (strcmp(e.event, "error") == 0)
                fail_msg("%s: %s", e.code, e.message);
            n_done += strcmp(e.event, "done") == 0;
        }
    }
    print_message("%zu grammars of %zu bytes were compiled in %.0f ms; of %zu status calls the longest took %.1f ms\n",
                  n_all, strlen(grammar), ms_since(&begin), n_asked, longest);
    while (other.turn < other.n_turns)
        witness_check(&other);
    wire_event_release(&e);
    witness_end(&other);
    wire_close(&w);
    free(grammar);
}

/* Those before it take their time, so that the last one is told to stop before its turn. */
static void cancelled_before_it_is_compiled(void **state)
{
    (void)state;
    char *grammar = slow_grammar();
    wire w;
    wire_event e = {0};
    wire_greet(&w, daemon_.socket);
    form f = {.text = "Hello.", .grammar = grammar, .max_tokens = 2};
    const size_t n_before = 16;
    for (size_t i = 0; i <= n_before; i++)
        (void)form_send(&w, &f);
    uint64_t last = w.last_id;
    bora_pack pack = wire_request(&w, "cancel");
    bora_pack_uint(&pack, "request", last);
    wire_submit(&w, &pack);
    size_t n_done = 0;
    bool was_found = false, was_cancelled = false;
    while (n_done < n_before || !was_found || !was_cancelled) {
        wire_receive(&w, &e);
        if (e.id == last) {
            assert_string_equal(e.event, "error");
            assert_string_equal(e.code, "cancelled");
            was_cancelled = true;
        } else if (e.id == w.last_id) {
            assert_string_equal(e.event, "result");
            assert_true(bora_value_bool(bora_value_get(e.root, "found"), &was_found) && was_found);
        } else {
            assert_string_not_equal(e.event, "error");
            n_done += strcmp(e.event, "done") == 0;
        }
    }
    wire_event_release(&e);
    /* One whose client is gone has nobody to answer to. */
    (void)form_send(&w, &f);
    (void)form_send(&w, &f);
    wire_close(&w);
    wire_greet(&w, daemon_.socket);
    wire_wait_status(&w, "n_running", 0);
    wire_wait_status(&w, "n_waiting", 0);
    wire_close(&w);
    free(grammar);
}

/* ---- the likeliest tokens ------------------------------------------------------------------------------------ */

static double float_of(const bora_value *map, const char *key)
{
    double value = 1;
    assert_true(bora_value_float(bora_value_get(map, key), &value));
    return value;
}

/* The five likeliest, in order, none twice; of a greedy answer the first is the one that was chosen. */
static void look_at_top(const wire_event *e)
{
    const bora_value *top = bora_value_get(e->root, "top");
    uint64_t tokens[5] = {0};
    double sum = 0, last = 0;
    assert_true(bora_value_is_array(top));
    assert_int_equal(bora_value_count(top), 5);
    for (uint32_t i = 0; i < 5; i++) {
        const bora_value *entry = bora_value_at(top, i);
        assert_true(bora_value_uint(bora_value_get(entry, "token"), &tokens[i]));
        double logprob = float_of(entry, "logprob");
        assert_true(logprob <= last); /* from 0 on downwards */
        last = logprob;
        sum += exp(logprob);
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(tokens[k], tokens[i]);
    }
    assert_true(sum <= 1.0001);
    assert_int_equal(tokens[0], wire_uint_of(e, "token"));
    assert_true(float_of(bora_value_at(top, 0), "logprob") == float_of(e->root, "logprob"));
}

/* With a temperature, or a grammar, what was chosen is no likelier than the first. */
static void look_at_others(const wire_event *e)
{
    const bora_value *top = bora_value_get(e->root, "top");
    assert_int_equal(bora_value_count(top), 1);
    assert_true(float_of(bora_value_at(top, 0), "logprob") >= float_of(e->root, "logprob"));
}

static void look_for_none(const wire_event *e)
{
    assert_null(bora_value_get(e->root, "top"));
}

static void the_likeliest_tokens(void **state)
{
    (void)state;
    wire w;
    wire_greet(&w, daemon_.socket);
    const struct {
        form form;
        void (*look)(const wire_event *e);
    } cases[] = {
        {{.text = "Tell me.", .top_logprobs = 5, .max_tokens = 20}, look_at_top},
        {{.text = "Tell me.", .top_logprobs = 1, .max_tokens = 20, .temperature = 2, .seed = 3}, look_at_others},
        {{.text = "Tell me.", .top_logprobs = 1, .grammar = "root ::= [x-z]{1,9}", .max_tokens = 20}, look_at_others},
        {{.text = "Tell me.", .max_tokens = 20}, look_for_none},
    };
    char *first = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer answers[CHOICES] = {0};
        (void)form_send(&w, &cases[i].form);
        form_wait(&w, answers, cases[i].look);
        assert_true(answers[0].size > 0);
        if (i == 0)
            first = strdup(answers[0].text);
        else if (!cases[i].form.top_logprobs)
            assert_string_equal(answers[0].text, first); /* asking changes nothing */
        release(&answers[0]);
    }
    free(first);
    form f = {.text = "Tell me.", .top_logprobs = 21};
    (void)form_send(&w, &f);
    wire_expect_error(&w, w.last_id, "invalid", "top_logprobs");
    wire_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_schemas_are_kept),
        cmocka_unit_test(texts_in_the_notation),
        cmocka_unit_test(choices_fit_each_by_itself),
        cmocka_unit_test(a_schema_in_a_session),
        cmocka_unit_test(the_end_and_stops),
        cmocka_unit_test(the_context_is_nearly_full),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(others_do_not_wait_for_a_compiler),
        cmocka_unit_test(cancelled_before_it_is_compiled),
        cmocka_unit_test(the_likeliest_tokens),
    };
    return cmocka_run_group_tests_name("structured", tests, set_up, tear_down);
}
