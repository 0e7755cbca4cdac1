/* The layouts by name, and which of them a tokenizer speaks. */
#include "model/chat/chat_private.h"

#include <string.h>

static const struct {
    bora_chat_layout layout;
    unsigned version;
    const char *name;
} layouts[] = {
    {BORA_CHAT_AUTO, 0, "auto"},
    {BORA_CHAT_NONE, 0, "none"},
    {BORA_CHAT_V1, 1, "v1"},
    {BORA_CHAT_V2, 2, "v2"},
    {BORA_CHAT_V3, 3, "v3"},
    {BORA_CHAT_V7, 7, "v7"},
    {BORA_CHAT_V3_TEKKEN, 3, "v3-tekken"},
    {BORA_CHAT_V7_TEKKEN, 7, "v7-tekken"},
};

const char *bora_chat_layout_name(bora_chat_layout layout)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++)
        if (layouts[i].layout == layout)
            return layouts[i].name;
    return "unknown";
}

bool bora_chat_layout_parse(const char *name, bora_chat_layout *ret_layout)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++) {
        if (strcmp(layouts[i].name, name) == 0) {
            *ret_layout = layouts[i].layout;
            return true;
        }
    }
    return false;
}

unsigned bora_chat_version(bora_chat_layout layout)
{
    for (size_t i = 0; i < BORA_ARRAY_SIZE(layouts); i++)
        if (layouts[i].layout == layout)
            return layouts[i].version;
    return 0;
}

static bool has_pair(const bora_tokenizer *tokenizer, const char *begin, const char *end)
{
    return bora_tokenizer_control(tokenizer, begin) >= 0 && bora_tokenizer_control(tokenizer, end) >= 0;
}

bora_chat_layout bora_chat_layout_choose(const bora_tokenizer *tokenizer)
{
    bool tekken = bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN;
    uint32_t version = bora_tokenizer_version(tokenizer); /* Tekken's pieces tell v3 and v7 not always apart */
    if (bora_tokenizer_bos(tokenizer) < 0 || bora_tokenizer_eos(tokenizer) < 0)
        return BORA_CHAT_NONE;
    if (!has_pair(tokenizer, "[INST]", "[/INST]"))
        return tekken ? BORA_CHAT_NONE : BORA_CHAT_V1;
    if (has_pair(tokenizer, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]") && (version == 0 || version >= 7))
        return tekken ? BORA_CHAT_V7_TEKKEN : BORA_CHAT_V7;
    return tekken ? BORA_CHAT_V3_TEKKEN : BORA_CHAT_V3;
}

bora_status bora_chat_layout_check(bora_chat_layout layout, const bora_tokenizer *tokenizer, bora_error *err)
{
    const char *name = bora_chat_layout_name(layout);
    unsigned version = bora_chat_version(layout);
    if (layout == BORA_CHAT_NONE)
        return bora_fail(err, BORA_E_UNSUPPORTED, "the model has no chat layout");
    if (version == 0)
        return bora_fail(err, BORA_E_INVAL, "chat layout %d", layout);
    if (bora_tokenizer_bos(tokenizer) < 0 || bora_tokenizer_eos(tokenizer) < 0)
        return bora_fail(err, BORA_E_UNSUPPORTED, "chat layout %s needs BOS and EOS, the tokenizer has none", name);
    bool tekken = bora_tokenizer_kind(tokenizer) == BORA_TOKENIZER_TEKKEN;
    if (tekken != (layout == BORA_CHAT_V3_TEKKEN || layout == BORA_CHAT_V7_TEKKEN))
        return bora_fail(err, BORA_E_UNSUPPORTED, "chat layout %s is not for %s tokenizer", name,
                         tekken ? "a Tekken" : "a SentencePiece");
    if (version > 1 && !has_pair(tokenizer, "[INST]", "[/INST]"))
        return bora_fail(err, BORA_E_UNSUPPORTED, "chat layout %s needs [INST] and [/INST], the tokenizer has none",
                         name);
    if (version == 7 && !has_pair(tokenizer, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"))
        return bora_fail(err, BORA_E_UNSUPPORTED,
                         "chat layout %s needs [SYSTEM_PROMPT] and [/SYSTEM_PROMPT], the tokenizer has none", name);
    return BORA_OK;
}
