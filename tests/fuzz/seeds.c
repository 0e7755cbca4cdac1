/* Writes the seed corpus: small whole files of every format, a few truncated ones and a few that lie. Run by hand
 * (`make fuzz-seeds`) when a format changes; what it writes is committed, beside inputs that once broke something. */
#include "fuzz/fuzz.h"

#include "codec.h"
#include "fuzz/shapes.h"
#include "support/safetensors_writer.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static const char *root;

static void save(const char *name, const void *data, size_t size)
{
    char path[1024];
    FUZZ_CHECK((size_t)snprintf(path, sizeof path, "%s/%s", root, name) < sizeof path);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    (void)mkdir(path, 0777); /* it may be there */
    *slash = '/';
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static void save_text(const char *name, const char *text)
{
    save(name, text, strlen(text));
}

/* ---- gguf ------------------------------------------------------------------------------------------------------ */

static void gguf_save(bora_gguf_writer *writer, const char *name, size_t percent)
{
    size_t size = 0;
    uint8_t *bytes = bora_gguf_writer_bytes(writer, &size);
    save(name, bytes, size * percent / 100);
    free(bytes);
}

static void gguf_seeds(void)
{
    static bora_gguf_writer writer;
    bora_tiny_model shape = FUZZ_DENSE_MODEL;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &shape);
    gguf_save(&writer, "gguf/dense-f32", 100);
    gguf_save(&writer, "gguf/truncated", 80);
    writer.tensors[1].offset = UINT64_MAX - 31;
    gguf_save(&writer, "gguf/lying-offset", 100);
    writer.tensors[1].offset = 32;
    writer.tensors[1].dims[0] = UINT64_C(1) << 62;
    gguf_save(&writer, "gguf/lying-shape", 100);
    writer.n_tensors_extra = INT64_C(1) << 40;
    gguf_save(&writer, "gguf/lying-count", 100);
    bora_gguf_writer_release(&writer);

    shape.vocab_size = 272;
    shape.without_vocabulary = false;
    shape.tied = true;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &shape);
    gguf_save(&writer, "gguf/vocabulary", 100);
    bora_gguf_writer_release(&writer);

    shape = FUZZ_DENSE_MODEL;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &shape);
    bora_gguf_writer_string(&writer, "tokenizer.ggml.model", "llama");
    bora_gguf_writer_strings(&writer, "tokenizer.ggml.tokens", (const char *const[]){"<unk>", "<s>", "a", "ab"}, 4);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.scores", BORA_WRITER_F32, (const float[4]){0}, 4, 4);
    bora_gguf_writer_array(&writer, "tokenizer.ggml.token_type", BORA_WRITER_I32, (const int32_t[]){2, 3, 1, 4}, 4, 4);
    bora_gguf_writer_u32(&writer, "tokenizer.ggml.unknown_token_id", 0);
    bora_gguf_writer_bool(&writer, "tokenizer.ggml.add_space_prefix", false);
    bora_gguf_writer_bool(&writer, "tokenizer.ggml.remove_extra_whitespaces", true);
    gguf_save(&writer, "gguf/vocabulary-without-bytes", 100);
    bora_gguf_writer_release(&writer);

    shape = FUZZ_DENSE_MODEL;
    shape.dim = shape.hidden_dim = shape.head_dim = 32;
    shape.n_experts = 2;
    shape.type = BORA_WRITER_TENSOR_Q8_0;
    bora_gguf_writer_init(&writer);
    bora_gguf_writer_model(&writer, &shape);
    gguf_save(&writer, "gguf/mixture-q8_0", 100);
    bora_gguf_writer_release(&writer);

    shape.dim = shape.hidden_dim = shape.head_dim = 4;
    shape.n_layers = 2;
    shape.split_experts = true;
    shape.type = BORA_WRITER_TENSOR_BF16;
    bora_gguf_writer_init(&writer);
    writer.version = 2;
    writer.alignment = 8;
    bora_gguf_writer_u32(&writer, "general.alignment", 8);
    bora_gguf_writer_array(&writer, "llama.attention.sliding_window", BORA_WRITER_I32, (const int32_t[]){16, 0}, 2, 4);
    bora_gguf_writer_model(&writer, &shape);
    gguf_save(&writer, "gguf/split-bf16-windows", 100);
    bora_gguf_writer_release(&writer);
}

/* ---- safetensors and params.json ------------------------------------------------------------------------------- */

static void safetensors_seeds(void)
{
    size_t data_size = 0, size = 0;
    static const char extra[] = "\"__metadata__\":{\"format\":\"pt\"},"
                                "\"rope.freqs\":{\"dtype\":\"BF16\",\"shape\":[1,2,2],\"data_offsets\":[0,8]},";
    char *header = bora_writer_native_header(&FUZZ_DENSE_MODEL, extra, 0, 1, true, &data_size);
    uint8_t *bytes = bora_safetensors_bytes(header, data_size, &size);
    save("safetensors/dense", bytes, size);
    save("safetensors/truncated", bytes, size - 7);
    save("safetensors/truncated-header", bytes, 100);
    bytes[7] = 0xff;
    save("safetensors/lying-size", bytes, size);
    free(bytes);
    free(header);
    static const char lying[] = "{\"norm.weight\":{\"dtype\":\"F16\",\"shape\":[4611686018427387904,4,4],"
                                "\"data_offsets\":[9223372036854775807,9223372036854775807]}}";
    bytes = bora_safetensors_bytes(lying, 16, &size);
    save("safetensors/lying-shape", bytes, size);
    free(bytes);
}

static void params_seeds(void)
{
    bora_tiny_model shape = FUZZ_DENSE_MODEL;
    char *params = bora_writer_native_params(&shape, ", \"rope_theta\": 1000000.0, \"max_seq_len\": 32768");
    save_text("params/dense", params);
    save("params/truncated", params, strlen(params) / 2);
    free(params);
    shape.n_experts = 8;
    shape.n_experts_per_tok = 2;
    shape.n_layers = 4;
    params = bora_writer_native_params(&shape, ", \"_sliding_window\": [4096, null], \"something_new\": {\"a\": [1]}");
    save_text("params/mixture-windows", params);
    free(params);
    save_text("params/lying", "{\"dim\": -1, \"n_layers\": 4294967297, \"hidden_dim\": 1e300, \"n_heads\": 0.5}");
    save_text("params/refused", "{\"yarn\": {\"factor\": 4}, \"rope_scaling\": null, \"\\ud800\": NaN}");
}

static void huggingface_seeds(void)
{
    save_text("huggingface/dense",
              "{\"architectures\":[\"MistralForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":16,"
              "\"num_hidden_layers\":4,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":null,"
              "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"sliding_window\":4096,\"vocab_size\":320,"
              "\"hidden_act\":\"silu\",\"tie_word_embeddings\":false,\"layer_types\":[\"full_attention\","
              "\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}");
    save_text("huggingface/mixture",
              "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":16,"
              "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-05,"
              "\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_type\":\"default\"},\"sliding_window\":null,"
              "\"vocab_size\":320,\"num_local_experts\":8,\"num_experts_per_tok\":2,"
              "\"max_position_embeddings\":32768}");
    save_text("huggingface/refused",
              "{\"architectures\":[\"MistralForCausalLM\"],\"rope_scaling\":{\"type\":\"linear\",\"factor\":1e300},"
              "\"hidden_size\":-8,\"quantization_config\":{\"quant_method\":\"awq\"}}");
    save_text("huggingface/index",
              "{\"metadata\":{\"total_size\":0},\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
              "\"b\":\"model-00002-of-00002.safetensors\",\"c\":\"model-00001-of-00002.safetensors\"}}");
    save_text("huggingface/index-elsewhere",
              "{\"weight_map\":{\"a\":\"../../x.safetensors\",\"b\":\"/.safetensors\"}}");
}

/* ---- tokenizer --------------------------------------------------------------------------------------------------- */

/* A protobuf message under construction. */
typedef struct message {
    uint8_t bytes[16384];
    size_t size;
} message;

static void put_varint(message *to, uint64_t value)
{
    do {
        FUZZ_CHECK(to->size < sizeof to->bytes);
        to->bytes[to->size++] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        value >>= 7;
    } while (value);
}

static void put_int(message *to, uint32_t field, uint64_t value)
{
    put_varint(to, field << 3);
    put_varint(to, value);
}

static void put_bytes(message *to, uint32_t field, const void *data, size_t size)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, size);
    FUZZ_CHECK(size <= sizeof to->bytes - to->size);
    memcpy(to->bytes + to->size, data, size);
    to->size += size;
}

static void put_piece(message *model, const char *text, float score, int type)
{
    message piece = {.size = 0};
    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    memcpy(piece.bytes + piece.size, &score, sizeof score);
    piece.size += sizeof score;
    if (type != 1)
        put_int(&piece, 3, (uint64_t)type);
    put_bytes(model, 1, piece.bytes, piece.size);
}

/* Pieces for text, with every type but bytes; the text to encode stands in a field that nobody knows. */
static void model_make(message *model, bool with_bytes, bool with_unused, bool squeezes)
{
    static const char text[] = "abc  abab@@@a\xc3\xa9\xff<s> \xe2\x96\x81[INST] ??";
    static const char *const pieces[] = {"ab",
                                         "abc",
                                         "\xe2\x96\x81",
                                         "a",
                                         "b",
                                         "c",
                                         "\xe2\x96\x81"
                                         "a",
                                         "ba",
                                         "\xc3\xa9"};
    model->size = 0;
    put_piece(model, "<unk>", 0, 2);
    put_piece(model, "<s>", 0, 3);
    put_piece(model, "</s>", 0, 3);
    put_piece(model, "[INST]", 0, 3);
    put_piece(model, "@@", 0, 4);
    put_piece(model, "@\xe2\x96\x81", 0, 4);
    for (int i = 0; i < 9; i++)
        put_piece(model, pieces[i], -(float)i, with_unused && i % 3 == 0 ? 5 : 1);
    for (unsigned byte = 0; with_bytes && byte < 256; byte++) {
        char name[8];
        (void)snprintf(name, sizeof name, "<0x%02X>", byte); /* fits */
        put_piece(model, name, 0, 6);
    }
    message trainer = {.size = 0}, normaliser = {.size = 0};
    put_int(&trainer, 3, 2);
    put_int(&trainer, 35, with_bytes);
    put_int(&trainer, 41, 1);
    put_int(&trainer, 42, 2);
    put_bytes(model, 2, trainer.bytes, trainer.size);
    put_bytes(&normaliser, 1, "identity", 8);
    put_int(&normaliser, 3, 1);
    put_int(&normaliser, 4, squeezes);
    put_int(&normaliser, 5, 1);
    put_bytes(model, 3, normaliser.bytes, normaliser.size);
    put_bytes(model, 300, text, sizeof text - 1);
}

static void tokenizer_seeds(void)
{
    static message model;
    model_make(&model, false, false, false);
    save("tokenizer/plain", model.bytes, model.size);
    save("tokenizer/truncated", model.bytes, model.size / 2);
    model.bytes[1] = 0xff; /* the first piece's size */
    save("tokenizer/lying-size", model.bytes, model.size);
    model_make(&model, false, true, true);
    save("tokenizer/unused-squeezed", model.bytes, model.size);
    model_make(&model, true, false, false);
    save("tokenizer/bytes", model.bytes, model.size);
}

/* ---- Tekken ------------------------------------------------------------------------------------------------------ */

#define TEKKEN_PATTERN                                                                                                 \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{M}]*[\\\\p{Ll}\\\\p{M}]+|\\\\p{N}| "                                \
    "?[^\\\\s\\\\p{L}]+|\\\\s+(?!\\\\S)|\\\\s+"

/* A file with so many of the single bytes, and two merges if those are all. */
static void tekken_save(const char *name, unsigned n_bytes, const char *more)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static char text[65536];
    size_t n = (size_t)snprintf(text, sizeof text,
                                "{\"config\":{\"pattern\":\"" TEKKEN_PATTERN "\",\"num_vocab_tokens\":258,"
                                "\"default_vocab_size\":274,\"default_num_special_tokens\":16,\"version\":\"v3\"},"
                                "%s\"vocab\":[",
                                more);
    for (unsigned byte = 0; byte < n_bytes; byte++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"rank\":%u,\"token_bytes\":\"%c%c==\"},", byte,
                              digits[byte >> 2], digits[(byte & 3) << 4]);
    n += (size_t)snprintf(text + n, sizeof text - n,
                          "{\"rank\":256,\"token_bytes\":\"YWI=\",\"token_str\":\"ab\"},"
                          "{\"rank\":257,\"token_bytes\":\"w6k=\"}]}    abc  12\xc3\xa9 aB\n\n \xff");
    FUZZ_CHECK(n < sizeof text);
    save(name, text, n);
}

static void tekken_seeds(void)
{
    tekken_save("tekken/whole", 256, "");
    tekken_save("tekken/specials", 256,
                "\"special_tokens\":[{\"rank\":1,\"token_str\":\"<s>\",\"is_control\":true},"
                "{\"rank\":2,\"token_str\":\"</s>\"}],");
    tekken_save("tekken/few", 3, "");
    save_text("tekken/lines",
              "+[^\\r\\n\\p{L}\\p{N}]?\\p{Lu}*\\p{Ll}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\n"
              "ab\nabc\n=<|x|>\n\xc3\xa9\n\nabcab <|x|>12 \xc3\xa9\n\n  aB\xf0\x9f\x98\x80\xff");
    save_text("tekken/lines-odd", "+(a|ab)*+(?<=b)(c?){3}|(?=x)|\\K.|\\X(?1)\naa\naaaa\n\naaaaab cxxx");
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static void frame_seeds(void)
{
    bora_pack pack = {0};
    bora_pack_map(&pack, NULL);
    bora_pack_string(&pack, "verb", "hello");
    bora_pack_uint(&pack, "id", 1);
    bora_pack_uint(&pack, "version", BORA_PROTOCOL_VERSION);
    bora_pack_end(&pack);
    FUZZ_CHECK(bora_pack_ok(&pack));
    save("frame/hello", pack.data, pack.size);
    bora_pack_release(&pack);

    bora_pack_map(&pack, NULL);
    bora_pack_string(&pack, "verb", "generate");
    bora_pack_uint(&pack, "id", UINT64_C(1) << 40);
    bora_pack_text(&pack, "text", "caf\xc3\xa9\0!", 7);
    bora_pack_map(&pack, "options");
    bora_pack_float(&pack, "temperature", 0.7);
    bora_pack_int(&pack, "seed", -5);
    bora_pack_bool(&pack, "stream", true);
    bora_pack_array(&pack, "stop");
    bora_pack_string(&pack, NULL, "\n\n");
    bora_pack_string(&pack, NULL, "");
    bora_pack_end(&pack);
    bora_pack_map(&pack, "logit_bias");
    bora_pack_int_float(&pack, 7, -1.5);
    bora_pack_int_float(&pack, 70000, 100);
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    bora_pack_end(&pack);
    FUZZ_CHECK(bora_pack_ok(&pack));
    save("frame/generate", pack.data, pack.size);
    save("frame/truncated", pack.data, pack.size * 2 / 3);
    bora_pack_release(&pack);

    save("frame/lying-count", "\x81\xa1k\xdd\xff\xff\xff\xff\x01", 9);
    save("frame/lying-size", "\x81\xa1k\xdb\xff\xff\xff\xf0x", 9);
    save("frame/deep", "\x81\xa1k\x91\x91\x91\x91\x91\x91\x91\x91\xc0", 12);
    save("frame/types",
         "\x86\xa1"
         "a\xc4\x01x\xa1"
         "b\xd4\x01x\xa1"
         "c\xca\x7f\xc0\0\0\xa1"
         "d\xd3\x80\0\0\0\0\0\0\0\xa1"
         "e\xc0\xa1"
         "f\xa2\xc3\x28",
         39);
}

/* ---- what Linux says of memory ------------------------------------------------------------------------------------
 */

static void machine_seeds(void)
{
    save_text("machine/meminfo", "MemTotal:       24684084 kB\nMemFree:         5181516 kB\nMemAvailable:   23 kB\n");
    save_text("machine/number", "536870912\n");
    save_text("machine/max", "max\n");
    save_text("machine/v2", "0::/user.slice/user-1000.slice/borad.service\n");
    save_text("machine/v1", "9:name=systemd:/s\n4:cpu,memory:/docker/abc\n3:cpuset:/c\n0::/../out\n");
    save_text("machine/damaged", "\n:\n0\n0:\nmemory\n4:memoryx:/a\n4:,memory,:////\n0::/a//b/../c");
}

/* ---- configuration ----------------------------------------------------------------------------------------------- */

static void config_seeds(void)
{
    save_text("config/whole", "; borad\n[model]\npath = ~/model.gguf\nlayout = v3\n[engine]\nthreads = 2\nchunk = 64\n"
                              "context=32768\n[cache]\ntype = f32\nslack = 512\n[plugins]\nattention = reference\n"
                              "[cache.ring]\nelements = 5 ; five\n[generate]\ntemperature = 0.7\ntop_p = 1\n"
                              "[log]\nlevel = debug\n");
    save_text("config/pairs", "engine.threads=4\ncache.ring.elements=f16\ngenerate.min_p=0.05\nnonsense\n.=\n=.\n");
    save_text("config/memory",
              "[memory]\nlimit = 20G\nlimit = 512 MiB\nlimit = 80%\nlimit = auto\nlimit = 99999999999T\n");
    save_text("config/wrong", "[engine]\nthreads = -1\nchunk = 99999999999999999999\n[generate]\ntemperature = nan\n");
    save_text("config/odd", "\xef\xbb\xbf[log]\r\nlevel : info\r\n[engine\nthreads 4\n = 5\n  indented\n[]\n[.]\nx=\n");
}

static void grammar_seeds(void)
{
    save_text("grammar/forms",
              "# a comment\nroot ::= (\"a\" | b [^c-e\\n] .)+ \"\"\nb ::= \"\\x41\\u00e9\\U0001F600\\\"\"{2,4} | c?\n"
              "c ::= [\\u0100-\\uFFFF\\]]{3} | \"(\" root \")\"*\n");
    save_text("grammar/list", "root ::= item{1,9}\nitem ::= \"- \" [A-Z] [^\\n]{3,120} \"\\n\"\n");
    save_text("grammar/left-recursive", "root ::= e root \"x\" | \"y\"\ne ::= \"\"\n");
    save_text("grammar/endless", "root ::= \"a\" b\nb ::= \"b\" root\n");
    save_text("grammar/large", "root ::= ((\"ab\"{60000}){60000} | .{65535})*\n");
    save_text("grammar/nested", "root ::= ((((((((\"a\"?)*)+){2})?)*)+){3,}\n");
    save_text("grammar/pattern", "^(?:[a-z\\d_]+|\\u00e9{2,3}?|(x|y)*)\\.[^\\s\"]$|^\\w\\W\\S\\D");
    save_text(
        "schema/keywords",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":9},"
        "\"b\":{\"type\":[\"integer\",\"null\"],\"minimum\":-3,\"exclusiveMaximum\":2000,\"multipleOf\":7},"
        "\"c\":{\"pattern\":\"^x[0-9]{2}\"},\"ab\":{\"format\":\"date-time\"},\"d\":{\"enum\":[1,\"x\",null,[2.5,{}]]},"
        "\"e\":{\"type\":\"number\",\"exclusiveMinimum\":0.125,\"maximum\":12.5},\"f\":{\"const\":\"\\u00e9\\n\"}},"
        "\"required\":[\"a\",\"z\"],\"additionalProperties\":{\"type\":\"array\",\"items\":true,\"minItems\":1,"
        "\"maxItems\":3}}");
    save_text("schema/recursive",
              "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"object\","
              "\"properties\":{\"l\":{\"$ref\":\"#/$defs/t\"},\"r\":{\"allOf\":[{\"$ref\":\"#\"}]}},"
              "\"required\":[\"l\",\"r\"],\"additionalProperties\":false}]}}}");
    save_text("schema/circle", "{\"anyOf\":[{\"$ref\":\"#/anyOf/1\"},{\"$ref\":\"#/anyOf/0\"}]}");
    save_text("schema/any", "{}");
    save_text("schema/large",
              "{\"type\":\"array\",\"minItems\":70000,\"items\":{\"type\":\"string\",\"maxLength\":100000}}");
    save_text("schema/truncated", "{\"properties\":{\"a\":{\"$ref\":\"#/pro");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds FOLDER\n");
        return 2;
    }
    root = argv[1];
    (void)mkdir(root, 0777); /* it may be there */
    gguf_seeds();
    safetensors_seeds();
    params_seeds();
    huggingface_seeds();
    tokenizer_seeds();
    tekken_seeds();
    frame_seeds();
    config_seeds();
    machine_seeds();
    grammar_seeds();
    return 0;
}
