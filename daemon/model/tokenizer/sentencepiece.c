/* SentencePiece's .model file: a protobuf message ModelProto, of which a tokenizer needs the pieces, how spaces are
 * treated and which ids are special. What the file asks for and this tokenizer does not do is refused, never
 * ignored.
 *
 * The reader knows protobuf's wire format and nothing else: (field number, wire type, value), field by field. Every
 * length is checked against what is left of the enclosing message; errors name the byte where it went wrong. */
#include "model/tokenizer/tokenizer.h"

#include "base/memory.h"
#include "model/hparams.h"

#include <string.h>

/* ---- wire format --------------------------------------------------------------------------------------------- */

#define WIRE_VARINT  0u
#define WIRE_FIXED64 1u
#define WIRE_BYTES   2u
#define WIRE_FIXED32 5u

typedef struct message {
    const uint8_t *file; /* for offsets in errors */
    const uint8_t *at, *end;
} message;

typedef struct field {
    uint32_t number;
    uint32_t wire;  /* WIRE_* */
    uint64_t value; /* of a varint or fixed one */
    message bytes;  /* of WIRE_BYTES */
    size_t offset;  /* of the field in the file */
} field;

static bora_status damage(const field *f, const char *what, bora_error *err)
{
    return bora_fail(err, BORA_E_FORMAT, "tokenizer model: byte %zu: %s", f->offset, what);
}

static bool varint_read(message *m, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool fixed_read(message *m, size_t size, uint64_t *ret_value)
{
    if ((size_t)(m->end - m->at) < size)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)m->at[i] << (8 * i);
    m->at += size;
    *ret_value = value;
    return true;
}

/* The next field; m->at must not be m->end. */
static bora_status field_read(message *m, field *ret_field, bora_error *err)
{
    field f = {.offset = (size_t)(m->at - m->file)};
    uint64_t key;
    if (!varint_read(m, &key) || key > UINT32_MAX || key >> 3 == 0)
        return damage(&f, "no field begins here", err);
    f.number = (uint32_t)key >> 3;
    f.wire = (uint32_t)key & 7;
    bool whole = false;
    switch (f.wire) {
    case WIRE_VARINT:
        whole = varint_read(m, &f.value);
        break;
    case WIRE_FIXED64:
        whole = fixed_read(m, 8, &f.value);
        break;
    case WIRE_FIXED32:
        whole = fixed_read(m, 4, &f.value);
        break;
    case WIRE_BYTES:
        whole = varint_read(m, &f.value) && f.value <= (uint64_t)(m->end - m->at);
        if (whole) {
            f.bytes = (message){.file = m->file, .at = m->at, .end = m->at + f.value};
            m->at += f.value;
        }
        break;
    default:
        return damage(&f, "a wire type that protobuf's version 2 messages do not have here", err);
    }
    if (!whole)
        return damage(&f, "cut off", err);
    *ret_field = f;
    return BORA_OK;
}

static bora_status wire_check(const field *f, uint32_t wire, const char *what, bora_error *err)
{
    return f->wire == wire
               ? BORA_OK
               : bora_fail(err, BORA_E_FORMAT, "tokenizer model: byte %zu: %s has wire type %u instead of %u",
                           f->offset, what, f->wire, wire);
}

/* ---- the messages -------------------------------------------------------------------------------------------- */

/* What the file says, with the defaults of sentencepiece_model.proto. */
typedef struct model_spec {
    uint64_t model_type;
    bool byte_fallback, treat_whitespace_as_suffix;
    bool other_unk_surface; /* unk is to be shown as something else than U+2047 between spaces */
    int32_t bos_id, eos_id;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    bool charsmap; /* the text is to be rewritten before encoding or after decoding */
} model_spec;

/* The arrays of bora_vocab, owned. */
typedef struct piece_arrays {
    const char **pieces; /* borrowed from the file */
    uint32_t *sizes;
    float *scores;
    int32_t *types;
    size_t n;
} piece_arrays;

static void piece_arrays_release(piece_arrays *arrays)
{
    bora_free(arrays->pieces);
    bora_free(arrays->sizes);
    bora_free(arrays->scores);
    bora_free(arrays->types);
}

static bora_status piece_read(message m, piece_arrays *arrays, bora_error *err)
{
    size_t id = arrays->n++;
    arrays->pieces[id] = (const char *)m.at; /* an absent name is an empty one, which the vocabulary refuses */
    arrays->sizes[id] = 0;
    arrays->scores[id] = 0;
    arrays->types[id] = BORA_PIECE_NORMAL;
    while (m.at < m.end) {
        field f;
        bora_status status = field_read(&m, &f, err);
        if (status != BORA_OK)
            return status;
        switch (f.number) {
        case 1:
            status = wire_check(&f, WIRE_BYTES, "a piece's text", err);
            if (status == BORA_OK && f.value > BORA_PIECE_SIZE_MAX)
                status = damage(&f, "a piece's text is too long", err);
            if (status != BORA_OK)
                return status;
            arrays->pieces[id] = (const char *)f.bytes.at;
            arrays->sizes[id] = (uint32_t)f.value;
            break;
        case 2: {
            status = wire_check(&f, WIRE_FIXED32, "a piece's score", err);
            if (status != BORA_OK)
                return status;
            uint32_t bits = (uint32_t)f.value;
            memcpy(&arrays->scores[id], &bits, sizeof bits);
            break;
        }
        case 3:
            status = wire_check(&f, WIRE_VARINT, "a piece's type", err);
            if (status == BORA_OK && (f.value < BORA_PIECE_NORMAL || f.value > BORA_PIECE_BYTE))
                status = damage(&f, "a piece's type is none that is known", err);
            if (status != BORA_OK)
                return status;
            arrays->types[id] = (int32_t)f.value;
            break;
        default:
            break; /* extensions */
        }
    }
    return BORA_OK;
}

/* An int32 in a varint: negative ones have all 64 bits. */
static int32_t varint_id(uint64_t value)
{
    return value <= INT32_MAX ? (int32_t)value : -1;
}

static bora_status trainer_read(message m, model_spec *spec, bora_error *err)
{
    while (m.at < m.end) {
        field f;
        bora_status status = field_read(&m, &f, err);
        if (status != BORA_OK)
            return status;
        switch (f.number) {
        case 3:
            status = wire_check(&f, WIRE_VARINT, "model_type", err);
            spec->model_type = f.value;
            break;
        case 24:
            status = wire_check(&f, WIRE_VARINT, "treat_whitespace_as_suffix", err);
            spec->treat_whitespace_as_suffix = f.value;
            break;
        case 35:
            status = wire_check(&f, WIRE_VARINT, "byte_fallback", err);
            spec->byte_fallback = f.value;
            break;
        case 41:
            status = wire_check(&f, WIRE_VARINT, "bos_id", err);
            spec->bos_id = varint_id(f.value);
            break;
        case 42:
            status = wire_check(&f, WIRE_VARINT, "eos_id", err);
            spec->eos_id = varint_id(f.value);
            break;
        case 44:
            status = wire_check(&f, WIRE_BYTES, "unk_surface", err);
            if (status == BORA_OK)
                spec->other_unk_surface = f.value != 5 || memcmp(f.bytes.at, " \xe2\x81\x87 ", 5) != 0;
            break;
        default:
            break; /* how it was trained */
        }
        if (status != BORA_OK)
            return status;
    }
    return BORA_OK;
}

/* denormaliser: of the second one only its map matters. */
static bora_status normaliser_read(message m, bool denormaliser, model_spec *spec, bora_error *err)
{
    while (m.at < m.end) {
        field f;
        bora_status status = field_read(&m, &f, err);
        if (status != BORA_OK)
            return status;
        if (f.number == 2) {
            status = wire_check(&f, WIRE_BYTES, "precompiled_charsmap", err);
            spec->charsmap |= f.value != 0;
        } else if (!denormaliser && f.number >= 3 && f.number <= 5) {
            status = wire_check(&f, WIRE_VARINT, "an option of normalizer_spec", err);
            bool *options[] = {&spec->add_dummy_prefix, &spec->remove_extra_whitespaces, &spec->escape_whitespaces};
            *options[f.number - 3] = f.value;
        }
        if (status != BORA_OK)
            return status;
    }
    return BORA_OK;
}

/* Reads every field of the file; arrays has room for all its pieces. */
static bora_status model_read(message m, piece_arrays *arrays, model_spec *spec, bora_error *err)
{
    while (m.at < m.end) {
        field f;
        bora_status status = field_read(&m, &f, err);
        if (status == BORA_OK && (f.number == 1 || f.number == 2 || f.number == 3 || f.number == 5))
            status = wire_check(&f, WIRE_BYTES, "a message of the model", err);
        if (status != BORA_OK)
            return status;
        if (f.number == 1)
            status = piece_read(f.bytes, arrays, err);
        else if (f.number == 2)
            status = trainer_read(f.bytes, spec, err);
        else if (f.number == 3 || f.number == 5)
            status = normaliser_read(f.bytes, f.number == 5, spec, err);
        if (status != BORA_OK)
            return status;
    }
    return BORA_OK;
}

static bora_status pieces_count(message m, size_t *ret_n, bora_error *err)
{
    size_t n = 0;
    while (m.at < m.end) {
        field f;
        bora_status status = field_read(&m, &f, err);
        if (status != BORA_OK)
            return status;
        n += f.number == 1;
        if (n > BORA_VOCAB_MAX)
            return damage(&f, "too many pieces", err);
    }
    if (n == 0)
        return bora_fail(err, BORA_E_FORMAT, "tokenizer model: no pieces");
    *ret_n = n;
    return BORA_OK;
}

static bora_status spec_check(const model_spec *spec, bora_error *err)
{
    static const char *const model_types[] = {"none", "unigram", "BPE", "word", "char"};
    if (spec->model_type != 2)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tokenizer model: of type %s, only BPE is supported",
                         spec->model_type < BORA_ARRAY_SIZE(model_types) ? model_types[spec->model_type] : "unknown");
    if (spec->charsmap)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tokenizer model: a normaliser other than identity");
    if (!spec->escape_whitespaces || spec->treat_whitespace_as_suffix)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tokenizer model: spaces that are not marks before words");
    if (spec->other_unk_surface)
        return bora_fail(err, BORA_E_UNSUPPORTED, "tokenizer model: an unk_surface of its own");
    return BORA_OK;
}

/* A special id counts if a control piece stands there: SentencePiece says "none" otherwise, too. */
static int32_t control_or_none(const piece_arrays *arrays, int32_t id)
{
    return id >= 0 && (size_t)id < arrays->n && arrays->types[id] == BORA_PIECE_CONTROL ? id : -1;
}

/* The one unknown piece, and whether byte pieces are there as promised (SentencePiece refuses the same). */
static bora_status types_check(const piece_arrays *arrays, const model_spec *spec, int32_t *ret_unk_id, bora_error *err)
{
    int32_t unk_id = -1;
    bool bytes = false;
    for (size_t id = 0; id < arrays->n; id++) {
        bytes |= arrays->types[id] == BORA_PIECE_BYTE;
        if (arrays->types[id] != BORA_PIECE_UNKNOWN)
            continue;
        if (unk_id >= 0)
            return bora_fail(err, BORA_E_FORMAT, "tokenizer model: pieces %d and %zu are both unknown", unk_id, id);
        unk_id = (int32_t)id;
    }
    if (unk_id < 0)
        return bora_fail(err, BORA_E_FORMAT, "tokenizer model: no unknown piece");
    if (bytes != spec->byte_fallback)
        return bora_fail(err, BORA_E_FORMAT, "tokenizer model: byte_fallback %s byte pieces",
                         bytes ? "is off, but there are" : "without");
    *ret_unk_id = unk_id;
    return BORA_OK;
}

bora_status bora_tokenizer_parse(const void *data, size_t size, bora_tokenizer **ret_tokenizer, bora_error *err)
{
    if (!size)
        return bora_fail(err, BORA_E_FORMAT, "tokenizer model: empty");
    message m = {.file = data, .at = data, .end = (const uint8_t *)data + size};
    size_t n = 0;
    bora_status status = pieces_count(m, &n, err);
    if (status != BORA_OK)
        return status;

    BORA_CLEANUP(piece_arrays_release) piece_arrays arrays = {.n = 0};
    arrays.pieces = bora_calloc(n, sizeof *arrays.pieces);
    arrays.sizes = bora_calloc(n, sizeof *arrays.sizes);
    arrays.scores = bora_calloc(n, sizeof *arrays.scores);
    arrays.types = bora_calloc(n, sizeof *arrays.types);
    if (!arrays.pieces || !arrays.sizes || !arrays.scores || !arrays.types)
        return bora_fail(err, BORA_E_NOMEM, "vocabulary of %zu pieces", n);
    model_spec spec = {.model_type = 1,
                       .bos_id = 1,
                       .eos_id = 2,
                       .add_dummy_prefix = true,
                       .remove_extra_whitespaces = true,
                       .escape_whitespaces = true};
    int32_t unk_id = -1;
    status = model_read(m, &arrays, &spec, err);
    if (status == BORA_OK)
        status = spec_check(&spec, err);
    if (status == BORA_OK)
        status = types_check(&arrays, &spec, &unk_id, err);
    if (status != BORA_OK)
        return status;
    bora_vocab vocab = {.pieces = arrays.pieces,
                        .piece_sizes = arrays.sizes,
                        .scores = arrays.scores,
                        .types = arrays.types,
                        .n_pieces = arrays.n,
                        .bos_id = control_or_none(&arrays, spec.bos_id),
                        .eos_id = control_or_none(&arrays, spec.eos_id),
                        .unk_id = unk_id,
                        .add_dummy_prefix = spec.add_dummy_prefix,
                        .remove_extra_whitespaces = spec.remove_extra_whitespaces};
    return bora_tokenizer_new(&vocab, ret_tokenizer, err);
}
