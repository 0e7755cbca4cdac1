#!/usr/bin/env bash
# What a sliding window is worth: time per token and bytes of keys and values at growing positions, with a window and without,
# as CSV for a plot (columns as `bora-model bench --csv` has them; window 0: none). Both take turns, as the machine's speed
# wanders; read_share says how it stands to what the machine could read at that time.
# Usage: tests/bench/window.sh BUILD_DIR MODEL [WINDOW [POSITIONS [ROUNDS [BENCH_OPTION...]]]]
set -u
usage='usage: tests/bench/window.sh BUILD_DIR MODEL [WINDOW [POSITIONS [ROUNDS [BENCH_OPTION...]]]]'
build=$(cd "${1:?$usage}" && pwd) || exit 1
model=${2:?a model is missing}
window=${3:-4096}
positions=${4:-4096,8192,16000}
rounds=${5:-3}
shift $(($# < 5 ? $# : 5))

measure() {
    "$build/bin/bora-model" bench "$model" --csv --rounds 1 -p 16 --batch 1 --context "$positions" --window "$1" "${@:2}"
}

for ((round = 0; round < rounds; round++)); do
    with=$(measure "$window" "$@") && without=$(measure none "$@") || exit 1
    ((round == 0)) && printf 'round,%s\n' "${with%%$'\n'*}"
    printf '%s\n' "$with" "$without" | grep -v '^window,' | sed "s/^/$round,/"
done
