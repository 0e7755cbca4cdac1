/* model: what is loaded. */
#include "server/server_private.h"

bora_status bora_verb_model(bora_request *request, bora_error *err)
{
    (void)err;
    const bora_server_options *server = &request->server->options;
    const bora_hparams *h = bora_model_hparams(server->model);
    bora_pack pack;
    bora_request_begin(request, "result", &pack);
    bora_pack_string(&pack, "name", bora_model_name(server->model));
    bora_pack_string(&pack, "path", bora_model_path(server->model));
    bora_pack_string(&pack, "format", bora_model_format(server->model));
    bora_pack_string(&pack, "fingerprint", bora_model_fingerprint(server->model));
    bora_pack_string(&pack, "layout", bora_chat_layout_name(bora_model_layout(server->model)));
    bora_pack_uint(&pack, "n_layers", h->n_layers);
    bora_pack_uint(&pack, "dim", h->dim);
    bora_pack_uint(&pack, "hidden_dim", h->hidden_dim);
    bora_pack_uint(&pack, "n_heads", h->n_heads);
    bora_pack_uint(&pack, "n_kv_heads", h->n_kv_heads);
    bora_pack_uint(&pack, "head_dim", h->head_dim);
    bora_pack_uint(&pack, "vocab_size", h->vocab_size);
    bora_pack_uint(&pack, "n_experts", h->n_experts);
    bora_pack_uint(&pack, "n_experts_per_tok", h->n_experts_per_tok);
    bora_pack_uint(&pack, "context", bora_pipeline_options_of(server->pipeline)->max_positions);
    bora_pack_array(&pack, "windows");
    for (uint32_t layer = 0; layer < h->n_layers; layer++)
        bora_pack_uint(&pack, NULL, bora_hparams_window(h, layer));
    bora_pack_end(&pack);
    bora_pack_string(&pack, "window_source", bora_model_window_source(server->model));
    bora_pack_float(&pack, "rope_theta", (double)h->rope_theta);
    bora_pack_float(&pack, "norm_eps", (double)h->norm_eps);
    bora_pack_uint(&pack, "n_parameters", bora_model_n_parameters(server->model));
    bora_pack_uint(&pack, "n_active_parameters", bora_model_n_active(server->model));
    bora_pack_uint(&pack, "weight_bytes", bora_model_size(server->model));
    char types[256];
    bora_model_types_text(server->model, types, sizeof types);
    bora_pack_string(&pack, "tensor_types", types);
    bora_pack_uint(&pack, "kv_bytes_per_token", bora_pipeline_kv_position_size(server->pipeline));
    const uint64_t session_max = bora_pipeline_kv_sequence_max(server->pipeline);
    bora_pack_uint(&pack, "kv_bytes_per_session", session_max);
    bora_pack_uint(&pack, "memory_bytes",
                   bora_model_size(server->model) + bora_model_copied_size(server->model) + session_max);
    bora_request_end(request, &pack);
    return BORA_OK;
}
