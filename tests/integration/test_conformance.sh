#!/usr/bin/env bash
# Whether the conformance suite notices what it is there for: plugins that break one rule each (tests/conformance/mutants)
# must fail the case that mutants.list names, and those that break none must pass all.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BORA_BUILD:-$PWD/build}
export BORA_BUILD=$build BORA_CONFORMANCE_PATIENCE=2
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
failed=0

verdict() { # NAME PASSED
    if [ "$2" -eq 1 ]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        sed 's/^/    /' "$log" | tail -n 40
        failed=1
    fi
}

while read -r kind variant case_ _; do
    case $kind in '' | \#*) continue ;; esac
    [ -z "${1:-}" ] || [ "$kind-$variant" = "$1" ] || continue
    plugin=$build/tests/conformance/mutants/$kind-$variant.so
    good=0
    if [ "$case_" = - ]; then
        tests/conformance/run.sh "$plugin" >"$log" 2>&1 && grep -q "^$kind-$variant conforms: " "$log" && good=1
        verdict "conformance: $kind-$variant passes" $good
    elif [ "$case_" = '~' ]; then
        tests/conformance/run.sh "$plugin" >"$log" 2>&1 && grep -qE '^  skipped +life$' "$log" &&
            grep -q "^$kind-$variant conforms as far as it could be tested here: " "$log" && good=1
        verdict "conformance: $kind-$variant is skipped" $good
    else
        if ! BORA_CONFORMANCE_CASE=$case_ tests/conformance/run.sh "$plugin" >"$log" 2>&1 &&
            grep -qE "^  (FAILED|CRASHES) +$case_\$" "$log" && grep -q ' does NOT conform: ' "$log"; then
            good=1
        fi
        verdict "conformance: $kind-$variant fails $case_" $good
    fi
done <tests/conformance/mutants/mutants.list

# A plugin that never comes back is ended and named, and one that does not even load is refused with the loader's reason.
if [ -z "${1:-}" ]; then
    good=0
    if ! BORA_TEST_TIMEOUT=3 BORA_CONFORMANCE_CASE=in_order tests/conformance/run.sh \
        "$build/tests/conformance/mutants/link-one_fewer.so" >"$log" 2>&1 && grep -qE '^  HANGS +in_order$' "$log"; then
        good=1
    fi
    verdict "conformance: a case that hangs" $good
    good=0
    if ! tests/conformance/run.sh "$build/tests/unit/plugin/bad/other_major.so" /nonexistent.so >"$log" 2>&1 &&
        grep -q 'would not load it: .*was built for plugin interface' "$log" && grep -q "no file '/nonexistent.so'" "$log" &&
        grep -q '^2 of 2 plugins do not conform: ' "$log"; then
        good=1
    fi
    verdict "conformance: plugins that do not load" $good
fi
exit $failed
