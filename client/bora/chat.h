/* What a chat's loop and its slash commands share. */
#ifndef BORA_BORA_CHAT_H
#define BORA_BORA_CHAT_H

#include "command.h"

typedef struct bora_chat {
    bora_cli *cli;
    char *session;      /* owned; NULL: a new one, which gets its name with the first message */
    char *system;       /* owned; prompt for a new conversation; NULL: none */
    bool has_begun;     /* a message of this run is in the session */
    bool knows_history; /* it was told what was run again of the history, which the daemon has had since */
    bool is_resumed;    /* the session had messages when it was picked */
    bool is_ending;     /* /quit */
} bora_chat;

/* Picks a session (NULL: a new one without a name yet) and says what is in it. false: no memory. */
bool bora_chat_pick(bora_chat *chat, const char *session);

/* A line that begins with a slash, without the slash. What goes wrong is said and ends nothing. */
void bora_chat_slash(bora_chat *chat, const char *line);

#endif
