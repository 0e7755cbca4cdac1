/* The chat template of a Hugging Face folder: chat_template.jinja, or a member of tokenizer_config.json, which is a
 * text or a list of named ones. It is looked at for the layout it stands for, never run. */
#include "model/folder.h"
#include "model/json_keys.h"

#include "base/memory.h"

#include <string.h>

static void take(bora_model *model, const char *text, size_t size)
{
    if (size > 0)
        model->template_layout = bora_chat_layout_of_template(text, size, model->tokenizer);
}

/* Of several the one called "default". */
static const char *find_template(const json_t *config)
{
    const json_t *value = bora_json_find(config, "chat_template");
    if (!json_is_array(value))
        return json_string_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(one, "template"));
    }
    return NULL;
}

bora_status bora_folder_template(bora_model *model, const bora_folder *folder, bora_error *err)
{
    static const char config_name[] = "tokenizer_config.json";
    BORA_CLEANUP(bora_freep) char *text = NULL;
    size_t size = 0;
    if (!model->tokenizer)
        return BORA_OK;
    bora_status st = bora_folder_text(folder, "chat_template.jinja", &text, &size, err);
    if (st == BORA_OK)
        take(model, text, size);
    if (st != BORA_E_NOT_FOUND)
        return st;
    st = bora_folder_text(folder, config_name, &text, &size, err);
    if (st != BORA_OK)
        return st == BORA_E_NOT_FOUND ? BORA_OK : st;
    BORA_CLEANUP(bora_json_freep) json_t *config = NULL;
    st = bora_folder_in_file(bora_json_parse(text, size, &config, err), config_name, err);
    const char *found = st == BORA_OK ? find_template(config) : NULL;
    if (found)
        take(model, found, strlen(found));
    return st;
}
