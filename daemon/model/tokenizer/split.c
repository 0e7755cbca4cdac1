/* Cutting text with PCRE2.
 *
 * A match sees a window of the text that begins at its piece, and has few steps. If it wants to look past the window's
 * end (a partial match), the window doubles; if it runs out of steps, it gets a number proportional to the window. Both
 * are charged to a budget proportional to the text. So an expression that scans far ahead, or tries too much, to cut
 * off little is given up with an error, while one word of any length costs what its length costs. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer/split.h"

#include "base/memory.h"

#include <pcre2.h>
#include <string.h>

#define WINDOW_FIRST  ((size_t)4096) /* bytes; longer than nearly every piece */
#define BUDGET_FACTOR 16u            /* bytes of charged windows per byte of text; a well-meant expression needs 4 */
#define STEPS_FEW     4096u          /* PCRE2's match limit at first, */
#define STEPS_FACTOR  64u            /* and then per byte of window: alternatives that each look at it */
#define HEAP_KIB_MAX  65536u         /* of PCRE2's own, per match */

const char bora_tekken_pattern[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct bora_split {
    pcre2_general_context *memory;
    pcre2_code *code;
};

static void *pcre_alloc(PCRE2_SIZE size, void *data)
{
    (void)data;
    return bora_alloc(size);
}

static void pcre_free(void *memory, void *data)
{
    (void)data;
    bora_free(memory);
}

static void split_freep(bora_split **split)
{
    bora_split_free(*split);
}

static void compile_context_freep(pcre2_compile_context **context)
{
    pcre2_compile_context_free(*context);
}

/* \s and \S as Unicode's White_Space, which is what the expressions are written for; PCRE2's own \s has U+180E
 * besides. text: [2 + 15 * size]. */
static size_t spaces_spell(const char *pattern, size_t size, char *ret_text)
{
    static const char space[] = "\\p{White_Space}", other[] = "\\P{White_Space}";
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (pattern[i] != '\\' || i + 1 == size) {
            ret_text[n++] = pattern[i];
            continue;
        }
        char escaped = pattern[++i];
        if (escaped == 's' || escaped == 'S') {
            memcpy(ret_text + n, escaped == 's' ? space : other, sizeof space - 1);
            n += sizeof space - 1;
        } else {
            ret_text[n++] = '\\';
            ret_text[n++] = escaped;
        }
    }
    return n;
}

static bora_status compile(bora_split *split, const char *text, size_t size, bora_error *err)
{
    BORA_CLEANUP(compile_context_freep) pcre2_compile_context *context = pcre2_compile_context_create(split->memory);
    if (!context)
        return bora_fail(err, BORA_E_NOMEM, "split expression");
    int code = 0;
    PCRE2_SIZE at = 0;
    /* Anchored here, not per match: PCRE2's machine code knows no such option. */
    split->code = pcre2_compile((PCRE2_SPTR)text, size,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    if (!split->code && code == PCRE2_ERROR_HEAP_FAILED)
        return bora_fail(err, BORA_E_NOMEM, "split expression");
    if (!split->code) {
        PCRE2_UCHAR message[128] = "";
        (void)pcre2_get_error_message(code, message, sizeof message); /* cut if it is longer */
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: split expression: %s (byte %zu)", (const char *)message, at);
    }
    /* Where there is no machine code to be had (a hardened service), the interpreter gives the same matches. */
    (void)pcre2_jit_compile(split->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    return BORA_OK;
}

bora_status bora_split_new(const char *pattern, size_t size, bora_split **ret_split, bora_error *err)
{
    if (size < 1 || size > BORA_PATTERN_SIZE_MAX)
        return bora_fail(err, BORA_E_FORMAT, "vocabulary: a split expression of %zu bytes, expected 1 to %u", size,
                         BORA_PATTERN_SIZE_MAX);
    BORA_CLEANUP(bora_freep) char *text = bora_alloc(2 + 15 * size);
    BORA_CLEANUP(split_freep) bora_split *split = bora_calloc(1, sizeof *split);
    if (!text || !split)
        return bora_fail(err, BORA_E_NOMEM, "split expression");
    split->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!split->memory)
        return bora_fail(err, BORA_E_NOMEM, "split expression");
    bora_status st = compile(split, text, spaces_spell(pattern, size, text), err);
    if (st == BORA_OK)
        *ret_split = bora_steal(&split);
    return st;
}

void bora_split_free(bora_split *split)
{
    if (!split)
        return;
    pcre2_code_free(split->code);
    pcre2_general_context_free(split->memory);
    bora_free(split);
}

bora_status bora_splitter_init(bora_splitter *splitter, const bora_split *split, bora_error *err)
{
    *splitter = (bora_splitter){.split = split,
                                .match = pcre2_match_data_create(1, split->memory),
                                .limits = pcre2_match_context_create(split->memory)};
    if (!splitter->match || !splitter->limits)
        return bora_fail(err, BORA_E_NOMEM, "splitting text");
    (void)pcre2_set_heap_limit(splitter->limits, HEAP_KIB_MAX); /* the setters cannot fail */
    return BORA_OK;
}

void bora_splitter_release(bora_splitter *splitter)
{
    pcre2_match_data_free(splitter->match);
    pcre2_match_context_free(splitter->limits);
    *splitter = (bora_splitter){0};
}

void bora_splitter_text(bora_splitter *splitter, const char *text, size_t size)
{
    splitter->text = text;
    splitter->size = size;
    splitter->at = 0;
    splitter->budget = WINDOW_FIRST + (size < SIZE_MAX / 2 / BUDGET_FACTOR ? size * BUDGET_FACTOR : SIZE_MAX / 2);
}

/* The end of a window of about n bytes: not within a character. */
static size_t window_end(const bora_splitter *splitter, size_t n)
{
    if (n >= splitter->size - splitter->at)
        return splitter->size;
    size_t end = splitter->at + n;
    while (((uint8_t)splitter->text[end] & 0xc0) == 0x80)
        end--;
    return end;
}

/* One match against the text up to end: PCRE2's code. */
static int match(bora_splitter *splitter, size_t end, size_t n_steps_max)
{
    (void)pcre2_set_match_limit(splitter->limits, n_steps_max < UINT32_MAX ? (uint32_t)n_steps_max : UINT32_MAX);
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (end < splitter->size ? PCRE2_PARTIAL_HARD : 0);
    const pcre2_code *code = splitter->split->code;
    PCRE2_SPTR text = (PCRE2_SPTR)splitter->text;
    int n = pcre2_match(code, text, end, splitter->at, options, splitter->match, splitter->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        n = pcre2_match(code, text, end, splitter->at, options | PCRE2_NO_JIT, splitter->match, splitter->limits);
    return n;
}

/* Matches in windows and with steps that grow as needed: PCRE2's code, PCRE2_ERROR_MATCHLIMIT if the budget is spent.
 */
static int match_within_budget(bora_splitter *splitter)
{
    size_t window = WINDOW_FIRST, n_steps_max = STEPS_FEW;
    splitter->n_steps++;
    for (;;) {
        size_t end = window_end(splitter, window), n_bytes = end - splitter->at;
        int n = match(splitter, end, n_steps_max);
        if (n == PCRE2_ERROR_PARTIAL)
            window *= 2;
        else if (n != PCRE2_ERROR_MATCHLIMIT || n_steps_max > STEPS_FEW)
            return n;
        n_steps_max = STEPS_FEW + STEPS_FACTOR * window;
        if (n_bytes > splitter->budget)
            return PCRE2_ERROR_MATCHLIMIT;
        splitter->budget -= n_bytes;
        splitter->n_steps += n_bytes;
    }
}

static size_t character_size(const char *text)
{
    uint8_t lead = (uint8_t)*text;
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

bora_status bora_splitter_next(bora_splitter *splitter, size_t *ret_start, size_t *ret_size, bora_error *err)
{
    *ret_start = splitter->at;
    *ret_size = 0;
    if (splitter->at == splitter->size)
        return BORA_OK;
    int n = match_within_budget(splitter);
    size_t size = 0;
    if (n >= 0) {
        PCRE2_SIZE end = pcre2_get_ovector_pointer(splitter->match)[1];
        if (end > splitter->at && end <= splitter->size) /* \K and look-behind can move it */
            size = end - splitter->at;
    } else if (n == PCRE2_ERROR_NOMEMORY) {
        return bora_fail(err, BORA_E_NOMEM, "splitting text");
    } else if (n != PCRE2_ERROR_NOMATCH) {
        return bora_fail(err, BORA_E_LIMIT, "the split expression takes too many steps at byte %zu (PCRE2: %d)",
                         splitter->at, n);
    }
    if (size == 0)
        size = character_size(splitter->text + splitter->at);
    splitter->at += size;
    *ret_size = size;
    return BORA_OK;
}
