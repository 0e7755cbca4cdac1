/* Chat templates for the files that we write: other programs run them (Jinja) to lay a chat out as the model learnt it.
 * bora itself chooses a layout by the marks in them and runs none.
 *
 * A layout encodes the text between two control tokens on its own, with a space before it where the tokenizer adds one.
 * Programs that go by tokenizer.ggml.add_space_prefix do the same, so the templates have no spaces of their own there.
 * Tool messages are left out. */
#include "model/gguf_export.h"

/* where: the user message that gets the system prompt, "first" or "last". */
#define TEMPLATE(open, close, answer, trim, where)                                                                     \
    "{{ bos_token }}"                                                                                                  \
    "{% if messages[0]['role'] == 'system' %}"                                                                         \
    "{% set system = messages[0]['content'] + '\\n\\n' %}{% set turns = messages[1:] %}"                               \
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"                                             \
    "{% for message in turns %}"                                                                                       \
    "{% if message['role'] == 'user' %}"                                                                               \
    "{{ '" open "' }}{% if loop." where " %}{{ system }}{% endif %}{{ message['content'] + '" close "' }}"             \
    "{% elif message['role'] == 'assistant' %}"                                                                        \
    "{{ '" answer "' + message['content']" trim " + eos_token }}"                                                      \
    "{% endif %}{% endfor %}"

#define TEMPLATE_1 TEMPLATE("[INST] ", " [/INST]", " ", "", "first")
#define TEMPLATE_3 TEMPLATE("[INST]", "[/INST]", "", ".rstrip(' ')", "last")

/* From v7 on the system prompt has marks of its own and stays where it is. */
#define TEMPLATE_7                                                                                                     \
    "{{ bos_token }}{% for message in messages %}"                                                                     \
    "{% if message['role'] == 'system' %}"                                                                             \
    "{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"                                                \
    "{% elif message['role'] == 'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}"                              \
    "{% elif message['role'] == 'assistant' %}{{ message['content'].rstrip(' ') + eos_token }}"                        \
    "{% endif %}{% endfor %}"

const char *bora_gguf_template(bora_chat_layout layout)
{
    static const struct {
        bora_chat_layout layout;
        const char *text;
    } templates[] = {
        {BORA_CHAT_V1, TEMPLATE_1},
        {BORA_CHAT_V2, "{# tools would be [AVAILABLE_TOOLS] and [TOOL_RESULTS] #}" TEMPLATE_3}, /* else it is v3's */
        {BORA_CHAT_V3, TEMPLATE_3},
        {BORA_CHAT_V3_TEKKEN, TEMPLATE_3},
        {BORA_CHAT_V7, TEMPLATE_7},
        {BORA_CHAT_V7_TEKKEN, TEMPLATE_7},
    };
    for (size_t i = 0; i < BORA_ARRAY_SIZE(templates); i++)
        if (templates[i].layout == layout)
            return templates[i].text;
    return NULL;
}
