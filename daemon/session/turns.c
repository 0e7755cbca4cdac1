/* A finished turn as one transaction: messages, tokens, new pages, and the end of pages that no window needs.
 *
 * The cost is that of the turn: its rows are written, and the rows that leave are found by their key. Nothing is read
 * of the pages that stay. */
#include "session/db_private.h"

#include <string.h>

/* The session before the turn. */
typedef struct session_head {
    int64_t key;
    uint64_t n_tokens, n_cached, n_turns;
} session_head;

/* ---- checks -------------------------------------------------------------------------------------------- */

/* Pages of one turn: of each class in ascending order without gaps, up to n_cached. */
static bora_status check_pages(const bora_turn *turn, bora_error *err)
{
    uint64_t next[BORA_CLASSES_MAX] = {0}; /* index behind the class's newest page; 0: it has none */
    for (size_t i = 0; i < turn->n_pages; i++) {
        const bora_page *page = &turn->pages[i];
        uint32_t c = page->class_id;
        if (c >= BORA_CLASSES_MAX || (turn->n_classes && c >= turn->n_classes))
            return bora_fail(err, BORA_E_INVAL, "a page of class %u, of %zu classes", c, turn->n_classes);
        if (page->n == 0 || page->n > BORA_PAGE_POSITIONS || !page->data || page->size == 0)
            return bora_fail(err, BORA_E_INVAL, "page %u/%llu of %u positions in %zu bytes", c,
                             (unsigned long long)page->index, page->n, page->size);
        uint64_t newest = (turn->n_cached + BORA_PAGE_POSITIONS - 1) / BORA_PAGE_POSITIONS; /* index + 1 */
        uint64_t rows =
            page->index + 1 == newest ? turn->n_cached - page->index * BORA_PAGE_POSITIONS : BORA_PAGE_POSITIONS;
        if (page->index >= newest || page->n != rows)
            return bora_fail(err, BORA_E_INVAL, "page %u/%llu of %u positions, when %llu are cached", c,
                             (unsigned long long)page->index, page->n, (unsigned long long)turn->n_cached);
        if (c < turn->n_classes && page->index < turn->keep_from[c])
            return bora_fail(err, BORA_E_INVAL, "page %u/%llu is stored and deleted at once", c,
                             (unsigned long long)page->index);
        if (next[c] && page->index != next[c])
            return bora_fail(err, BORA_E_INVAL, "page %u/%llu follows %u/%llu", c, (unsigned long long)page->index, c,
                             (unsigned long long)next[c] - 1);
        next[c] = page->index + 1;
    }
    for (uint32_t c = 0; c < BORA_CLASSES_MAX; c++)
        if (next[c] && next[c] * BORA_PAGE_POSITIONS < turn->n_cached)
            return bora_fail(err, BORA_E_INVAL, "the pages of class %u end at %llu of %llu positions", c,
                             (unsigned long long)(next[c] * BORA_PAGE_POSITIONS), (unsigned long long)turn->n_cached);
    return BORA_OK;
}

/* What needs no look into the database. */
static bora_status check_turn(const bora_turn *turn, bora_error *err)
{
    if (!bora_session_id_like(turn->session_id))
        return bora_fail(err, BORA_E_INVAL, "a turn of session '%.64s': not an id", turn->session_id);
    if (turn->n_classes > BORA_CLASSES_MAX)
        return bora_fail(err, BORA_E_INVAL, "%zu classes of pages", turn->n_classes);
    if (!turn->user_text && turn->answer_size)
        return bora_fail(err, BORA_E_INVAL, "an answer to no message");
    if (turn->first_token > INT64_MAX || turn->n_tokens > INT64_MAX / sizeof(int32_t) ||
        turn->first_token + turn->n_tokens > INT64_MAX)
        return bora_fail(err, BORA_E_INVAL, "%zu tokens at %llu", turn->n_tokens,
                         (unsigned long long)turn->first_token);
    if (turn->n_cached > turn->first_token + turn->n_tokens)
        return bora_fail(err, BORA_E_INVAL, "%llu of %llu tokens are cached", (unsigned long long)turn->n_cached,
                         (unsigned long long)(turn->first_token + turn->n_tokens));
    for (size_t i = 0; i < turn->n_tokens; i++)
        if (turn->tokens[i] < 0)
            return bora_fail(err, BORA_E_INVAL, "token %d", turn->tokens[i]);
    return check_pages(turn, err);
}

/* What the turn builds on must be what is stored. */
static bora_status check_head(const bora_turn *turn, const session_head *head, bora_error *err)
{
    if (turn->first_token != head->n_tokens)
        return bora_fail(err, BORA_E_BUSY,
                         "the session has %llu tokens, the turn follows %llu: it was changed meanwhile",
                         (unsigned long long)head->n_tokens, (unsigned long long)turn->first_token);
    if (turn->user_text && turn->turn != head->n_turns)
        return bora_fail(err, BORA_E_INVAL, "turn %llu, after %llu turns", (unsigned long long)turn->turn,
                         (unsigned long long)head->n_turns);
    uint64_t n_before = turn->replace_pages ? 0 : head->n_cached;
    if (turn->n_cached < n_before || (turn->n_cached > n_before && turn->n_pages == 0))
        return bora_fail(err, BORA_E_INVAL, "%llu tokens are cached, then %llu, with %zu new pages",
                         (unsigned long long)n_before, (unsigned long long)turn->n_cached, turn->n_pages);
    return BORA_OK;
}

static bora_status read_head(bora_db *db, const char *owner, const bora_turn *turn, session_head *ret_head,
                             bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_HEAD);
    bora_status st = BORA_OK;
    if (bora_db_bind_text(stmt, 1, owner) != SQLITE_OK || bora_db_bind_text(stmt, 2, turn->session_id) != SQLITE_OK)
        st = bora_db_fail(db, "session", err);
    int code = st == BORA_OK ? sqlite3_step(stmt) : SQLITE_DONE;
    const char *model = code == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 1) : NULL;
    if (st == BORA_OK && code == SQLITE_DONE)
        st = bora_fail(err, BORA_E_NOT_FOUND, "no session '%s'", turn->session_id);
    else if (st == BORA_OK && (code != SQLITE_ROW || !model))
        st = bora_db_fail(db, "session", err);
    else if (st == BORA_OK && strcmp(model, turn->model) != 0)
        st = bora_fail(err, BORA_E_UNSUPPORTED, "the session is one of model %s, not of %s", model, turn->model);
    else if (st == BORA_OK)
        *ret_head = (session_head){.key = sqlite3_column_int64(stmt, 0),
                                   .n_tokens = (uint64_t)sqlite3_column_int64(stmt, 2),
                                   .n_cached = (uint64_t)sqlite3_column_int64(stmt, 3),
                                   .n_turns = (uint64_t)sqlite3_column_int64(stmt, 4)};
    (void)bora_db_statement_of(db, BORA_DB_SESSION_HEAD); /* lets go of the row */
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static bora_status write_message(bora_db *db, int64_t key, const bora_turn *turn, bool is_answer, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_MESSAGE_INSERT);
    const char *text = is_answer ? turn->answer_text : turn->user_text;
    size_t size = is_answer ? turn->answer_size : strlen(turn->user_text);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 2, (int64_t)turn->turn) != SQLITE_OK ||
        bora_db_bind_text(stmt, 3, is_answer ? "assistant" : "user") != SQLITE_OK ||
        sqlite3_bind_text64(stmt, 4, text ? text : "", size, SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK ||
        sqlite3_bind_int(stmt, 5, is_answer && turn->interrupted) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 6, is_answer ? turn->answer_created : turn->user_created) != SQLITE_OK)
        return bora_db_fail(db, "message", err);
    return bora_db_run(db, stmt, "message", err);
}

static bora_status write_tokens(bora_db *db, int64_t key, const bora_turn *turn, bora_error *err)
{
    if (turn->n_tokens == 0)
        return BORA_OK;
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_TOKENS_INSERT);
    size_t size = turn->n_tokens * sizeof *turn->tokens; /* checked by check_turn */
    uint64_t sum = bora_db_run_sum(key, turn->first_token, turn->tokens, size);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 2, (int64_t)turn->first_token) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 3, (int64_t)turn->n_tokens) != SQLITE_OK ||
        sqlite3_bind_blob64(stmt, 4, turn->tokens, size, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 5, (int64_t)sum) != SQLITE_OK)
        return bora_db_fail(db, "tokens", err);
    return bora_db_run(db, stmt, "tokens", err);
}

/* From which page on each class is kept: what the turn says; and nothing from before a gap, as older pages that do not
 * reach the new ones can restore nothing. (A long turn leaves such a gap in a class with a window.) */
static void keep_from(const bora_turn *turn, const session_head *head, uint64_t ret_keep[BORA_CLASSES_MAX])
{
    uint64_t first[BORA_CLASSES_MAX] = {0};
    for (size_t i = turn->n_pages; i-- > 0;)
        first[turn->pages[i].class_id] = turn->pages[i].index;
    for (size_t c = 0; c < BORA_CLASSES_MAX; c++) {
        uint64_t keep = c < turn->n_classes ? turn->keep_from[c] : 0;
        if (first[c] > head->n_cached / BORA_PAGE_POSITIONS && first[c] > keep)
            keep = first[c];
        ret_keep[c] = keep < INT64_MAX ? keep : INT64_MAX;
    }
}

/* Before the new pages are written, so that they can have the room. */
static bora_status delete_pages(bora_db *db, const session_head *head, const bora_turn *turn, bora_error *err)
{
    if (turn->replace_pages) {
        sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_PAGE_DELETE_ALL);
        if (sqlite3_bind_int64(stmt, 1, head->key) != SQLITE_OK)
            return bora_db_fail(db, "pages", err);
        return bora_db_run(db, stmt, "pages", err);
    }
    uint64_t keep[BORA_CLASSES_MAX];
    keep_from(turn, head, keep);
    bora_status st = BORA_OK;
    for (size_t c = 0; st == BORA_OK && c < BORA_CLASSES_MAX; c++) {
        if (keep[c] == 0)
            continue;
        sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_PAGE_DELETE_BEFORE);
        if (sqlite3_bind_int64(stmt, 1, head->key) != SQLITE_OK ||
            sqlite3_bind_int64(stmt, 2, (int64_t)c) != SQLITE_OK ||
            sqlite3_bind_int64(stmt, 3, (int64_t)keep[c]) != SQLITE_OK)
            return bora_db_fail(db, "pages", err);
        st = bora_db_run(db, stmt, "pages", err);
    }
    return st;
}

static bora_status write_page(bora_db *db, int64_t key, const bora_page *page, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_PAGE_INSERT);
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK || sqlite3_bind_int64(stmt, 2, page->class_id) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 3, (int64_t)page->index) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 4, page->dtype) != SQLITE_OK || sqlite3_bind_int64(stmt, 5, page->n) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 6, (int64_t)bora_db_page_sum(key, page)) != SQLITE_OK ||
        sqlite3_bind_blob64(stmt, 7, page->data, page->size, SQLITE_STATIC) != SQLITE_OK)
        return bora_db_fail(db, "page", err);
    return bora_db_run(db, stmt, "page", err);
}

static bora_status write_session(bora_db *db, int64_t key, const bora_turn *turn, bora_error *err)
{
    sqlite3_stmt *stmt = bora_db_statement_of(db, BORA_DB_SESSION_UPDATE);
    int64_t now = turn->user_text ? turn->answer_created : bora_db_now();
    if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 2, (int64_t)(turn->first_token + turn->n_tokens)) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 3, (int64_t)turn->n_cached) != SQLITE_OK ||
        sqlite3_bind_int64(stmt, 4, now) != SQLITE_OK || bora_db_bind_text(stmt, 5, turn->system) != SQLITE_OK)
        return bora_db_fail(db, "session", err);
    return bora_db_run(db, stmt, "session", err);
}

static bora_status write_turn(bora_db *db, const session_head *head, const bora_turn *turn, bora_error *err)
{
    int64_t key = head->key;
    bora_status st = BORA_OK;
    if (turn->user_text) {
        st = write_message(db, key, turn, false, err);
        if (st == BORA_OK)
            st = write_message(db, key, turn, true, err);
    }
    if (st == BORA_OK)
        st = write_tokens(db, key, turn, err);
    if (st == BORA_OK)
        st = delete_pages(db, head, turn, err);
    for (size_t i = 0; st == BORA_OK && i < turn->n_pages; i++)
        st = write_page(db, key, &turn->pages[i], err);
    return st == BORA_OK ? write_session(db, key, turn, err) : st;
}

bora_status bora_db_commit(bora_db *db, const char *owner, const bora_turn *turn, bora_error *err)
{
    session_head head = {0};
    bora_status st = check_turn(turn, err);
    if (st == BORA_OK)
        st = bora_db_begin(db, err);
    if (st != BORA_OK)
        return st;
    st = read_head(db, owner, turn, &head, err);
    if (st == BORA_OK)
        st = check_head(turn, &head, err);
    if (st == BORA_OK)
        st = write_turn(db, &head, turn, err);
    return bora_db_end(db, st, err);
}
