#include "engine/rate.h"

#include <stddef.h>

static void add_to_slot(bora_rate *rate, uint64_t number, uint64_t begun_ns, double n_prompt, double n_generated)
{
    const size_t i = number % BORA_RATE_SLOTS;
    if (rate->slots[i].number != number || rate->slots[i].begun_ns == 0) {
        rate->slots[i].number = number;
        rate->slots[i].begun_ns = begun_ns;
        rate->slots[i].n_prompt = rate->slots[i].n_generated = 0;
    }
    rate->slots[i].n_prompt += n_prompt;
    rate->slots[i].n_generated += n_generated;
}

void bora_rate_add(bora_rate *rate, uint64_t from_ns, uint64_t to_ns, uint64_t n_prompt, uint64_t n_generated)
{
    if (to_ns <= from_ns)
        to_ns = from_ns + 1;
    const uint64_t last = (to_ns - 1) / BORA_RATE_SLOT_NS;
    uint64_t number = from_ns / BORA_RATE_SLOT_NS;
    if (last - number >= BORA_RATE_SLOTS)
        number = last - BORA_RATE_SLOTS + 1; /* the rest has left the window */
    for (; number <= last; number++) {
        const uint64_t slot_begin = number * BORA_RATE_SLOT_NS, slot_end = slot_begin + BORA_RATE_SLOT_NS;
        const uint64_t begin = from_ns > slot_begin ? from_ns : slot_begin, end = to_ns < slot_end ? to_ns : slot_end;
        const double share = (double)(end - begin) / (double)(to_ns - from_ns);
        add_to_slot(rate, number, begin, share * (double)n_prompt, share * (double)n_generated);
    }
}

void bora_rate_get(const bora_rate *rate, uint64_t now_ns, double *ret_prompt, double *ret_generated)
{
    const uint64_t now = now_ns / BORA_RATE_SLOT_NS;
    uint64_t begun_ns = now_ns;
    double n_prompt = 0, n_generated = 0;
    for (size_t i = 0; i < BORA_RATE_SLOTS; i++) {
        const uint64_t number = rate->slots[i].number;
        if (rate->slots[i].begun_ns == 0 || number > now || now - number >= BORA_RATE_SLOTS)
            continue;
        n_prompt += rate->slots[i].n_prompt;
        n_generated += rate->slots[i].n_generated;
        if (rate->slots[i].begun_ns < begun_ns)
            begun_ns = rate->slots[i].begun_ns;
    }
    const double seconds = (double)(now_ns - begun_ns) / 1e9;
    *ret_prompt = seconds > 0 ? n_prompt / seconds : 0;
    *ret_generated = seconds > 0 ? n_generated / seconds : 0;
}
