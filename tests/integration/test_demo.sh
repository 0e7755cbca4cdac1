#!/usr/bin/env bash
# make demo without a terminal: plays to its end, and leaves nothing behind. (It checks itself what it claims.)
set -u
cd "$(dirname "$0")/../.." || exit 1
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
failed=0

result() { # CODE NAME
    if [ "$1" -eq 0 ]; then
        echo "ok - $2"
    else
        echo "not ok - $2"
        cat "$said"
        failed=1
    fi
}

tests/demo.sh "${BORA_BUILD:-build}" </dev/null >"$said" 2>&1
result $? 'the demo plays to its end'
grep -q ' 0 prompt tokens of the old turns were run again' "$said"
result $? 'it tells how many tokens were run again'
processes=$(sed -n 's/.*(\{0,1\}process \([0-9]*\).*/\1/p' "$said")
[ "$(printf '%s\n' "$processes" | sort -u | wc -l)" -eq 2 ]
result $? 'it was another daemon that went on'
left=0
for process in $processes; do
    kill -0 "$process" 2>/dev/null && left=1
done
result "$left" 'no daemon is left behind'
exit "$failed"
