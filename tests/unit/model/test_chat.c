/* Chat layouts on bora-tiny's tokenizer. What is expected is put together here from parts, each stretch of text
 * encoded by itself; mistral-common's own answers are in test_chat_golden.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/chat/chat.h"

#include <stdio.h>
#include <string.h>

enum { BOS = 1, EOS = 2, INST = 3, END_INST = 4 };

static bora_tokenizer *tokenizer;

static int tokenizer_load(void **state)
{
    (void)state;
    bora_file file = {0};
    bora_error err = {{0}};
    if (bora_file_map(BORA_SOURCE_DIR "/tests/models/bora-tiny/tokenizer.model.v3", &file, &err) != BORA_OK ||
        bora_tokenizer_parse(file.data, file.size, &tokenizer, &err) != BORA_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    bora_file_release(&file);
    return 0;
}

static int tokenizer_release(void **state)
{
    (void)state;
    bora_tokenizer_free(tokenizer);
    return 0;
}

/* Part of an expected chat: text if there is any, else the id. */
typedef struct part {
    int32_t id;
    const char *text;
} part;

#define ID(number)                                                                                                     \
    {                                                                                                                  \
        .id = (number)                                                                                                 \
    }
#define TEXT(string)                                                                                                   \
    {                                                                                                                  \
        .text = (string)                                                                                               \
    }
#define USER(string)                                                                                                   \
    {                                                                                                                  \
        .role = BORA_ROLE_USER, .content = (string)                                                                    \
    }
#define ASSISTANT(string)                                                                                              \
    {                                                                                                                  \
        .role = BORA_ROLE_ASSISTANT, .content = (string)                                                               \
    }
#define PREFIX(string)                                                                                                 \
    {                                                                                                                  \
        .role = BORA_ROLE_ASSISTANT, .content = (string), .prefix = true                                               \
    }
#define SYSTEM(string)                                                                                                 \
    {                                                                                                                  \
        .role = BORA_ROLE_SYSTEM, .content = (string)                                                                  \
    }

static void parts_encode(const part *parts, size_t n, bora_tokens *ids)
{
    for (size_t i = 0; i < n; i++) {
        bora_status status = parts[i].text
                                 ? bora_tokenizer_encode(tokenizer, parts[i].text, strlen(parts[i].text), ids, NULL)
                                 : bora_tokens_push(ids, parts[i].id, NULL);
        assert_int_equal(status, BORA_OK);
    }
}

/* Releases both. */
static void assert_same(bora_tokens *ids, bora_tokens *expected)
{
    assert_int_equal(ids->n, expected->n);
    for (size_t i = 0; i < ids->n; i++)
        assert_int_equal(ids->ids[i], expected->ids[i]);
    bora_tokens_release(ids);
    bora_tokens_release(expected);
}

static void assert_chat(bora_chat_layout layout, const bora_chat_message *messages, size_t n_messages,
                        const part *parts, size_t n_parts)
{
    bora_tokens ids = {0}, expected = {0};
    bora_error err = {{0}};
    const bora_chat chat = {.messages = messages, .n_messages = n_messages};
    if (bora_chat_encode(layout, tokenizer, &chat, &ids, &err) != BORA_OK)
        fail_msg("%s", err.message);
    parts_encode(parts, n_parts, &expected);
    assert_same(&ids, &expected);
}

/* MESSAGES and PARTS: parenthesised lists. */
#define LIST(...)                                                                                                      \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define ASSERT_CHAT(layout, messages, parts)                                                                           \
    do {                                                                                                               \
        const bora_chat_message m[] = LIST messages;                                                                   \
        const part p[] = LIST parts;                                                                                   \
        assert_chat((layout), m, BORA_ARRAY_SIZE(m), p, BORA_ARRAY_SIZE(p));                                           \
    } while (0)

static void test_names(void **state)
{
    (void)state;
    static const bora_chat_layout layouts[] = {BORA_CHAT_AUTO,      BORA_CHAT_NONE,     BORA_CHAT_V1,
                                               BORA_CHAT_V2,        BORA_CHAT_V3,       BORA_CHAT_V7,
                                               BORA_CHAT_V3_TEKKEN, BORA_CHAT_V7_TEKKEN};
    static const char *const names[] = {"auto", "none", "v1", "v2", "v3", "v7", "v3-tekken", "v7-tekken"};
    bora_chat_layout layout = 99;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        assert_string_equal(bora_chat_layout_name(layouts[i]), names[i]);
        assert_true(bora_chat_layout_parse(names[i], &layout));
        assert_int_equal(layout, layouts[i]);
    }
    assert_string_equal(bora_chat_layout_name(4), "unknown");
    assert_string_equal(bora_chat_layout_name(BORA_CHAT_UNKNOWN), "unknown");
    layout = 99;
    assert_false(bora_chat_layout_parse("v4", &layout));
    assert_false(bora_chat_layout_parse("v3-", &layout));
    assert_false(bora_chat_layout_parse("unknown", &layout));
    assert_false(bora_chat_layout_parse("", &layout));
    assert_false(bora_chat_layout_parse("V1", &layout));
    assert_int_equal(layout, 99);
}

/* A vocabulary of "a" and of what the bits of with say. */
static bora_tokenizer *small_make(bool bos, bool eos, bool inst, bool end_inst)
{
    const char *pieces[] = {"<unk>", "a", "<s>", "</s>", inst ? "[INST]" : "x", end_inst ? "[/INST]" : "y"};
    uint32_t sizes[6];
    const float scores[6] = {0};
    const int32_t types[] = {BORA_PIECE_UNKNOWN, BORA_PIECE_NORMAL,  BORA_PIECE_CONTROL,
                             BORA_PIECE_CONTROL, BORA_PIECE_CONTROL, BORA_PIECE_CONTROL};
    for (size_t i = 0; i < 6; i++)
        sizes[i] = (uint32_t)strlen(pieces[i]);
    bora_vocab vocab = {.pieces = pieces,
                        .piece_sizes = sizes,
                        .scores = scores,
                        .types = types,
                        .n_pieces = 6,
                        .bos_id = bos ? 2 : -1,
                        .eos_id = eos ? 3 : -1};
    bora_tokenizer *small = NULL;
    assert_int_equal(bora_tokenizer_new(&vocab, &small, NULL), BORA_OK);
    return small;
}

static void test_choose(void **state)
{
    (void)state;
    assert_int_equal(bora_chat_layout_choose(tokenizer), BORA_CHAT_V3);
    for (unsigned with = 0; with < 16; with++) {
        bora_tokenizer *small = small_make(with & 1, with & 2, with & 4, with & 8);
        bora_chat_layout expected = (with & 3) != 3 ? BORA_CHAT_NONE : (with & 12) == 12 ? BORA_CHAT_V3 : BORA_CHAT_V1;
        assert_int_equal(bora_chat_layout_choose(small), expected);
        /* What a tokenizer cannot speak is refused when asked for all the same. */
        const bora_chat_message message = USER("a");
        bora_tokens ids = {0};
        bora_error err = {{0}};
        const bora_chat chat = {.messages = &message, .n_messages = 1};
        assert_int_equal(bora_chat_encode(BORA_CHAT_V3, small, &chat, &ids, &err),
                         with == 15 ? BORA_OK : BORA_E_UNSUPPORTED);
        assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V1, small, true, false, NULL, "a", &ids, &err),
                         (with & 3) == 3 ? BORA_OK : BORA_E_UNSUPPORTED);
        bora_tokens_release(&ids);
        bora_tokenizer_free(small);
    }
}

static void test_v3(void **state)
{
    (void)state;
    ASSERT_CHAT(BORA_CHAT_V3, (USER("Hello")), (ID(BOS), ID(INST), TEXT("Hello"), ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("")), (ID(BOS), ID(INST), ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("a"), ASSISTANT(" b \n  "), USER(" c ")),
                (ID(BOS), ID(INST), TEXT("a"), ID(END_INST), TEXT(" b \n"), ID(EOS), ID(INST), TEXT(" c "),
                 ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("a"), PREFIX("b ")), (ID(BOS), ID(INST), TEXT("a"), ID(END_INST), TEXT("b")));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("a"), ASSISTANT("b"), PREFIX("c")),
                (ID(BOS), ID(INST), TEXT("a"), ID(END_INST), TEXT("b\n\nc")));
    /* The system prompt goes to the last user message. */
    ASSERT_CHAT(BORA_CHAT_V3, (SYSTEM("S"), USER("a"), ASSISTANT("b"), USER("c"), USER("d")),
                (ID(BOS), ID(INST), TEXT("a"), ID(END_INST), TEXT("b"), ID(EOS), ID(INST), TEXT("S\n\nc\n\nd"),
                 ID(END_INST)));
    /* Control tokens in messages are text. */
    ASSERT_CHAT(BORA_CHAT_V3, (USER("</s>[INST]"), ASSISTANT("[/INST]"), USER("<s>")),
                (ID(BOS), ID(INST), TEXT("</s>[INST]"), ID(END_INST), TEXT("[/INST]"), ID(EOS), ID(INST), TEXT("<s>"),
                 ID(END_INST)));
}

static void test_v1(void **state)
{
    (void)state;
    ASSERT_CHAT(BORA_CHAT_V1, (USER("Hello")), (ID(BOS), TEXT("[INST] Hello [/INST]")));
    ASSERT_CHAT(BORA_CHAT_V1, (USER("a"), ASSISTANT("b  "), USER("c")),
                (ID(BOS), TEXT("[INST] a [/INST]"), TEXT("b  "), ID(EOS), TEXT("[INST] c [/INST]")));
    ASSERT_CHAT(BORA_CHAT_V1, (USER("a"), PREFIX("b ")), (ID(BOS), TEXT("[INST] a [/INST]"), TEXT("b ")));
    /* The system prompt goes to the first user message. */
    ASSERT_CHAT(BORA_CHAT_V1, (SYSTEM("S"), SYSTEM(""), SYSTEM("T"), USER("a"), ASSISTANT("b"), USER("c")),
                (ID(BOS), TEXT("[INST] S\n\nT\n\na [/INST]"), TEXT("b"), ID(EOS), TEXT("[INST] c [/INST]")));
}

/* What mistral-common makes of odd orders. */
static void test_orders(void **state)
{
    (void)state;
    ASSERT_CHAT(BORA_CHAT_V1, (SYSTEM("S")), (ID(BOS), TEXT("[INST] S\n\n [/INST]")));
    ASSERT_CHAT(BORA_CHAT_V3, (SYSTEM("S")), (ID(BOS), ID(INST), TEXT("S\n\n"), ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (SYSTEM("")), (ID(BOS), ID(INST), ID(END_INST)));
    /* Messages around a system message stay apart. */
    ASSERT_CHAT(BORA_CHAT_V1, (USER("a"), SYSTEM("S"), USER("b")),
                (ID(BOS), TEXT("[INST] S\n\na [/INST]"), TEXT("[INST] b [/INST]")));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("a"), SYSTEM("S"), USER("b")),
                (ID(BOS), ID(INST), TEXT("a"), ID(END_INST), ID(INST), TEXT("S\n\nb"), ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (USER("a"), SYSTEM("S")), (ID(BOS), ID(INST), TEXT("S\n\na"), ID(END_INST)));
    /* An answer first gets an empty instruction, which is the first user message. */
    ASSERT_CHAT(BORA_CHAT_V1, (SYSTEM("S"), ASSISTANT("a"), USER("b")),
                (ID(BOS), TEXT("[INST] S\n\n [/INST]"), TEXT("a"), ID(EOS), TEXT("[INST] b [/INST]")));
    ASSERT_CHAT(BORA_CHAT_V3, (SYSTEM("S"), ASSISTANT("a"), USER("b")),
                (ID(BOS), ID(INST), ID(END_INST), TEXT("a"), ID(EOS), ID(INST), TEXT("S\n\nb"), ID(END_INST)));
    ASSERT_CHAT(BORA_CHAT_V3, (SYSTEM("S"), PREFIX("a")), (ID(BOS), ID(INST), TEXT("S\n\n"), ID(END_INST), TEXT("a")));
    /* An empty message of several adds no empty lines. */
    ASSERT_CHAT(BORA_CHAT_V3, (USER(""), USER("a"), USER(""), USER("b")),
                (ID(BOS), ID(INST), TEXT("a\n\nb"), ID(END_INST)));
}

static void assert_refused(bora_chat_layout layout, const bora_chat_message *messages, size_t n, bora_status expected,
                           const char *word)
{
    bora_tokens ids = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_tokens_push(&ids, 77, &err), BORA_OK);
    const bora_chat chat = {.messages = messages, .n_messages = n};
    assert_int_equal(bora_chat_encode(layout, tokenizer, &chat, &ids, &err), expected);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
    assert_int_equal(ids.n, 1);
    bora_tokens_release(&ids);
}

static void test_refusals(void **state)
{
    (void)state;
#define REFUSED(word, ...)                                                                                             \
    do {                                                                                                               \
        const bora_chat_message m[] = {__VA_ARGS__};                                                                   \
        assert_refused(BORA_CHAT_V1, m, BORA_ARRAY_SIZE(m), BORA_E_INVAL, (word));                                     \
        assert_refused(BORA_CHAT_V3, m, BORA_ARRAY_SIZE(m), BORA_E_INVAL, (word));                                     \
    } while (0)
    assert_refused(BORA_CHAT_V3, NULL, 0, BORA_E_INVAL, "at least one");
    REFUSED("must start", ASSISTANT("a"));
    REFUSED("must start", PREFIX("a"));
    REFUSED("last message", USER("a"), ASSISTANT("b"));
    REFUSED("message 2: a system message", USER("a"), ASSISTANT("b"), SYSTEM("S"), USER("c"));
    REFUSED("message 1: an empty message", USER("a"), ASSISTANT(""), USER("c"));
    REFUSED("message 0: prefix", {.role = BORA_ROLE_USER, .content = "a", .prefix = true});
    REFUSED("message 1: prefix", USER("a"), PREFIX("b"), USER("c"));
    REFUSED("message 1: prefix", USER("a"), PREFIX("b"), PREFIX("c"));
    REFUSED("unknown role 'robot'", USER("a"), {.role = "robot", .content = "b"});
    REFUSED("message 1: a tool message after one of role 'user'", USER("a"), {.role = BORA_ROLE_TOOL, .content = "b"});
    REFUSED("must start", {.role = BORA_ROLE_TOOL, .content = "b"});
    REFUSED("unknown role ''", {.role = "", .content = "b"});
#undef REFUSED
    const bora_chat_message message = USER("a");
    assert_refused(BORA_CHAT_NONE, &message, 1, BORA_E_UNSUPPORTED, "no chat layout");
    assert_refused(BORA_CHAT_AUTO, &message, 1, BORA_E_INVAL, "layout -1");
    assert_refused(4, &message, 1, BORA_E_INVAL, "layout 4");
    assert_refused(BORA_CHAT_V7, &message, 1, BORA_E_UNSUPPORTED, "needs [SYSTEM_PROMPT]");
    assert_refused(BORA_CHAT_V3_TEKKEN, &message, 1, BORA_E_UNSUPPORTED, "not for a SentencePiece tokenizer");
    bora_tokens ids = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_NONE, tokenizer, true, false, NULL, "a", &ids, &err),
                     BORA_E_UNSUPPORTED);
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V3, tokenizer, false, false, "S", "a", &ids, &err), BORA_E_INVAL);
    assert_int_equal(ids.n, 0);
}

/* A session turn by turn, each answer's tokens as the model would have given them, against the whole conversation. */
static void check_turns(bora_chat_layout layout, const char *system, size_t n_turns)
{
    static const char *const questions[] = {"What is a bora?", " two\nlines ", "", "[/INST] </s>", "\xf0\x9f\x98\x80"};
    static const char *const answers[] = {"A wind.", " And more of it\n", "one\n\ntwo", "[INST]"};
    bora_chat_message messages[16];
    size_t n = 0;
    if (system)
        messages[n++] = (bora_chat_message)SYSTEM(system);
    bora_tokens history = {0}, cut = {0};
    bora_error err = {{0}};
    for (size_t turn = 0; turn < n_turns; turn++) {
        bool first = turn == 0;
        messages[n++] = (bora_chat_message)USER(questions[turn]);
        /* Once with every answer ending in EOS, once with every answer cut before it. */
        assert_int_equal(bora_chat_encode_turn(layout, tokenizer, first, false, first ? system : NULL, questions[turn],
                                               &history, &err),
                         BORA_OK);
        assert_int_equal(bora_chat_encode_turn(layout, tokenizer, first, !first, first ? system : NULL, questions[turn],
                                               &cut, &err),
                         BORA_OK);
        bora_tokens whole = {0}, copy = {0};
        assert_int_equal(bora_chat_encode(layout, tokenizer, &(bora_chat){.messages = messages, .n_messages = n},
                                          &whole, &err),
                         BORA_OK);
        assert_int_equal(bora_tokens_append(&copy, whole.ids, whole.n, &err), BORA_OK);
        bora_tokens so_far = {0};
        assert_int_equal(bora_tokens_append(&so_far, history.ids, history.n, &err), BORA_OK);
        assert_same(&so_far, &whole);
        assert_int_equal(bora_tokens_append(&so_far, cut.ids, cut.n, &err), BORA_OK);
        assert_same(&so_far, &copy);
        if (turn + 1 == n_turns)
            break;
        messages[n++] = (bora_chat_message)ASSISTANT(answers[turn]);
        const part answer[] = {TEXT(answers[turn]), ID(EOS)};
        parts_encode(answer, 2, &history);
        parts_encode(answer, 1, &cut);
    }
    bora_tokens_release(&history);
    bora_tokens_release(&cut);
}

static void test_turns(void **state)
{
    (void)state;
    check_turns(BORA_CHAT_V1, NULL, 5);
    check_turns(BORA_CHAT_V3, NULL, 5);
    check_turns(BORA_CHAT_V1, "Be brief.", 5); /* v1 has it in the first message always */
    check_turns(BORA_CHAT_V3, "Be brief.", 1);
    check_turns(BORA_CHAT_V1, "", 1);
    check_turns(BORA_CHAT_V3, "", 1);
}

/* v3 with a system prompt: in a session it stays where it was. */
static void test_turns_system_v3(void **state)
{
    (void)state;
    bora_tokens ids = {0}, expected = {0};
    bora_error err = {{0}};
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V3, tokenizer, true, false, "S", "a", &ids, &err), BORA_OK);
    const part answer[] = {TEXT("b")};
    parts_encode(answer, 1, &ids);
    assert_int_equal(bora_chat_encode_turn(BORA_CHAT_V3, tokenizer, false, true, NULL, "c", &ids, &err), BORA_OK);
    const part parts[] = {ID(BOS), ID(INST), TEXT("S\n\na"), ID(END_INST), TEXT("b"),
                          ID(EOS), ID(INST), TEXT("c"),      ID(END_INST)};
    parts_encode(parts, BORA_ARRAY_SIZE(parts), &expected);
    assert_same(&ids, &expected);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const bora_chat_message messages[] = {SYSTEM("S"), SYSTEM("T"), ASSISTANT("first"),
                                          USER("a"),   USER("b"),   PREFIX("an answer")};
    static const bora_chat_layout layouts[] = {BORA_CHAT_V1, BORA_CHAT_V2, BORA_CHAT_V3};
    const bora_chat chat = {.messages = messages, .n_messages = BORA_ARRAY_SIZE(messages)};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        for (int turn = 0; turn < 2; turn++) {
            bora_status status = BORA_E_NOMEM;
            uint64_t n = 0;
            while (status == BORA_E_NOMEM) {
                bora_tokens ids = {0};
                (void)bora_memory_fail_at(++n);
                status = turn ? bora_chat_encode_turn(layouts[i], tokenizer, true, false, "S", "a", &ids, NULL)
                              : bora_chat_encode(layouts[i], tokenizer, &chat, &ids, NULL);
                (void)bora_memory_fail_at(0);
                assert_true(status == BORA_OK || ids.n == 0);
                bora_tokens_release(&ids);
            }
            assert_int_equal(status, BORA_OK);
            assert_true(n > 4);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_v3),
        cmocka_unit_test(test_v1),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_turns_system_v3),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, tokenizer_load, tokenizer_release);
}
