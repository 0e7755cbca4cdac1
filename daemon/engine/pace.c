#include "engine/pace.h"

#define KEEP       0.8  /* of the old figure when a new one comes */
#define AUTO       1.8  /* times a step without prompts */
#define FIRST_ROWS 16.0 /* while nothing is known */

static void follow(double *figure, double value)
{
    *figure = *figure > 0.0 ? KEEP * *figure + (1.0 - KEEP) * value : value;
}

/* Where the time of a step of so many rows is kept, and of how many rows that time is. */
static uint32_t slot_of(uint64_t rows)
{
    uint64_t slot = rows <= BORA_PACE_EXACT
                        ? rows
                        : BORA_PACE_EXACT + (rows - BORA_PACE_EXACT + BORA_PACE_STRIDE - 1) / BORA_PACE_STRIDE;
    return slot < BORA_PACE_TIMES ? (uint32_t)slot : BORA_PACE_TIMES - 1;
}

static uint32_t rows_of(uint32_t slot)
{
    return slot <= BORA_PACE_EXACT ? slot : BORA_PACE_EXACT + (slot - BORA_PACE_EXACT) * BORA_PACE_STRIDE;
}

static bool is_known(const bora_pace *pace, uint32_t slot)
{
    return pace->times[slot].ns > 0.0 && pace->n_steps - pace->times[slot].learnt <= BORA_PACE_AGE_MAX;
}

static void learn_time(bora_pace *pace, uint64_t rows, double time)
{
    uint32_t slot = slot_of(rows);
    time *= (double)rows_of(slot) / (double)rows; /* as if it had been of that many */
    if (!is_known(pace, slot))
        pace->times[slot].ns = 0.0;
    follow(&pace->times[slot].ns, time);
    pace->times[slot].learnt = pace->n_steps;
}

void bora_pace_learn(bora_pace *pace, uint32_t n_decoding, uint32_t n_prompt, uint64_t ns)
{
    const double time = (double)ns, rows = (double)n_decoding + n_prompt;
    if (rows == 0.0)
        return;
    pace->n_steps++;
    if (n_decoding == 0) {
        follow(&pace->alone_ns, time / n_prompt);
        return;
    }
    if (n_prompt == 0) {
        if (pace->n_steps - pace->decode_learnt > BORA_PACE_AGE_MAX)
            pace->decode_ns = 0.0; /* what was is no guide any more */
        follow(&pace->decode_ns, time);
        pace->decode_learnt = pace->n_steps;
    } else if (pace->decode_ns > 0.0) {
        /* Rows beside the weights can be nearly free: not less than a tenth of the mean. */
        double added = (time - pace->decode_ns) / n_prompt, mean = time / rows;
        follow(&pace->row_ns, added > mean / 10.0 ? added : mean / 10.0);
    } else {
        follow(&pace->row_ns, time / rows);
    }
    learn_time(pace, (uint64_t)n_decoding + n_prompt, time);
}

bool bora_pace_is_due(const bora_pace *pace, uint32_t n_decoding, uint64_t max_step_ns)
{
    return n_decoding > 0 && max_step_ns == 0 &&
           (pace->decode_ns <= 0.0 || pace->n_steps - pace->decode_learnt >= BORA_PACE_AGE_MAX);
}

uint64_t bora_pace_limit(const bora_pace *pace, uint64_t max_step_ns)
{
    uint64_t limit = max_step_ns ? max_step_ns : (uint64_t)(AUTO * pace->decode_ns);
    return limit > BORA_PACE_FLOOR_NS || max_step_ns ? limit : BORA_PACE_FLOOR_NS;
}

static uint32_t clamp(double rows, uint32_t min, uint32_t max)
{
    min = min < max ? min : max;
    if (!(rows > min))
        return min;
    return rows < max ? (uint32_t)rows : max;
}

/* The known slots around one. */
typedef struct neighbours {
    uint32_t below, above; /* BORA_PACE_TIMES: none */
} neighbours;

/* From the times of slots that are known to that of one: between two a straight line, past the last as rows cost. */
static double guess(const bora_pace *pace, uint32_t slot, const neighbours *near, double row_ns)
{
    if (is_known(pace, slot))
        return pace->times[slot].ns;
    const double rows = rows_of(slot);
    if (near->below == BORA_PACE_TIMES)
        return near->above == BORA_PACE_TIMES ? pace->decode_ns + rows * row_ns : pace->times[near->above].ns;
    const double a = rows_of(near->below), a_ns = pace->times[near->below].ns;
    if (near->above == BORA_PACE_TIMES)
        return a_ns + (rows - a) * row_ns;
    const double b = rows_of(near->above), b_ns = pace->times[near->above].ns;
    return a_ns + (b_ns - a_ns) * (rows - a) / (b - a);
}

/* The prompt rows, beside those that decode, that get prompts on fastest within the limit. */
static uint32_t best_rows(const bora_pace *pace, uint32_t n_decoding, double limit, uint32_t n_max, double row_ns)
{
    neighbours near = {BORA_PACE_TIMES, 0};
    uint32_t best = 1;
    double best_speed = 0.0;
    for (uint32_t slot = 1; slot < BORA_PACE_TIMES; slot++) {
        const uint64_t rows = rows_of(slot);
        if (near.above <= slot && near.above != BORA_PACE_TIMES)
            for (near.above = slot + 1; near.above < BORA_PACE_TIMES && !is_known(pace, near.above);)
                near.above++;
        if (rows > n_decoding) {
            const double ns = guess(pace, slot, &near, row_ns);
            const uint64_t n = rows - n_decoding < n_max ? rows - n_decoding : n_max;
            const double speed = (double)(rows - n_decoding) / ns;
            if (ns <= limit && ns > 0.0 && speed > best_speed) {
                best_speed = speed;
                best = (uint32_t)n;
            }
            if (n == n_max)
                break;
        }
        if (is_known(pace, slot))
            near.below = slot;
    }
    /* More than there are times for. */
    return best == rows_of(BORA_PACE_TIMES - 1) - n_decoding && (double)n_max * row_ns <= limit ? n_max : best;
}

uint32_t bora_pace_rows(const bora_pace *pace, uint32_t n_decoding, uint64_t max_step_ns, uint32_t n_max)
{
    if (n_decoding == 0)
        return pace->alone_ns > 0.0 ? clamp((double)BORA_PACE_ALONE_NS / pace->alone_ns, BORA_PACE_ROWS_MIN, n_max)
                                    : clamp(BORA_PACE_ROWS_MIN, 1, n_max);
    double row_ns = pace->row_ns > 0.0 ? pace->row_ns : pace->alone_ns;
    if (row_ns <= 0.0)
        return clamp(FIRST_ROWS, 1, n_max);
    return best_rows(pace, n_decoding, (double)bora_pace_limit(pace, max_step_ns), n_max, row_ns);
}
