#!/usr/bin/env bash
# One fuzz target with libFuzzer: tests/fuzz/run.sh NAME SECONDS. New inputs go to build-fuzz/corpus/NAME; an input that
# breaks the target to build-fuzz/NAME-*, and the script fails.
set -u
cd "$(dirname "$0")/../.." || exit 1
name=$1 seconds=$2
mkdir -p "build-fuzz/corpus/$name"
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
log=build-fuzz/$name.log
"build-fuzz/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -use_value_profile=1 \
    -print_final_stats=1 -artifact_prefix="build-fuzz/$name-" \
    "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1
code=$?
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
covered=$(grep -aoE 'cov: [0-9]+' "$log" | tail -n 1)
if [ "$code" -ne 0 ]; then
    tail -n 60 "$log"
    echo "fuzz $name: failed, see $log"
    exit 1
fi
echo "fuzz $name: ${runs:-?} runs, ${covered:-cov: ?}, nothing found"
