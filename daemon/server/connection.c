/* Connections: who is there, what they have open, and what happens to it when they vanish or stop reading. */
#include "server/server_private.h"

#include "base/memory.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

bora_connection *bora_connection_find(bora_server *server, const uint8_t *routing_id, int fd)
{
    for (bora_connection *c = server->connections; c; c = c->next)
        if (!c->is_gone && c->fd == fd && memcmp(c->routing_id, routing_id, BORA_ROUTING_ID_SIZE) == 0)
            return c;
    return NULL;
}

bora_connection *bora_connection_new(bora_server *server, const uint8_t *routing_id, int fd, const char *owner)
{
    if (server->n_connections == BORA_CONNECTIONS_MAX)
        return NULL;
    bora_connection *connection = bora_calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    memcpy(connection->routing_id, routing_id, BORA_ROUTING_ID_SIZE);
    connection->fd = fd;
    (void)snprintf(connection->owner, sizeof connection->owner, "%s", owner); /* "uid:" and a number: fits */
    connection->next = server->connections;
    server->connections = connection;
    server->n_connections++;
    return connection;
}

/* ---- sending ------------------------------------------------------------------------------------------ */

/* 0, or errno: EHOSTUNREACH when the client is gone, EAGAIN when its queue is full, ENOMEM. */
static int send_frame(bora_server *server, const uint8_t *routing_id, const bora_pack *pack)
{
    if (!bora_pack_ok(pack))
        return ENOMEM;
    while (zmq_send(server->router, routing_id, BORA_ROUTING_ID_SIZE, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    while (zmq_send(server->router, pack->data, pack->size, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

void bora_connection_send(bora_server *server, bora_connection *connection, const uint8_t *routing_id,
                          const bora_pack *pack)
{
    int failure = send_frame(server, routing_id, pack);
    if (failure == 0 || !connection)
        return;
    server->has_lapses = true;
    if (failure == EHOSTUNREACH) {
        connection->is_gone = true;
    } else if (!connection->does_not_read) {
        connection->does_not_read = true;
        bora_logf(server->log, BORA_LOG_WARN, "client of %s does not read: its requests are cancelled",
                  connection->owner);
    }
}

/* ---- ends --------------------------------------------------------------------------------------------- */

void bora_connections_disconnected(bora_server *server, int fd)
{
    for (bora_connection *c = server->connections; c; c = c->next)
        if (c->fd == fd) {
            c->is_gone = true;
            server->has_lapses = true;
        }
}

/* Ends its generations; whatever else is open ends by itself, with nobody to tell. */
static void drop_requests(bora_server *server, bora_connection *connection)
{
    bora_request *request = connection->requests;
    connection->requests = NULL;
    connection->n_open = 0;
    while (request) {
        bora_request *next = request->next;
        request->connection = NULL;
        if (request->generation_id)
            bora_sessions_abandon(server->options.sessions, request->generation_id);
        if (request->generation_id || request->swap_id) /* nobody will come back to it */
            bora_request_free(request);
        request = next;
    }
}

static void end_generations(bora_server *server, bora_connection *connection)
{
    bora_request *next;
    for (bora_request *request = connection->requests; request; request = next) {
        next = request->next;
        if (!request->generation_id)
            continue;
        bora_sessions_abandon(server->options.sessions, request->generation_id);
        if (connection->n_overdue < BORA_REQUESTS_MAX)
            connection->overdue[connection->n_overdue++] = request->id;
        bora_request_free(request);
    }
}

/* Tells a client that did not read how its requests ended, as far as it reads again. */
static void tell_overdue(bora_server *server, bora_connection *connection)
{
    while (connection->n_overdue > 0) {
        bora_pack pack = {0};
        bora_pack_map(&pack, NULL);
        bora_pack_uint(&pack, "id", connection->overdue[0]);
        bora_pack_string(&pack, "event", "error");
        bora_pack_string(&pack, "code", "cancelled");
        bora_pack_string(&pack, "message", "the client did not read its events; what was generated until then is kept");
        bora_pack_end(&pack);
        int failure = send_frame(server, connection->routing_id, &pack);
        bora_pack_release(&pack);
        if (failure == EHOSTUNREACH)
            connection->is_gone = true;
        if (failure)
            return;
        bora_server_count_error(server, "cancelled");
        connection->n_overdue--;
        memmove(connection->overdue, connection->overdue + 1, connection->n_overdue * sizeof connection->overdue[0]);
    }
    connection->does_not_read = false;
}

void bora_connections_tidy(bora_server *server)
{
    if (!server->has_lapses)
        return;
    server->has_lapses = false;
    for (bora_connection **link = &server->connections; *link;) {
        bora_connection *connection = *link;
        if (connection->does_not_read && !connection->is_gone) {
            end_generations(server, connection);
            tell_overdue(server, connection);
        }
        if (connection->is_gone) {
            drop_requests(server, connection);
            *link = connection->next;
            server->n_connections--;
            bora_logf(server->log, BORA_LOG_DEBUG, "client of %s is gone", connection->owner);
            bora_free(connection);
            continue;
        }
        if (connection->does_not_read)
            server->has_lapses = true; /* again later */
        link = &connection->next;
    }
}

void bora_connections_tell_loading(bora_server *server, const bora_scheduler_stats *stats)
{
    for (bora_connection *connection = server->connections; connection; connection = connection->next)
        for (bora_request *request = connection->requests; request; request = request->next)
            if (request->generation_id != 0)
                bora_request_tell_loading(request, stats);
}

void bora_connections_free(bora_server *server)
{
    while (server->connections) {
        bora_connection *connection = server->connections;
        server->connections = connection->next;
        while (connection->requests)
            bora_request_free(connection->requests);
        bora_free(connection);
    }
    server->n_connections = 0;
}
