#!/usr/bin/env bash
# Start time, time to answer `bora model`, time of a short answer, and resident memory of a daemon that serves MODEL,
# with the file in the page cache. One row of a Markdown table per run.
# Usage: tests/bench/footprint.sh BUILD_DIR MODEL [RUNS [BORAD_OPTION...]]
set -u
build=$(cd "${1:?usage: tests/bench/footprint.sh BUILD_DIR MODEL [RUNS [BORAD_OPTION...]]}" && pwd) || exit 1
model=${2:?a model is missing}
runs=${3:-3}
shift $(($# < 3 ? $# : 3))
folder=$(mktemp -d /tmp/bora-footprint-XXXXXX) || exit 1
daemon=
trap '[ -n "$daemon" ] && kill "$daemon" 2>/dev/null; rm -rf "$folder"' EXIT
mkfifo "$folder/says" || exit 1
export BORA_SOCKET=$folder/bora.sock

now_ms() { echo $(($(date +%s%N) / 1000000)); }
# MiB of a field of the daemon's status.
mib() { awk -v field="$1:" '$1 == field { printf "%.0f", $2 / 1024 }' "/proc/$daemon/status"; }

cat "$model" >/dev/null || exit 1
echo '| run | ready ms | `bora model` ms | RssAnon, RssFile MiB when ready | 4 tokens s | RssAnon, RssFile, VmHWM MiB after them |'
echo '|---|---|---|---|---|---|'
for ((run = 1; run <= runs; run++)); do
    start=$(now_ms)
    "$build/bin/borad" --config none --model "$model" --database "$folder/$run.db" "$@" >"$folder/says" 2>&1 </dev/null &
    daemon=$!
    ready=
    exec 3<"$folder/says"
    while IFS= read -r line <&3; do
        case $line in *'listening on'*)
            ready=$(now_ms)
            cat <&3 >/dev/null &
            break
            ;;
        esac
        last=$line
    done
    [ -n "$ready" ] || { echo "borad did not start: ${last:-}" >&2; exit 1; }
    before="$(mib RssAnon), $(mib RssFile)"
    asked=$(now_ms)
    "$build/bin/bora" model >/dev/null || exit 1
    told=$(now_ms)
    "$build/bin/bora" complete "hello the world" -n 4 --temp 0 >/dev/null || exit 1
    done_at=$(now_ms)
    printf '| %d | %d | %d | %s | %s | %s, %s, %s |\n' "$run" $((ready - start)) $((told - asked)) "$before" \
        "$(awk -v ms=$((done_at - told)) 'BEGIN { printf "%.1f", ms / 1000 }')" "$(mib RssAnon)" "$(mib RssFile)" "$(mib VmHWM)"
    kill "$daemon" && wait "$daemon"
    daemon=
done
