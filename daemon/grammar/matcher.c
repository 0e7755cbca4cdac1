/* One answer's place in a grammar, and the tokens that may come next: the vocabulary's tree is walked together with the
 * machine; where a byte does not fit, all tokens under it are passed over. Masks are kept for a while, since an answer
 * comes back to the same place again and again.
 *
 * So that an answer is whole when its tokens are used up, a token may only come if what is then missing fits in the
 * rest, a token for each byte. That rules tokens out only near the end: each mask knows how far its tokens lead at the
 * most, and while that fits nothing else is done. */
#include "grammar/machine.h"
#include "grammar/vocabulary.h"

#include "base/memory.h"

#include <string.h>

#define MASKS    32u               /* kept */
#define WORK_MAX UINT64_C(3000000) /* of one mask or token: some tens of milliseconds */

typedef struct kept_mask {
    uint64_t *bits; /* [n_words] NULL: none yet */
    uint32_t set;
    uint32_t start;    /* START_* */
    uint32_t farthest; /* behind no token that it allows more bytes are missing */
    uint64_t used;     /* when; 0: holds nothing */
} kept_mask;

typedef struct waypoint {
    uint32_t set;
    bool is_near; /* tokens that lead there are in the mask */
} waypoint;

/* How the answer's start is written: a first space may be dropped there, and a token that is nothing else is no text.
 */
#define START_NONE    0u /* there was text, or nothing is dropped */
#define START_DROPS   1u /* before the first token */
#define START_DROPPED 2u /* after a token that was only that space, and the decoder would drop another */

struct bora_matcher {
    bora_grammar *grammar;
    const bora_vocabulary *vocabulary;
    bora_machine *machine;
    uint32_t set;
    uint32_t start; /* START_* */
    bool has_ended; /* by the end-of-text token */
    size_t n_words;
    kept_mask masks[MASKS];
    uint64_t clock;
    uint64_t *no_bits; /* [n_words] zero */
    uint64_t *fitting; /* [n_words] the last mask that leaves something out because it is too far; NULL: none yet */
    waypoint *path;    /* [depth_max + 1] the set at each depth of the walk */
};

static void masks_forget(bora_matcher *m)
{
    for (size_t i = 0; i < MASKS; i++)
        m->masks[i].used = 0;
}

static bora_status matcher_init(bora_matcher *m, bora_error *err)
{
    m->n_words = (m->vocabulary->n_tokens + 63) / 64;
    m->no_bits = bora_calloc(m->n_words, sizeof *m->no_bits);
    m->path = bora_calloc(m->vocabulary->depth_max + 1, sizeof *m->path);
    if (!m->no_bits || !m->path)
        return bora_fail(err, BORA_E_NOMEM, "matcher for %zu tokens", m->vocabulary->n_tokens);
    return bora_machine_new(m->grammar, &m->machine, err);
}

bora_status bora_matcher_new(bora_grammar *grammar, const bora_vocabulary *vocabulary, bool continues_text,
                             bora_matcher **ret_matcher, bora_error *err)
{
    bora_matcher *m = bora_calloc(1, sizeof *m);
    if (!m)
        return bora_fail(err, BORA_E_NOMEM, "matcher");
    m->grammar = bora_grammar_ref(grammar);
    m->vocabulary = vocabulary;
    m->start = continues_text || !vocabulary->drops_space ? START_NONE : START_DROPS;
    bora_status st = matcher_init(m, err);
    if (st == BORA_OK) {
        bora_machine_budget(m->machine, WORK_MAX);
        st = bora_machine_start(m->machine, &m->set, err);
    }
    if (st != BORA_OK) {
        bora_matcher_free(m);
        return st;
    }
    *ret_matcher = m;
    return BORA_OK;
}

bora_status bora_matcher_clone(const bora_matcher *matcher, bora_matcher **ret_matcher, bora_error *err)
{
    bora_matcher *m = bora_calloc(1, sizeof *m);
    if (!m)
        return bora_fail(err, BORA_E_NOMEM, "matcher");
    m->grammar = bora_grammar_ref(matcher->grammar);
    m->vocabulary = matcher->vocabulary;
    m->start = matcher->start;
    m->has_ended = matcher->has_ended;
    bora_status st = matcher_init(m, err);
    if (st == BORA_OK)
        st = bora_machine_copy(matcher->machine, matcher->set, m->machine, &m->set, err);
    if (st != BORA_OK) {
        bora_matcher_free(m);
        return st;
    }
    *ret_matcher = m;
    return BORA_OK;
}

void bora_matcher_free(bora_matcher *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < MASKS; i++)
        bora_free(m->masks[i].bits);
    bora_machine_free(m->machine);
    bora_free(m->no_bits);
    bora_free(m->fitting);
    bora_free(m->path);
    bora_grammar_unref(m->grammar);
    bora_free(m);
}

/* Leaves behind what the machine has kept, when it is much, and takes the place of now along. */
static bora_status trim(bora_matcher *m, bora_error *err)
{
    if (!bora_machine_is_full(m->machine))
        return BORA_OK;
    bora_machine *fresh = NULL;
    uint32_t set = 0;
    bora_status st = bora_machine_new(m->grammar, &fresh, err);
    if (st == BORA_OK)
        st = bora_machine_copy(m->machine, m->set, fresh, &set, err);
    if (st != BORA_OK) {
        bora_machine_free(fresh);
        return st;
    }
    bora_machine_free(m->machine);
    m->machine = fresh;
    m->set = set;
    masks_forget(m);
    return BORA_OK;
}

/* ---- masks ------------------------------------------------------------------------------------------------------- */

/* A mask in the making: of the tokens behind which no more than within bytes are missing. */
typedef struct draft {
    uint64_t *bits;    /* [n_words] */
    uint32_t within;   /* BORA_DISTANCE_FAR: all */
    uint32_t farthest; /* the most that are missing behind one that is in it, or behind its beginning */
} draft;

/* True, and noted, if tokens that lead to set are in the mask. */
static bool is_near(const bora_matcher *m, draft *d, uint32_t set)
{
    uint32_t distance = bora_machine_distance(m->machine, set);
    if (distance > d->within)
        return false;
    d->farthest = distance > d->farthest ? distance : d->farthest;
    return true;
}

static void allow(draft *d, int32_t token)
{
    d->bits[token / 64] |= UINT64_C(1) << (token % 64);
}

static void allow_all_at(const bora_vocabulary *v, uint32_t node, draft *d)
{
    for (uint32_t i = v->nodes[node].first; i < v->nodes[node + 1].first; i++)
        allow(d, v->tokens[i]);
}

/* Allows the tokens of the nodes from begin up to end, whose depths begin behind depth, read from set. */
static bora_status walk(bora_matcher *m, uint32_t begin, uint32_t end, uint32_t depth, uint32_t set, draft *d,
                        bora_error *err)
{
    const bora_vocabulary *v = m->vocabulary;
    m->path[depth] = (waypoint){set, is_near(m, d, set)};
    for (uint32_t i = begin; i < end;) {
        const bora_trie_node *node = &v->nodes[i];
        uint32_t next = BORA_SET_DEAD;
        bora_status st = bora_machine_step(m->machine, m->path[node->depth - 1].set, node->byte, &next, err);
        if (st != BORA_OK)
            return st;
        if (next == BORA_SET_DEAD) {
            i = node->skip;
            continue;
        }
        waypoint *here = &m->path[node->depth];
        if (here->set != next) /* it is rarely another than the last one so deep was */
            *here = (waypoint){next, is_near(m, d, next)};
        if (here->is_near)
            allow_all_at(v, i, d);
        i++;
    }
    return BORA_OK;
}

/* At the start of an answer: the space that tokens begin with is not read; byte tokens are as anywhere. */
static bora_status walk_space(bora_matcher *m, draft *d, bora_error *err)
{
    const bora_vocabulary *v = m->vocabulary;
    const uint32_t space = v->space_node;
    uint32_t behind = BORA_SET_DEAD;
    bora_status st = bora_machine_step(m->machine, m->set, ' ', &behind, err);
    for (uint32_t i = v->nodes[space].first; i < v->nodes[space + 1].first && st == BORA_OK; i++) {
        int32_t token = v->tokens[i];
        bool drops = v->kinds[token] & BORA_TOKEN_DROPS;
        if ((drops ? m->start == START_DROPS : behind != BORA_SET_DEAD) && is_near(m, d, drops ? m->set : behind))
            allow(d, token);
    }
    return st == BORA_OK ? walk(m, space + 1, v->nodes[space].skip, 1, m->set, d, err) : st;
}

static bora_status mask_make(bora_matcher *m, draft *d, bora_error *err)
{
    const bora_vocabulary *v = m->vocabulary;
    bora_status st = BORA_OK;
    memset(d->bits, 0, m->n_words * sizeof *d->bits);
    for (uint32_t i = 0; i <= v->depth_max; i++)
        m->path[i] = (waypoint){.set = BORA_SET_DEAD};
    bora_machine_budget(m->machine, WORK_MAX);
    if (m->start == START_NONE || !v->space_node) {
        st = walk(m, 1, (uint32_t)v->n_nodes, 0, m->set, d, err);
    } else {
        st = walk(m, 1, v->space_node, 0, m->set, d, err);
        if (st == BORA_OK)
            st = walk_space(m, d, err);
        if (st == BORA_OK)
            st = walk(m, v->nodes[v->space_node].skip, (uint32_t)v->n_nodes, 0, m->set, d, err);
    }
    if (st == BORA_OK && bora_machine_is_complete(m->machine, m->set))
        allow(d, v->eos);
    return st;
}

/* The mask of the place of now, whatever is left: kept, or made. */
static bora_status mask_keep(bora_matcher *m, const kept_mask **ret_kept, bora_error *err)
{
    kept_mask *oldest = &m->masks[0];
    for (size_t i = 0; i < MASKS; i++) {
        kept_mask *kept = &m->masks[i];
        if (kept->used && kept->set == m->set && kept->start == m->start) {
            kept->used = ++m->clock;
            *ret_kept = kept;
            return BORA_OK;
        }
        if (kept->used < oldest->used)
            oldest = kept;
    }
    if (!oldest->bits)
        oldest->bits = bora_calloc(m->n_words, sizeof *oldest->bits);
    if (!oldest->bits)
        return bora_fail(err, BORA_E_NOMEM, "mask of %zu tokens", m->vocabulary->n_tokens);
    oldest->used = 0;
    draft d = {.bits = oldest->bits, .within = BORA_DISTANCE_FAR};
    bora_status st = mask_make(m, &d, err);
    if (st != BORA_OK)
        return st;
    if (memcmp(oldest->bits, m->no_bits, m->n_words * sizeof *oldest->bits) == 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "no token of the vocabulary continues the text");
    oldest->set = m->set;
    oldest->start = m->start;
    oldest->farthest = d.farthest;
    oldest->used = ++m->clock;
    *ret_kept = oldest;
    return BORA_OK;
}

bora_status bora_matcher_mask(bora_matcher *m, uint32_t n_left, const uint64_t **ret_mask, bora_error *err)
{
    if (m->has_ended) {
        *ret_mask = m->no_bits;
        return BORA_OK;
    }
    const kept_mask *kept = NULL;
    bora_status st = trim(m, err);
    if (st == BORA_OK)
        st = mask_keep(m, &kept, err);
    if (st != BORA_OK)
        return st;
    /* Of the tokens that are left, one is this one and one ends the text. */
    bool all_fit = n_left >= 2 && kept->farthest <= n_left - 2;
    bool none_fits = n_left < 1 || bora_machine_distance(m->machine, m->set) > n_left - 1;
    if (all_fit || none_fits || !m->vocabulary->has_bytes) {
        *ret_mask = kept->bits;
        return BORA_OK;
    }
    if (!m->fitting)
        m->fitting = bora_calloc(m->n_words, sizeof *m->fitting);
    if (!m->fitting)
        return bora_fail(err, BORA_E_NOMEM, "mask of %zu tokens", m->vocabulary->n_tokens);
    draft d = {.bits = m->fitting, .within = n_left - 2};
    if (n_left >= 2) {
        st = mask_make(m, &d, err);
    } else { /* the text is whole, and ends here */
        memset(d.bits, 0, m->n_words * sizeof *d.bits);
        allow(&d, m->vocabulary->eos);
    }
    if (st == BORA_OK)
        *ret_mask = m->fitting;
    return st;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static bora_status refused(int32_t token, bora_error *err)
{
    return bora_fail(err, BORA_E_INVAL, "token %d does not fit the grammar here", token);
}

bora_status bora_matcher_accept(bora_matcher *m, int32_t token, bora_error *err)
{
    const bora_vocabulary *v = m->vocabulary;
    if (m->has_ended || token < 0 || (size_t)token >= v->n_tokens)
        return refused(token, err);
    if (token == v->eos) {
        if (!bora_machine_is_complete(m->machine, m->set))
            return refused(token, err);
        m->has_ended = true;
        return BORA_OK;
    }
    bora_status st = v->kinds[token] == BORA_TOKEN_NONE ? refused(token, err) : trim(m, err);
    if (st != BORA_OK)
        return st;
    bool drops = m->start != START_NONE && (v->kinds[token] & BORA_TOKEN_DROPS);
    uint32_t from = v->starts[token] + drops, end = v->starts[token + 1], set = m->set;
    if (drops && from == end && m->start == START_DROPPED)
        return refused(token, err);
    bora_machine_budget(m->machine, WORK_MAX);
    for (uint32_t i = from; i < end; i++) {
        st = bora_machine_step(m->machine, set, (uint8_t)v->bytes[i], &set, err);
        if (st != BORA_OK)
            return st;
        if (set == BORA_SET_DEAD)
            return refused(token, err);
    }
    m->start = drops && from == end && v->drops_again ? START_DROPPED : START_NONE;
    m->set = set;
    return BORA_OK;
}

bool bora_matcher_is_complete(const bora_matcher *m)
{
    return m->has_ended || bora_machine_is_complete(m->machine, m->set);
}

bool bora_matcher_must_end(const bora_matcher *m)
{
    return m->has_ended || (bora_machine_is_complete(m->machine, m->set) && bora_machine_is_final(m->machine, m->set));
}

size_t bora_matcher_size(const bora_matcher *m)
{
    size_t n_masks = 1 + (m->fitting != NULL); /* with no_bits */
    for (size_t i = 0; i < MASKS; i++)
        n_masks += m->masks[i].bits != NULL;
    return sizeof *m + n_masks * m->n_words * sizeof(uint64_t) + (m->vocabulary->depth_max + 1) * sizeof *m->path +
           bora_machine_size(m->machine);
}
