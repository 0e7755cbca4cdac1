#include "engine/pace.h"

#define KEEP       0.8  /* of the old figure when a new one comes */
#define AUTO       1.8  /* times a step without prompts */
#define FIRST_ROWS 16.0 /* while nothing is known */

static void follow(double *figure, double value)
{
    *figure = *figure > 0.0 ? KEEP * *figure + (1.0 - KEEP) * value : value;
}

void bora_pace_learn(bora_pace *pace, uint32_t n_decoding, uint32_t n_prompt, uint64_t ns)
{
    double time = (double)ns;
    if (n_prompt == 0) {
        if (n_decoding > 0)
            follow(&pace->decode_ns, time);
    } else if (n_decoding == 0) {
        follow(&pace->alone_ns, time / n_prompt);
    } else if (pace->decode_ns > 0.0) {
        /* Rows that ride along with the reading of the weights can be nearly free: not less than a tenth of the mean.
         */
        double added = (time - pace->decode_ns) / n_prompt, mean = time / (n_prompt + n_decoding);
        follow(&pace->row_ns, added > mean / 10.0 ? added : mean / 10.0);
    } else {
        follow(&pace->row_ns, time / (n_prompt + n_decoding));
    }
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

uint32_t bora_pace_rows(const bora_pace *pace, uint32_t n_decoding, uint64_t max_step_ns, uint32_t n_max)
{
    if (n_decoding == 0)
        return pace->alone_ns > 0.0 ? clamp((double)BORA_PACE_ALONE_NS / pace->alone_ns, BORA_PACE_ROWS_MIN, n_max)
                                    : clamp(BORA_PACE_ROWS_MIN, 1, n_max);
    double row_ns = pace->row_ns > 0.0 ? pace->row_ns : pace->alone_ns;
    double left_ns = (double)bora_pace_limit(pace, max_step_ns) - pace->decode_ns;
    return clamp(row_ns > 0.0 ? left_ns / row_ns : FIRST_ROWS, 1, n_max);
}
