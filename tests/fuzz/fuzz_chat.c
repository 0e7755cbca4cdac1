/* A conversation as JSON: read, checked, and laid out for every layout with a vocabulary that has all their marks. The
 * same bytes as a chat template choose a layout. */
#include "fuzz/fuzz.h"

#include "base/status.h"
#include "model/chat/chat.h"

#include <string.h>

#define N_CONTROLS BORA_ARRAY_SIZE(controls)

static const char *const controls[] = {"<unk>",
                                       "<s>",
                                       "</s>",
                                       "[INST]",
                                       "[/INST]",
                                       "[AVAILABLE_TOOLS]",
                                       "[/AVAILABLE_TOOLS]",
                                       "[TOOL_RESULTS]",
                                       "[/TOOL_RESULTS]",
                                       "[TOOL_CALLS]",
                                       "[SYSTEM_PROMPT]",
                                       "[/SYSTEM_PROMPT]",
                                       "[TOOL_CONTENT]"};

/* The marks, then a piece for every byte. Made once and kept. */
static const bora_tokenizer *tokenizer_get(void)
{
    static bora_tokenizer *tokenizer;
    static char bytes[256][8];
    static const char *pieces[N_CONTROLS + 256];
    static uint32_t sizes[N_CONTROLS + 256];
    static float scores[N_CONTROLS + 256];
    static int32_t types[N_CONTROLS + 256];
    if (tokenizer)
        return tokenizer;
    for (size_t i = 0; i < N_CONTROLS + 256; i++) {
        bool is_byte = i >= N_CONTROLS;
        if (is_byte)
            (void)snprintf(bytes[i - N_CONTROLS], sizeof bytes[0], "<0x%02X>", (unsigned)(i - N_CONTROLS));
        pieces[i] = is_byte ? bytes[i - N_CONTROLS] : controls[i];
        sizes[i] = (uint32_t)strlen(pieces[i]);
        types[i] = is_byte ? BORA_PIECE_BYTE : i == 0 ? BORA_PIECE_UNKNOWN : BORA_PIECE_CONTROL;
    }
    bora_vocab vocab = {.pieces = pieces,
                        .piece_sizes = sizes,
                        .scores = scores,
                        .types = types,
                        .n_pieces = N_CONTROLS + 256,
                        .bos_id = 1,
                        .eos_id = 2,
                        .unk_id = 0,
                        .add_dummy_prefix = true};
    FUZZ_CHECK(bora_tokenizer_new(&vocab, &tokenizer, NULL) == BORA_OK);
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const bora_chat_layout layouts[] = {BORA_CHAT_V1, BORA_CHAT_V2, BORA_CHAT_V3, BORA_CHAT_V7};
    const bora_tokenizer *tokenizer = tokenizer_get();
    bora_error err = {{0}};
    bora_chat *chat = NULL;
    bora_status st = bora_chat_read((const char *)data, size, &chat, &err);
    FUZZ_CHECK(st == BORA_OK || (!chat && err.message[0]));
    for (size_t i = 0; st == BORA_OK && i < BORA_ARRAY_SIZE(layouts); i++) {
        bora_tokens ids = {0};
        bora_status laid = bora_chat_encode(layouts[i], tokenizer, chat, &ids, &err);
        FUZZ_CHECK(laid == BORA_OK || laid == BORA_E_INVAL || laid == BORA_E_UNSUPPORTED);
        FUZZ_CHECK(laid == BORA_OK ? ids.n > 1 && ids.ids[0] == 1 : ids.n == 0);
        bora_tokens_release(&ids);
    }
    bora_chat_free(chat);
    bora_chat_layout layout = bora_chat_layout_of_template((const char *)data, size, tokenizer);
    FUZZ_CHECK(strcmp(bora_chat_layout_name(layout), "unknown") != 0 || layout == BORA_CHAT_UNKNOWN);
    return 0;
}
