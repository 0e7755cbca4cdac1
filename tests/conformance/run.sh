#!/usr/bin/env bash
# Runs the conformance suite on plugins, each with the suite of its kind, and says what its author wants to know.
# Usage: tests/conformance/run.sh [PLUGIN.so ...]   Without arguments: all plugins that were built.
# BORA_BUILD: the build folder. BORA_TEST_TIMEOUT: seconds per program of the suite (default 300).
# BORA_CONFORMANCE_CASE: the one case to run.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
build=${BORA_BUILD:-$here/../../build}
export OPENBLAS_NUM_THREADS=1 CMOCKA_MESSAGE_OUTPUT=STDOUT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:allocator_may_return_null=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:die_after_fork=0:allocator_may_return_null=1:suppressions=$here/../tsan.supp}
limit=${BORA_TEST_TIMEOUT:-300}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
n_plugins=0 bad_plugins=()

# Reads what a program of the suite printed; prints a line per case, and with a failure what was said about it.
# Last line: "= PASSED FAILED SKIPPED NAMES-OF-FAILED".
digest() {
    awk -v plugin="$1" -v code="$2" '
    function short(name) { return substr(name, 1, length(plugin) + 1) == plugin "_" ? substr(name, length(plugin) + 2) : name }
    function failed(verdict, name) {
        printf "  %-8s %s\n", verdict, short(name)
        for (i = 0; i < n_said; i++) printf "           %s\n", said[i]
        n_bad++; names = names " " short(name)
    }
    /^\[ RUN      \] /      { running = $4; n_said = 0; next }
    /^\[       OK \] /      { if (running != "") { printf "  ok       %s\n", short($4); n_ok++ } running = ""; next }
    /^\[  FAILED  \] /      { if (running != "") failed("FAILED", running); running = ""; next }
    /^\[  SKIPPED \] /      { if (running != "") { printf "  skipped  %s\n", short(running); n_skip++
                              for (i = 0; i < n_said; i++) printf "           %s\n", said[i] } running = ""; next }
    /^\[==========\]|^\[  PASSED  \]/ { next }
    { sub(/^\[  ERROR   \] --- /, ""); sub(/^ERROR: /, ""); sub(/^\[   LINE   \] --- /, "at "); sub(/: error: Failure!$/, "")
      if (n_said < 40 && $0 != "") said[n_said++] = $0 }
    END {
        if (running != "") failed(code == 124 || code == 137 ? "HANGS" : "CRASHES", running)
        else if (code != 0 && !n_bad) failed("FAILED", "after_the_last_case")
        printf "= %d %d %d%s\n", n_ok, n_bad, n_skip, names
    }' "$log"
}

check() {
    local path=$1 about kind name rest program passed=0 failed=0 skipped=0 names=() lines counts code
    n_plugins=$((n_plugins + 1))
    if ! about=$("$build/tests/conformance/plugin_kind" "$path" 2>&1); then
        printf '%s\n  The daemon would not load it: %s\n\n' "$path" "$about"
        bad_plugins+=("$path")
        return
    fi
    read -r kind name rest <<<"$about"
    printf '%s-%s (%s), %s\n' "$kind" "$name" "$path" "$rest"
    for program in "$build/tests/conformance/test_$kind" "$build/tests/conformance/test_${kind}_"*; do
        [ -x "$program" ] && [ ! -d "$program" ] || continue
        BORA_CONFORMANCE_PLUGIN=$(realpath "$path") timeout --kill-after=10 "$limit" "$program" >"$log" 2>&1 </dev/null
        code=$?
        lines=$(digest "$name" "$code")
        counts=${lines##*= }
        lines=${lines%= *}
        printf '%s' "$lines"
        read -ra counts <<<"$counts"
        passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
        names+=("${counts[@]:3}")
    done
    if [ "$failed" -gt 0 ]; then
        printf '%s-%s does NOT conform: %d of %d cases failed: %s\n\n' "$kind" "$name" "$failed" \
            $((passed + failed)) "${names[*]}"
        bad_plugins+=("$kind-$name")
    elif [ "$passed" -eq 0 ]; then
        printf '%s-%s: nothing could be tested here (%d skipped)\n\n' "$kind" "$name" "$skipped"
        [ "$given" -eq 0 ] || bad_plugins+=("$kind-$name")
    elif [ "$skipped" -gt 0 ]; then
        printf '%s-%s conforms as far as it could be tested here: %d cases passed, %d skipped\n\n' "$kind" "$name" \
            "$passed" "$skipped"
    else
        printf '%s-%s conforms: %d cases passed\n\n' "$kind" "$name" "$passed"
    fi
}

given=$#
if [ "$given" -eq 0 ]; then
    set -- "$build"/lib/bora/plugins/*.so
fi
for path in "$@"; do
    check "$path"
done
if [ "${#bad_plugins[@]}" -gt 0 ]; then
    printf '%d of %d plugins do not conform: %s\n' "${#bad_plugins[@]}" "$n_plugins" "${bad_plugins[*]}"
    printf 'plugins/README.md says what each case demands.\n'
    exit 1
fi
printf '%d of %d plugins conform\n' "$n_plugins" "$n_plugins"
