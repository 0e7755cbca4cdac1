/* The plugin SDK: everything a bora plugin sees of the daemon.
 *
 * A plugin is one shared object with one exported symbol, bora_plugin_entry. The host calls it once with a
 * table of services (bora_host) and gets back a table of operations (bora_plugin, with bora_<kind>_ops behind
 * it). Plugins never link to the daemon; all they may call is in bora_host. Handles are opaque both ways.
 *
 * Compatibility: the major number must match; tables grow at their end only and begin with their own size, so
 * that the host can copy the prefix it knows. A missing optional operation is NULL; a missing required one is
 * a load error. Types are of fixed width; there are no bit fields and no enums by value.
 *
 * Life of an instance: create -> (operations) -> close -> stop -> destroy.
 *   create   any number of instances may live at once. Answers BORA_OK; BORA_E_UNAVAILABLE (cannot work on this
 *            machine: the daemon says so and goes on without) or another error (the daemon refuses to start).
 *   close    idempotent, never blocks: waiting operations return BORA_E_CLOSED, new ones fail.
 *   stop     waits for the plugin's own threads; after it the plugin calls the host no more.
 *   destroy  frees; cannot fail; accepts NULL.
 * close and stop are optional for instances without threads and without blocking operations.
 *
 * Threads: an instance belongs to one thread of the host (its stage); operations of one instance are never
 * called at the same time unless the operation's comment says otherwise. Any operation may use parallel_for;
 * the function given to it must not call the host again except for log, dequantize, input_fill and
 * matrix_multiply. No lock of the host is held
 * during a call.
 */
#ifndef BORA_PLUGIN_H
#define BORA_PLUGIN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BORA_ABI_MAJOR 1
#define BORA_ABI_MINOR 3 /* 1: the element types from BORA_DTYPE_Q4_0 on; 2: matrices, caches of Q8_0; 3: seq_size */

/* ---- status and error ------------------------------------------------------------------------------- */

typedef int32_t bora_status;

#define BORA_OK            0
#define BORA_E_NOMEM       (-1)  /* memory could not be had */
#define BORA_E_INVAL       (-2)  /* an argument or option makes no sense */
#define BORA_E_IO          (-3)  /* the operating system refused; the message has errno's text */
#define BORA_E_FORMAT      (-4)  /* a file or frame is damaged or not what it says */
#define BORA_E_UNSUPPORTED (-5)  /* well-formed, but not something this build can do */
#define BORA_E_NOT_FOUND   (-6)  /* no such thing (or not yours) */
#define BORA_E_EXISTS      (-7)  /* the name is taken */
#define BORA_E_BUSY        (-8)  /* in use; try again later */
#define BORA_E_LIMIT       (-9)  /* over a limit; trying again will not help */
#define BORA_E_CANCELLED   (-10) /* stopped on request */
#define BORA_E_CLOSED      (-11) /* the other side is gone or closing */
#define BORA_E_PERMISSION  (-12) /* not allowed */
#define BORA_E_INTERNAL    (-13) /* a bug of ours */
#define BORA_E_FULL        (-14) /* the disk or database is full */
#define BORA_E_UNAVAILABLE (-15) /* cannot work on this machine */

/* Filled by whoever detects a failure; owned by the caller; NULL where the caller does not care. */
typedef struct bora_error {
    char message[512]; /* UTF-8, zero-terminated, one line */
} bora_error;

/* Writes the message (printf format) into err, if there is one, and returns status. */
__attribute__((format(printf, 3, 4))) static inline bora_status bora_fail(bora_error *err, bora_status status,
                                                                          const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(err->message, sizeof err->message, format, args); /* cut if too long */
        va_end(args);
    }
    return status;
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

/* Element types of weights and of the KV cache (which is F32, F16 or Q8_0). Numbers are part of the ABI; new ones go at
 * the end. From Q8_0 on they are GGUF's types of the same names; host->dequantize makes f32 of each. */
#define BORA_DTYPE_F32        0u
#define BORA_DTYPE_F16        1u
#define BORA_DTYPE_BF16       2u
#define BORA_DTYPE_Q8_0       3u /* blocks of 32: f16 scale, 32 x int8 */
#define BORA_DTYPE_Q4_0       4u /* blocks of 32: f16 scale, 32 x 4 bits */
#define BORA_DTYPE_Q4_1       5u /* ... and an f16 offset */
#define BORA_DTYPE_Q5_0       6u /* blocks of 32: f16 scale, 32 x 5 bits */
#define BORA_DTYPE_Q5_1       7u /* ... and an f16 offset */
#define BORA_DTYPE_Q2_K       8u /* blocks of 256, each part of it with a scale and an offset of its own */
#define BORA_DTYPE_Q3_K       9u /* blocks of 256, each part of it with a scale of its own */
#define BORA_DTYPE_Q4_K       10u
#define BORA_DTYPE_Q5_K       11u
#define BORA_DTYPE_Q6_K       12u
#define BORA_DTYPE_IQ4_NL     13u /* blocks of 32: f16 scale, 32 x 4 bits that number the values of a fixed list */
#define BORA_DTYPE_IQ4_XS     14u /* blocks of 256 of such parts */
#define BORA_DTYPE_COUNT      15u /* known to this header; a host or plugin of another minor version may know more */

#define BORA_DTYPE_BIT(dtype) (UINT32_C(1) << (dtype))
#define BORA_DTYPE_BITS_ALL   (BORA_DTYPE_BIT(BORA_DTYPE_COUNT) - 1)

/* A matrix of weights, row-major [n_rows, n_cols], read-only, valid as long as the model is loaded. */
typedef struct bora_tensor {
    const void *data;  /* [n_rows] rows, row_size bytes apart; may be unaligned; NULL: there is none */
    uint64_t row_size; /* bytes of one row */
    uint64_t n_rows, n_cols;
    uint32_t dtype; /* BORA_DTYPE_* */
    uint32_t reserved;
} bora_tensor;

/* ---- matrices (minor 2) ------------------------------------------------------------------------------ */

#define BORA_STRIP_ROWS 16u

typedef struct bora_matrix bora_matrix;

/* Activations on their way into matrices: as they are, and rounded by input_fill. Owned and filled by the caller. */
typedef struct bora_input {
    const float *x; /* [n_rows, n_cols] */
    void *panels;   /* input_size bytes, aligned to 64; NULL if no matrix that is used needs them */
    uint32_t n_rows, n_cols;
} bora_input;

/* ---- host ------------------------------------------------------------------------------------------- */

#define BORA_LOG_ERROR 0
#define BORA_LOG_WARN  1
#define BORA_LOG_INFO  2
#define BORA_LOG_DEBUG 3

/* Works on items [begin, end). worker is in 0 .. n_threads-1 and unique among calls running at once. */
typedef void (*bora_parallel_fn)(void *arg, uint32_t begin, uint32_t end, uint32_t worker);

/* Services of the daemon. Every function takes the table itself as its first argument; the table given to
 * create is valid until destroy returns. */
typedef struct bora_host bora_host;
struct bora_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    void *self; /* the host's own */

    /* Any thread. One line, no newline. level: BORA_LOG_*. Never log prompt or completion text. */
    void (*log)(const bora_host *host, int32_t level, const char *message);
    /* Any thread. size bytes aligned to 64, not cleared; NULL when there is no memory. */
    void *(*alloc)(const bora_host *host, size_t size);
    /* Any thread. Frees what alloc gave; NULL is a no-op. */
    void (*free)(const bora_host *host, void *memory);
    /* During create. The configured value of key ("[kind.name] key = value"), or NULL. A key that is configured
     * and never asked for by any create is reported as unknown and the load fails. */
    const char *(*option)(const bora_host *host, const char *key);
    /* Any thread. Monotonic clock, nanoseconds. */
    uint64_t (*now_ns)(const bora_host *host);
    /* Workers that parallel_for may use at once, the caller included; constant, at least 1. */
    uint32_t (*n_threads)(const bora_host *host);
    /* The instance's thread. Cuts 0 .. n_items-1 into contiguous runs, runs fn on them, returns when all are
     * done. How items are cut is not specified: results must not depend on it. */
    void (*parallel_for)(const bora_host *host, uint32_t n_items, bora_parallel_fn fn, void *arg);
    /* Any thread. Converts rows first_row .. first_row+n_rows-1 of w to f32: out [n_rows, w->n_cols], contiguous.
     * Rows must lie inside w. */
    void (*dequantize)(const bora_host *host, const bora_tensor *w, uint64_t first_row, uint64_t n_rows, float *out);

    /* Minor version 2. Products with weights that were made ready once, the fast way. A matrix belongs to the instance
     * that made it and lives until that is destroyed. What comes out depends on the row of weights and the row of x
     * only: not on other rows, threads or how strips are shared out.
     *
     * matrix_new: the instance's thread, during create or prepare; works in parallel, in slices. A matrix of a
     * quantised type is copied into a layout of its own and w is not read again; of F32, F16, BF16 the data of w are
     * used. */
    bora_status (*matrix_new)(const bora_host *host, const bora_tensor *w, bora_matrix **ret_matrix, bora_error *err);
    /* Any thread. */
    uint32_t (*matrix_n_strips)(const bora_host *host, const bora_matrix *matrix); /* strips of BORA_STRIP_ROWS rows */
    /* 1 if products need the input's panels, 0 if they need x. */
    uint32_t (*matrix_is_packed)(const bora_host *host, const bora_matrix *matrix);
    /* Any thread. Bytes of panels for so many rows and columns (grows with both), and into how many parts filling them
     * is shared out. */
    size_t (*input_size)(const bora_host *host, uint32_t n_rows, uint32_t n_cols);
    uint32_t (*input_n_panels)(const bora_host *host, uint32_t n_rows);
    /* Any thread, also inside parallel_for. Rounds the rows of panels first .. end-1 of the input. */
    void (*input_fill)(const bora_host *host, const bora_input *input, uint32_t first, uint32_t end);
    /* Any thread, also inside parallel_for, whose worker it is given (0 outside). y[r, i] = row (BORA_STRIP_ROWS *
     * strip_begin + i) of the matrix times row r of the input, for those rows of strips strip_begin .. strip_end-1 that
     * exist. Rows of y are y_stride floats apart. */
    void (*matrix_multiply)(const bora_host *host, const bora_matrix *matrix, const bora_input *input,
                            uint32_t strip_begin, uint32_t strip_end, uint32_t worker, float *y, uint64_t y_stride);
};

/* ---- plugin ----------------------------------------------------------------------------------------- */

#define BORA_PLUGIN_ATTENTION       1u
#define BORA_PLUGIN_CACHE           2u
#define BORA_PLUGIN_EXPERT          3u
#define BORA_PLUGIN_LINK            4u

/* flags */
/* The result for a token does not depend on the other tokens of the batch, on how a prompt was cut into chunks,
 * or on the number of threads: same bits. */
#define BORA_PLUGIN_BATCH_INVARIANT 1u
/* expert: makes a matrix of every weight it is given to prepare. The host then knows before it reads them what they
 * will take, and refuses a model that cannot fit. */
#define BORA_PLUGIN_PACKS_WEIGHTS   2u

typedef struct bora_plugin {
    uint32_t struct_size;          /* sizeof(bora_plugin) as compiled */
    uint16_t abi_major, abi_minor; /* BORA_ABI_* as compiled; major must match, minor may differ */
    uint32_t kind, flags;          /* BORA_PLUGIN_* */
    const char *name, *version;    /* static UTF-8; name as in the file name <kind>-<name>.so */
    const void *ops;               /* bora_<kind>_ops, also starting with struct_size */
} bora_plugin;

/* The exported symbol. Called once after dlopen, on the loading thread; host has log only at this point.
 * Returns a static table, or NULL with err filled. */
typedef const bora_plugin *(*bora_plugin_entry_fn)(const bora_host *host, bora_error *err);
#define BORA_PLUGIN_ENTRY "bora_plugin_entry"
#if defined(BORA_PLUGIN_STATIC)
/* Linked statically into a test: the entry is named by the build. */
#define BORA_PLUGIN_EXPORT
#else
#define BORA_PLUGIN_EXPORT __attribute__((visibility("default")))
#endif
BORA_PLUGIN_EXPORT const bora_plugin *bora_plugin_entry(const bora_host *host, bora_error *err);

/* ---- cache ------------------------------------------------------------------------------------------ */
/* Keeps keys and values (after RoPE) of many sequences, for the layers of one stage. Layers are numbered from
 * 0 inside the stage. Position p of a windowed layer lives in slot p mod capacity (rolling buffer, Mistral 7B
 * section 2), capacity = window + slack, so that a chunk of up to slack tokens can be appended before it is
 * attended and the last slack tokens can be taken back exactly. */

typedef struct bora_cache bora_cache;
typedef struct bora_cache_seq bora_cache_seq;

typedef struct bora_cache_shape {
    uint32_t struct_size;
    uint32_t n_layers; /* of the stage */
    uint32_t n_kv_heads, head_dim;
    uint32_t dtype;          /* BORA_DTYPE_F32, _F16 or _Q8_0 (head_dim in whole blocks): of keys and values */
    uint32_t slack;          /* positions kept beyond the window; also the largest n of append */
    uint64_t max_positions;  /* a sequence never gets longer */
    const uint32_t *windows; /* [n_layers]; 0: no window. Valid during create. */
} bora_cache_shape;

/* A run of consecutive positions that lie at constant distance in memory. Element (position first+i, kv_head h,
 * component d) is k[i * position_stride + h * head_stride + d], in elements of dtype (of Q8_0, where all of these are
 * multiples of 32, a block's bytes are 34 per 32 elements). Valid until the next append, truncate, import or close of
 * the sequence. */
typedef struct bora_kv_span {
    const void *k, *v;        /* [n, n_kv_heads, head_dim] by the strides below */
    uint64_t first;           /* absolute position of the first element */
    uint32_t n;               /* positions; at least 1 */
    uint32_t dtype;           /* BORA_DTYPE_* */
    uint64_t position_stride; /* elements */
    uint64_t head_stride;     /* elements */
} bora_kv_span;

/* Room that the host gives a first call of spans, per layer and sequence. */
#define BORA_CACHE_SPANS_MAX 1024u

typedef struct bora_cache_ops {
    uint32_t struct_size;
    uint32_t dtypes; /* BORA_DTYPE_BIT of each element type it can keep */

    bora_status (*create)(const bora_host *host, const bora_cache_shape *shape, bora_cache **ret_cache,
                          bora_error *err);
    void (*close)(bora_cache *cache);   /* optional */
    void (*stop)(bora_cache *cache);    /* optional */
    void (*destroy)(bora_cache *cache); /* all sequences are closed before */

    /* A new, empty sequence. */
    bora_status (*seq_open)(bora_cache *cache, bora_cache_seq **ret_seq, bora_error *err);
    void (*seq_close)(bora_cache *cache, bora_cache_seq *seq); /* NULL is a no-op */
    /* A copy that can go its own way. Optional. */
    bora_status (*seq_fork)(bora_cache *cache, const bora_cache_seq *seq, bora_cache_seq **ret_seq, bora_error *err);

    /* Makes room so that positions below end can be appended without failing, until the sequence is forked or
     * truncated. On an error (NOMEM, LIMIT) nothing has changed. */
    bora_status (*reserve)(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err);
    /* Stores positions first .. first+n-1 of one layer: k, v [n, n_kv_heads, head_dim] f32. first is the number
     * of positions the layer holds already; n <= slack; reserved before. Cannot fail. Layers go on together: what is
     * more than window + slack behind the one that is furthest may be gone. */
    void (*append)(bora_cache *cache, bora_cache_seq *seq, uint32_t layer, uint64_t first, uint32_t n, const float *k,
                   const float *v);
    /* The runs that hold positions from .. to-1 of one layer, ascending and complete. from is not older than
     * what is kept (the last window + slack positions). Writes at most n_max; returns the number of runs, which
     * may be more: the host then asks again with room for so many. 0 if some of the positions are not there. */
    uint32_t (*spans)(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer, uint64_t from, uint64_t to,
                      uint32_t n_max, bora_kv_span *ret_spans);
    /* Forgets positions end and later, in all layers. LIMIT, and nothing has changed, if a layer no longer keeps what
     * position end needs: its window's positions before end. Up to slack positions behind the furthest ever appended
     * can always be taken back, and as many as there are while nothing was overwritten. */
    bora_status (*truncate)(bora_cache *cache, bora_cache_seq *seq, uint64_t end, bora_error *err);
    /* Copies positions first .. first+n-1 of one layer into out, canonical layout [k,v][n][n_kv_heads][head_dim],
     * in elements of the cache's dtype, without changing a bit. NOT_FOUND if some are no longer kept. */
    bora_status (*export_page)(bora_cache *cache, const bora_cache_seq *seq, uint32_t layer, uint64_t first, uint32_t n,
                               void *out, bora_error *err);
    /* The reverse, on a sequence of reserved length. Pages arrive in ascending order per layer; the first may
     * begin past position 0 (what is older is gone). Afterwards the layer holds positions up to first + n. */
    bora_status (*import_page)(bora_cache *cache, bora_cache_seq *seq, uint32_t layer, uint64_t first, uint32_t n,
                               const void *in, bora_error *err);
    /* Bytes of memory the sequence holds now. What forks share counts in each. */
    uint64_t (*bytes)(const bora_cache *cache, const bora_cache_seq *seq);

    /* Minor version 3. The most bytes that a sequence of up to n_positions ever asks of the host, what it needs while
     * it grows included. Optional: without it the host reckons with twice the elements. */
    uint64_t (*seq_size)(const bora_cache *cache, uint64_t n_positions);
} bora_cache_ops;

/* ---- attention -------------------------------------------------------------------------------------- */
/* softmax(q k^T / sqrt(head_dim)) v, causal and local, for one layer of a packed batch: sequences do not see
 * each other (block-diagonal mask). Query head h reads kv head h / (n_heads / n_kv_heads). */

typedef struct bora_attention bora_attention;

typedef struct bora_attention_shape {
    uint32_t struct_size;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t max_tokens; /* the most query rows of one call */
    uint32_t kv_dtype;   /* element type of the spans */
} bora_attention_shape;

/* The part of one sequence. Query row i is at position first + i and attends to key positions p with
 * p <= first + i and, if window > 0, p > first + i - window. All of these are in the spans; spans may hold more. */
typedef struct bora_attention_seq {
    const float *q;            /* [n, n_heads, head_dim], after RoPE */
    float *out;                /* [n, n_heads, head_dim] */
    uint64_t first;            /* position of the first row */
    uint32_t n;                /* rows */
    uint32_t window;           /* 0: none */
    const bora_kv_span *spans; /* [n_spans], ascending, no gaps */
    uint32_t n_spans, reserved;
} bora_attention_seq;

typedef struct bora_attention_ops {
    uint32_t struct_size;
    uint32_t dtypes; /* BORA_DTYPE_BIT of each KV element type it reads */

    bora_status (*create)(const bora_host *host, const bora_attention_shape *shape, bora_attention **ret_attention,
                          bora_error *err);
    void (*close)(bora_attention *attention); /* optional */
    void (*stop)(bora_attention *attention);  /* optional */
    void (*destroy)(bora_attention *attention);

    bora_status (*attend)(bora_attention *attention, uint32_t n_seqs, const bora_attention_seq *seqs, bora_error *err);
} bora_attention_ops;

/* ---- expert ----------------------------------------------------------------------------------------- */
/* Feed-forward blocks: y = sum over the chosen experts e of weight_e * w2_e (silu(w1_e x) * (w3_e x)). A dense
 * model is the case of one expert, chosen with weight 1. The router is the host's. */

typedef struct bora_expert bora_expert;

typedef struct bora_expert_shape {
    uint32_t struct_size;
    uint32_t n_layers; /* of the stage */
    uint32_t n_experts, n_experts_per_tok;
    uint32_t dim, hidden_dim;
    uint32_t max_tokens; /* the most rows of one call */
    uint32_t reserved;
} bora_expert_shape;

typedef struct bora_expert_weights {
    const bora_tensor *w1; /* [n_experts], each [hidden_dim, dim] */
    const bora_tensor *w2; /* [n_experts], each [dim, hidden_dim] */
    const bora_tensor *w3; /* [n_experts], each [hidden_dim, dim] */
} bora_expert_weights;

typedef struct bora_routing {
    const int32_t *experts; /* [n_tokens, n_experts_per_tok] */
    const float *weights;   /* [n_tokens, n_experts_per_tok] */
} bora_routing;

typedef struct bora_expert_ops {
    uint32_t struct_size;
    uint32_t dtypes; /* BORA_DTYPE_BIT of each weight type it can use */

    bora_status (*create)(const bora_host *host, const bora_expert_shape *shape, bora_expert **ret_expert,
                          bora_error *err);
    void (*close)(bora_expert *expert); /* optional */
    void (*stop)(bora_expert *expert);  /* optional */
    void (*destroy)(bora_expert *expert);

    /* Once per layer before its first forward. The tensors stay valid until destroy; the arrays do not. */
    bora_status (*prepare)(bora_expert *expert, uint32_t layer, const bora_expert_weights *weights, bora_error *err);
    /* x, y [n_tokens, dim] f32; y is overwritten and does not overlap x. */
    bora_status (*forward)(bora_expert *expert, uint32_t layer, uint32_t n_tokens, const float *x, float *y,
                           const bora_routing *routing, bora_error *err);
} bora_expert_ops;

/* ---- link ------------------------------------------------------------------------------------------- */
/* Carries micro-batches through the pipeline. Hop 0 leads from the engine to stage 0, hop i from stage i-1 to
 * stage i, hop n_stages from the last stage back to the engine. One sender and one receiver thread per hop. */

typedef struct bora_link bora_link;

typedef struct bora_link_shape {
    uint32_t struct_size;
    uint32_t n_hops; /* n_stages + 1 */
    uint32_t depth;  /* messages that may wait in one hop before send blocks; at least 1 */
    uint32_t reserved;
    uint64_t max_head_size; /* bytes of the largest head */
    uint64_t max_body_size; /* floats of the largest body, any hop */
} bora_link_shape;

/* head describes the micro-batch (host-defined, position-independent bytes), body is what it carries: hidden
 * states [n_tokens, dim], or logits [n_rows, vocab_size] on the last hop; empty on hop 0. */
typedef struct bora_link_message {
    void *head;  /* [head_size] bytes */
    float *body; /* [body_size] f32 */
    uint64_t head_size, body_size;
} bora_link_message;

typedef struct bora_link_ops {
    uint32_t struct_size;
    uint32_t flags; /* 0 */

    bora_status (*create)(const bora_host *host, const bora_link_shape *shape, bora_link **ret_link, bora_error *err);
    /* Any thread: every waiting and later send and recv returns BORA_E_CLOSED. */
    void (*close)(bora_link *link);
    void (*stop)(bora_link *link); /* optional */
    void (*destroy)(bora_link *link);

    /* The hop's sender. Copies the message; may block while the hop is full. */
    bora_status (*send)(bora_link *link, uint32_t hop, const bora_link_message *message, bora_error *err);
    /* The hop's receiver. Blocks until a message is there. In: message->head and ->body point to room for
     * max_head_size bytes and max_body_size floats; out: filled, the sizes set. */
    bora_status (*recv)(bora_link *link, uint32_t hop, bora_link_message *message, bora_error *err);
} bora_link_ops;

#ifdef __cplusplus
}
#endif
#endif
