#!/usr/bin/env bash
# Runs test programs, shows what failed in full, and closes with the counts of single tests.
# Usage: tests/run.sh PROGRAM...   A program is a cmocka binary or a shell script that prints TAP-like lines:
# "ok - NAME", "not ok - NAME", "skip - NAME: why". Unit, conformance and fuzz programs run as many at a time as there
# are processors; the others, which start daemons, one after the other. Reports come in the order of the arguments.
# BORA_TEST_TIMEOUT: seconds per program (default 300). BORA_TEST_JOBS: how many at a time.
set -u
cd "$(dirname "$0")/.." || exit 1
export OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:die_after_fork=0:allocator_may_return_null=1:suppressions=$PWD/tests/tsan.supp}
limit=${BORA_TEST_TIMEOUT:-300}
jobs=${BORA_TEST_JOBS:-$(nproc)}
passed=0 failed=0 skipped=0 broken=()
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

programs=("$@")
n_reported=0

# Runs program number $1: its output in LOGS/$1, then "CODE MILLISECONDS" in LOGS/$1.end.
run() {
    local start code
    start=$(date +%s%N)
    timeout --kill-after=10 "$limit" "${programs[$1]}" >"$logs/$1" 2>&1 </dev/null &
    trap 'kill $! 2>/dev/null; exit 130' TERM # timeout passes it on
    wait $!
    code=$?
    echo "$code $((($(date +%s%N) - start) / 1000000))" >"$logs/$1.part"
    mv "$logs/$1.part" "$logs/$1.end"
}

report() {
    local log=$logs/$1 code ms ok bad skip name
    read -r code ms <"$log.end"
    ok=$(grep -acE '^\[       OK \]|^ok ' "$log")
    # cmocka names what failed or was skipped a second time at its end.
    bad=$(grep -aE '^\[  FAILED  \] [A-Za-z_0-9]+$|^not ok ' "$log" | sort -u | wc -l)
    skip=$(grep -aE '^\[  SKIPPED \] [A-Za-z_0-9]+$|^skip ' "$log" | sort -u | wc -l)
    if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1 # it crashed, timed out, or a sanitizer ended it
    fi
    if [ "$code" -eq 0 ] && [ $((ok + bad + skip)) -eq 0 ]; then
        bad=1 # it ran no test: that is no success
        code=no-test
    fi
    name=${programs[$1]#"${BORA_BUILD:-build}"/}
    printf '%-48s %4d ok %3d failed %3d skipped %7d ms\n' "${name#tests/}" "$ok" "$bad" "$skip" "$ms"
    grep -E '^skip ' "$log" | sed 's/^/    /'
    grep -aE '^SKIP: ' "$log" | sed 's/^SKIP/    skipped/' # named by tests/support/skip.h
    if [ "$bad" -gt 0 ]; then
        broken+=("$name (exit $code)")
        sed 's/^/    /' "$log" | tail -n 120
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

report_ended() {
    while [ -e "$logs/$n_reported.end" ]; do
        report "$n_reported"
        n_reported=$((n_reported + 1))
    done
}

n_running=0
for i in "${!programs[@]}"; do
    case ${programs[i]} in
    */tests/unit/* | */tests/conformance/* | */tests/fuzz/*) most=$jobs ;;
    *) most=1 ;;
    esac
    while [ "$n_running" -ge "$most" ]; do
        wait -n
        n_running=$((n_running - 1))
        report_ended
    done
    run "$i" &
    n_running=$((n_running + 1))
done
wait
report_ended

for name in "${broken[@]:-}"; do
    [ -n "$name" ] && echo "FAILED: $name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$n_reported" -eq "${#programs[@]}" ]
