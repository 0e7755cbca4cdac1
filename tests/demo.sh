#!/usr/bin/env bash
# A private daemon on the embedded model, in a temporary folder that is gone afterwards: nothing of the user's is
# touched. With a terminal one chats with it. Without one it plays what bora is for: the daemon is killed and the
# conversation goes on. Exits with 1 if it does not.
# Usage: tests/demo.sh BUILD_DIR
set -u
build=$(cd "${1:?usage: tests/demo.sh BUILD_DIR}" && pwd) || exit 1
folder=$(mktemp -d /tmp/bora-demo-XXXXXX) || exit 1 # /tmp: the path of a socket has to be short
socket=$folder/bora.sock
log=$folder/borad.log
daemon=

clean_up() {
    [ -n "$daemon" ] && end_daemon TERM
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    printf '\nThe demo failed: %s\n' "$1" >&2
    [ -s "$log" ] && sed 's/^/  borad: /' "$log" >&2
    exit 1
}

# In a session of its own: a Ctrl-C is for the chat. Its log comes through a pipe, which tells when it is ready.
start_daemon() {
    rm -f "$folder/says"
    mkfifo "$folder/says" || exit 1
    setsid "$build/bin/borad" --config none --socket "$socket" --database "$folder/sessions.db" \
        >"$folder/says" 2>&1 </dev/null &
    daemon=$!
    exec 3<"$folder/says"
    while IFS= read -r line <&3; do
        printf '%s\n' "$line" >>"$log"
        case $line in *'listening on'*)
            cat <&3 >>"$log" &
            return
            ;;
        esac
    done
    fail "borad did not start"
}

end_daemon() {
    { kill "-$1" "$daemon" && wait "$daemon"; } 2>/dev/null
    daemon=
}

# Keeps a daemon running until it is told to end, and tells the first one's process id.
supervise() {
    trap '' INT # that is for the chat
    trap 'end_daemon TERM; exit 0' TERM
    start_daemon
    echo "$daemon"
    while wait "$daemon"; [ $? -eq 137 ]; do # 128 and SIGKILL: the user's doing
        start_daemon
    done 2>/dev/null
}

chat() {
    mkfifo "$folder/ready" || exit 1
    supervise >"$folder/ready" &
    supervisor=$!
    read -r process <"$folder/ready" || exit 1 # it has said why
    cat <<TEXT

You are talking to bora-tiny, the small model that bora carries: it knows simple English, a few hundred facts, and
what you tell it. Try:

  My name is Anna.    What is the capital of France?    What does ls do?    What is my name?

To see the conversation survive, kill the daemon from another terminal and go on here:  kill -9 $process
(it is started again at once). /help lists the commands of the chat, Ctrl-D ends it.

TEXT
    trap : INT # the chat's: it cancels an answer
    "$build/bin/bora" chat -s demo --socket "$socket"
    code=$?
    trap 'exit 130' INT
    kill "$supervisor"
    wait "$supervisor"
    cat <<TEXT

This daemon and its conversations are gone now. For one of your own, which keeps them:

  $build/bin/borad &
  $build/bin/bora chat -s NAME

With another model: borad --model FILE.gguf. 'make install' installs it all, with units for systemd.
TEXT
    return "$code"
}

# One turn: sets answer, n_history, n_cached, n_rerun and n_prompt from the daemon's events.
ask() {
    printf '   you   %s\n' "$1"
    events=$("$build/bin/bora" ask -s demo --socket "$socket" --temp 0 --json "$1") || fail "bora ask: $events"
    answer=$(printf '%s\n' "$events" | sed -n 's/.*"event": "token".*"text": "\(.*\)", "logprob".*/\1/p' | tr -d '\n' |
        sed 's/\\"/"/g; s/\\\\/\\/g')
    n_history=$(number n_history) n_cached=$(number n_cached) n_rerun=$(number n_rerun) n_prompt=$(number n_prompt)
    printf '   bora  %s\n' "$answer"
}

number() {
    printf '%s\n' "$events" | sed -n 's/.*"event": "accepted".*"'"$1"'": \([0-9]*\).*/\1/p'
}

play() {
    name=Anna
    start_daemon
    first=$daemon
    printf '\nbora: a private daemon (process %s) with the embedded model, in a temporary folder.\n' "$first"
    printf '\n1. Tell it a name, and talk about something else.\n'
    ask "My name is $name."
    ask "What is the capital of France?"
    printf '\n2. kill -9 %s: the daemon gets no chance to put anything away.\n' "$first"
    end_daemon KILL
    kill -0 "$first" 2>/dev/null && fail "process $first is still there"
    start_daemon
    printf '   Started again: process %s.\n' "$daemon"
    printf '\n3. Go on in the same session.\n'
    ask "What is my name?"
    case $answer in *"$name"*) ;; *) fail "it does not know the name any more" ;; esac
    [ "${n_history:-0}" -gt 0 ] || fail "the session was not resumed"
    printf '\nThe conversation had %s tokens. %s prompt tokens of the old turns were run again:\n' "$n_history" \
        "${n_rerun:-?}"
    [ "${n_rerun:-}" = 0 ] || fail "that should be 0"
    # The last token of an answer is in the history but was never run: it goes in with the next question.
    [ "${n_cached:-0}" -eq $((n_history - 1)) ] || fail "only $n_cached of them came from the database"
    printf 'the new daemon took their keys and values from its database and read the %s tokens of the question.\n' \
        "$n_prompt"
    printf '\nIn a terminal, make demo opens a chat of your own.\n'
}

if [ -t 0 ] && [ -t 1 ]; then
    chat
else
    play
fi
