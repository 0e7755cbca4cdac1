/* Reading a session: messages, tokens and pages, each checked against what its row says.
 *
 * A page that is damaged or missing costs a new run over the tokens, so it is left out and named. Tokens cannot be made
 * again from anything: if one run is damaged, the load fails. */
#include "session/db_private.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

void bora_session_contents_release(bora_session_contents *contents)
{
    bora_session_record_release(&contents->record);
    for (size_t i = 0; i < contents->n_messages; i++) {
        bora_free(contents->messages[i].role);
        bora_free(contents->messages[i].text);
    }
    bora_free(contents->messages);
    bora_free(contents->tokens);
    bora_pages_free(contents->pages, contents->n_pages);
    bora_free(contents->damage);
    *contents = (bora_session_contents){0};
}

/* ---- checksums ----------------------------------------------------------------------------------------- */

/* What the row says is the seed under which the data are hashed. */
static uint64_t sum_of(const uint64_t *says, size_t n, const void *data, size_t size)
{
    unsigned char bytes[8 * 8];
    for (size_t i = 0; i < 8 * n; i++)
        bytes[i] = (unsigned char)(says[i / 8] >> (8 * (i % 8)));
    return XXH3_64bits_withSeed(data, size, XXH3_64bits(bytes, 8 * n));
}

uint64_t bora_db_page_sum(int64_t session, const bora_page *page)
{
    const uint64_t says[] = {(uint64_t)session, page->class_id, page->index, page->dtype, page->n, page->size};
    return sum_of(says, BORA_ARRAY_SIZE(says), page->data, page->size);
}

uint64_t bora_db_run_sum(int64_t session, uint64_t first, const void *ids, size_t size)
{
    const uint64_t says[] = {(uint64_t)session, first, size};
    return sum_of(says, BORA_ARRAY_SIZE(says), ids, size);
}

/* ---- arrays that grow ---------------------------------------------------------------------------------- */

/* Room for one more of n elements; capacities are powers of two. */
static bora_status grow(void *array, size_t n, size_t element_size, bora_error *err)
{
    if ((n & (n - 1)) != 0) /* n is 0 or a power of two when the room is used up */
        return BORA_OK;
    void **memory = array;
    void *more = bora_realloc(*memory, n ? 2 * n : 1, element_size);
    if (!more)
        return bora_fail(err, BORA_E_NOMEM, "session with %zu rows and more", n);
    *memory = more;
    return BORA_OK;
}

/* The statement for the rows of one session, from the start. */
static bora_status rows_of(bora_db *db, bora_db_statement which, int64_t key, sqlite3_stmt **ret_stmt, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, which);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK)
        return bora_db_fail(db, "session", err);
    *ret_stmt = stmt;
    return BORA_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static bora_status read_message(bora_db *db, sqlite3_stmt *stmt, bora_session_message *ret_message, bora_error *err)
{
    bora_session_message message = {
        .turn = (uint64_t)sqlite3_column_int64(stmt, 0),
        .interrupted = sqlite3_column_int(stmt, 3) != 0,
        .created = sqlite3_column_int64(stmt, 4),
    };
    bora_status st = bora_db_column_copy(db, stmt, 1, &message.role, err);
    if (st == BORA_OK)
        st = bora_db_column_copy(db, stmt, 2, &message.text, err);
    if (st != BORA_OK) {
        bora_free(message.role);
        return st;
    }
    message.text_size = (size_t)sqlite3_column_bytes(stmt, 2);
    *ret_message = message;
    return BORA_OK;
}

static bora_status read_messages(bora_db *db, int64_t key, bora_session_contents *contents, bora_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bora_status st = rows_of(db, BORA_DB_MESSAGE_LIST, key, &stmt, err);
    int code = SQLITE_DONE;
    while (st == BORA_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        st = grow(&contents->messages, contents->n_messages, sizeof *contents->messages, err);
        if (st == BORA_OK)
            st = read_message(db, stmt, &contents->messages[contents->n_messages], err);
        if (st == BORA_OK)
            contents->n_messages++;
    }
    return st == BORA_OK && code != SQLITE_DONE ? bora_db_fail(db, "messages", err) : st;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

/* Appends a run; it must begin where the last one ended. */
static bora_status read_run(bora_db *db, sqlite3_stmt *stmt, int64_t key, bora_session_contents *contents,
                            bora_error *err)
{
    uint64_t first = (uint64_t)sqlite3_column_int64(stmt, 0), n = (uint64_t)sqlite3_column_int64(stmt, 1);
    const void *ids = sqlite3_column_blob(stmt, 2);
    size_t size = (size_t)sqlite3_column_bytes(stmt, 2);
    if (!ids && sqlite3_errcode(db->sqlite) == SQLITE_NOMEM)
        return bora_fail(err, BORA_E_NOMEM, "tokens");
    uint64_t n_left = contents->record.n_tokens - contents->n_tokens;
    if (first != contents->n_tokens || n == 0 || n > n_left || size % sizeof(int32_t) != 0 ||
        size / sizeof(int32_t) != n)
        return bora_fail(err, BORA_E_FORMAT, "session '%s': its tokens at %llu are not what was stored",
                         contents->record.name, (unsigned long long)first);
    if (bora_db_run_sum(key, first, ids, size) != (uint64_t)sqlite3_column_int64(stmt, 3))
        return bora_fail(err, BORA_E_FORMAT, "session '%s': the checksum of its tokens at %llu does not match",
                         contents->record.name, (unsigned long long)first);
    int32_t *more = bora_realloc(contents->tokens, contents->n_tokens + (size_t)n, sizeof *more);
    if (!more)
        return bora_fail(err, BORA_E_NOMEM, "session of %llu tokens", (unsigned long long)contents->record.n_tokens);
    memcpy(more + contents->n_tokens, ids, size);
    contents->tokens = more;
    contents->n_tokens += (size_t)n;
    return BORA_OK;
}

static bora_status read_tokens(bora_db *db, int64_t key, bora_session_contents *contents, bora_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bora_status st = rows_of(db, BORA_DB_TOKENS_LIST, key, &stmt, err);
    int code = SQLITE_DONE;
    while (st == BORA_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW)
        st = read_run(db, stmt, key, contents, err);
    if (st == BORA_OK && code != SQLITE_DONE)
        return bora_db_fail(db, "tokens", err);
    if (st == BORA_OK && contents->n_tokens != contents->record.n_tokens)
        return bora_fail(err, BORA_E_FORMAT, "session '%s': %zu of its %llu tokens are there", contents->record.name,
                         contents->n_tokens, (unsigned long long)contents->record.n_tokens);
    return st;
}

/* ---- pages --------------------------------------------------------------------------------------------- */

/* What was found damaged: the first few by name, the others by number. */
typedef struct damage_list {
    char text[512];
    size_t size; /* of text */
    size_t n;
} damage_list;

__attribute__((format(printf, 2, 3))) static void damage_add(damage_list *damage, const char *format, ...)
{
    if (damage->n++ >= 8)
        return;
    size_t room = sizeof damage->text - damage->size;
    int n = damage->size ? snprintf(damage->text + damage->size, room, "; ") : 0;
    damage->size += (size_t)n; /* eight entries of at most 60 bytes fit */
    room -= (size_t)n;
    va_list args;
    va_start(args, format);
    n = vsnprintf(damage->text + damage->size, room, format, args);
    va_end(args);
    damage->size += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static bora_status damage_end(const damage_list *damage, char **ret_text, bora_error *err)
{
    if (damage->n == 0)
        return BORA_OK;
    char *text =
        damage->n > 8 ? bora_format("%s; and %zu more", damage->text, damage->n - 8) : bora_strdup(damage->text);
    if (!text)
        return bora_fail(err, BORA_E_NOMEM, "damaged pages");
    *ret_text = text;
    return BORA_OK;
}

/* Why the page cannot be what was stored; NULL: it can. */
static const char *page_fault(const bora_page *page, int64_t key, uint64_t sum, uint64_t n_cached)
{
    if (page->n == 0 || page->n > BORA_PAGE_POSITIONS || page->size == 0 || page->class_id >= BORA_CLASSES_MAX)
        return "impossible";
    if (page->index > n_cached / BORA_PAGE_POSITIONS || page->index * BORA_PAGE_POSITIONS + page->n > n_cached)
        return "beyond the end";
    if (page->n < BORA_PAGE_POSITIONS && page->index * BORA_PAGE_POSITIONS + page->n != n_cached)
        return "too short";
    return bora_db_page_sum(key, page) != sum ? "checksum" : NULL;
}

/* Takes the page of the statement's row, or says what is wrong with it. */
static bora_status read_page(bora_db *db, sqlite3_stmt *stmt, int64_t key, bora_session_contents *contents,
                             damage_list *damage, bora_error *err)
{
    uint64_t class_id = (uint64_t)sqlite3_column_int64(stmt, 0), index = (uint64_t)sqlite3_column_int64(stmt, 1);
    uint64_t dtype = (uint64_t)sqlite3_column_int64(stmt, 2), n = (uint64_t)sqlite3_column_int64(stmt, 3);
    const void *data = sqlite3_column_blob(stmt, 5);
    if (!data && sqlite3_errcode(db->sqlite) == SQLITE_NOMEM)
        return bora_fail(err, BORA_E_NOMEM, "page %llu/%llu", (unsigned long long)class_id, (unsigned long long)index);
    bora_page page = {
        .class_id = class_id < UINT32_MAX ? (uint32_t)class_id : UINT32_MAX,
        .dtype = dtype < UINT32_MAX ? (uint32_t)dtype : UINT32_MAX,
        .index = index,
        .n = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX,
        .size = (size_t)sqlite3_column_bytes(stmt, 5),
        .data = (void *)data, /* SQLite's, for the checksum only; copied below */
    };
    const char *fault = page_fault(&page, key, (uint64_t)sqlite3_column_int64(stmt, 4), contents->record.n_cached);
    if (fault) {
        damage_add(damage, "page %u/%llu (%s)", page.class_id, (unsigned long long)index, fault);
        return BORA_OK;
    }
    bora_status st = grow(&contents->pages, contents->n_pages, sizeof *contents->pages, err);
    if (st != BORA_OK)
        return st;
    page.data = bora_alloc(page.size);
    if (!page.data)
        return bora_fail(err, BORA_E_NOMEM, "a page of %zu bytes", page.size);
    memcpy(page.data, data, page.size);
    contents->pages[contents->n_pages++] = page;
    return BORA_OK;
}

/* Rows that are gone leave no row to find fault with: within a class, pages follow each other up to n_cached. */
static void find_gaps(const bora_session_contents *contents, damage_list *damage)
{
    if (contents->record.n_cached == 0)
        return;
    uint64_t last = (contents->record.n_cached - 1) / BORA_PAGE_POSITIONS;
    if (contents->n_pages == 0 && damage->n == 0)
        damage_add(damage, "no page is there");
    for (size_t i = 0; i < contents->n_pages; i++) {
        const bora_page *page = &contents->pages[i];
        bool is_newest = i + 1 == contents->n_pages || page[1].class_id != page->class_id;
        uint64_t next = is_newest ? last + 1 : page[1].index;
        if (next > page->index + 1)
            damage_add(damage, "nothing of class %u between %llu and %llu", page->class_id,
                       (unsigned long long)page->index, (unsigned long long)next);
    }
}

static bora_status read_pages(bora_db *db, int64_t key, bora_session_contents *contents, bora_error *err)
{
    damage_list damage = {.n = 0};
    sqlite3_stmt *stmt = NULL;
    bora_status st = rows_of(db, BORA_DB_PAGE_LIST, key, &stmt, err);
    int code = SQLITE_DONE;
    while (st == BORA_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW)
        st = read_page(db, stmt, key, contents, &damage, err);
    if (st == BORA_OK && code != SQLITE_DONE) {
        /* The file cannot be read on from here: what was read is good, the tokens are read for themselves. */
        bora_error why = {{0}};
        st = bora_db_fail(db, "pages", &why);
        if (st == BORA_E_FORMAT || st == BORA_E_IO) {
            damage_add(&damage, "%.56s", why.message);
            st = BORA_OK;
        } else if (err) {
            *err = why;
        }
    }
    if (st == BORA_OK)
        find_gaps(contents, &damage);
    return st == BORA_OK ? damage_end(&damage, &contents->damage, err) : st;
}

/* ---- load ---------------------------------------------------------------------------------------------- */

static bora_status load_parts(bora_db *db, const char *owner, const char *name_or_id, unsigned parts,
                              bora_session_contents *contents, bora_error *err)
{
    int64_t key = 0;
    bora_status st = bora_db_find(db, owner, name_or_id, &key, &contents->record, err);
    if (st == BORA_OK && parts & BORA_DB_MESSAGES) {
        st = read_messages(db, key, contents, err);
        (void)bora_db_statement_of(db, BORA_DB_MESSAGE_LIST); /* lets go of the rows */
    }
    if (st == BORA_OK && parts & BORA_DB_TOKENS) {
        st = read_tokens(db, key, contents, err);
        (void)bora_db_statement_of(db, BORA_DB_TOKENS_LIST);
    }
    if (st == BORA_OK && parts & BORA_DB_PAGES) {
        st = read_pages(db, key, contents, err);
        (void)bora_db_statement_of(db, BORA_DB_PAGE_LIST);
    }
    return st;
}

bora_status bora_db_load(bora_db *db, const char *owner, const char *name_or_id, unsigned parts,
                         bora_session_contents *ret_contents, bora_error *err)
{
    bora_session_contents contents = {0};
    bora_status st = bora_db_begin_read(db, err);
    if (st == BORA_OK)
        st = bora_db_end(db, load_parts(db, owner, name_or_id, parts, &contents, err), err);
    if (st != BORA_OK)
        bora_session_contents_release(&contents);
    else
        *ret_contents = contents;
    return st;
}
