/* From a chat template's text to the layout that it stands for. Templates are programs; none is run here. What tells
 * them apart is the marks that they write, so those are looked for, the later version's first. */
#include "model/chat/chat_private.h"

#include <string.h>

static bool has(const char *text, size_t size, const char *word)
{
    size_t n = strlen(word);
    for (const char *end = text + size; (size_t)(end - text) >= n; text++) {
        text = memchr(text, word[0], (size_t)(end - text) - n + 1);
        if (!text)
            return false;
        if (memcmp(text, word, n) == 0)
            return true;
    }
    return false;
}

/* The rules that the template follows; 0: none of ours. */
static unsigned version_of(const char *text, size_t size)
{
    /* Other families; <<SYS>> is Llama 2, which has [INST] too. */
    static const char *const foreign[] = {"<|im_start|>",    "<<SYS>>",         "<|start_header_id|>",
                                          "<start_of_turn>", "<|user|>",        "<|User|>",
                                          "<|assistant|>",   "### Instruction", "<|START_OF_TURN_TOKEN|>",
                                          "<|header_start|>"};
    /* v11 and v13: other tool messages and thinking. */
    static const char *const later[] = {"[ARGS]", "[CALL_ID]", "[THINK]"};
    for (size_t i = 0; i < BORA_ARRAY_SIZE(foreign); i++)
        if (has(text, size, foreign[i]))
            return 0;
    for (size_t i = 0; i < BORA_ARRAY_SIZE(later); i++)
        if (has(text, size, later[i]))
            return 0;
    if (!has(text, size, "[INST]") || !has(text, size, "[/INST]"))
        return 0;
    if (has(text, size, "[SYSTEM_PROMPT]") || has(text, size, "[TOOL_CONTENT]"))
        return 7;
    if (has(text, size, "[TOOL_RESULTS]") && !has(text, size, "call_id"))
        return 2;
    return has(text, size, "[AVAILABLE_TOOLS]") || has(text, size, "[TOOL_RESULTS]") ? 3 : 1;
}

bora_chat_layout bora_chat_layout_of_template(const char *text, size_t size, const bora_tokenizer *tokenizer)
{
    bool tekken = bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN;
    bora_chat_layout layout = BORA_CHAT_UNKNOWN;
    switch (version_of(text, size)) {
    case 1:
        /* Without tools the text is the same in all versions: [INST] is a control token where there is one. */
        layout = bora_tokenizer_control(tokenizer, "[INST]") < 0 ? BORA_CHAT_V1
                 : tekken                                        ? BORA_CHAT_V3_TEKKEN
                                                                 : BORA_CHAT_V3;
        break;
    case 2:
        layout = tekken ? BORA_CHAT_V3_TEKKEN : BORA_CHAT_V2;
        break;
    case 3:
        layout = tekken ? BORA_CHAT_V3_TEKKEN : BORA_CHAT_V3;
        break;
    case 7:
        layout = tekken ? BORA_CHAT_V7_TEKKEN : BORA_CHAT_V7;
        break;
    default:
        return BORA_CHAT_UNKNOWN;
    }
    return bora_chat_layout_check(layout, tokenizer, NULL) == BORA_OK ? layout : BORA_CHAT_UNKNOWN;
}
