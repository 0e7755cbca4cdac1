#!/usr/bin/env bash
# plugins/example is built outside of the tree against the installed header, held against the conformance suite, and
# used to compute a golden model.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BORA_BUILD:-$PWD/build}
unset MAKEFLAGS MAKELEVEL MFLAGS # of the make that runs the tests
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

# case NAME COMMAND...: its output is shown if it fails
case_() {
    local name=$1
    shift
    if "$@" >"$folder/log" 2>&1; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        sed 's/^/    /' "$folder/log" | tail -n 40
        failed=1
    fi
}

is_short() {
    local lines
    lines=$(wc -l <plugins/example/simple.c)
    echo "$lines lines"
    [ "$lines" -lt 60 ]
}

exports_one_symbol() {
    local symbols
    symbols=$(nm -D --defined-only "$plugin" | awk '{print $3}')
    echo "exported: $symbols"
    [ "$symbols" = bora_plugin_entry ]
}

needs_nothing_of_ours() {
    ldd "$plugin"
    ! ldd "$plugin" | grep -i bora
}

conforms() {
    make --no-print-directory BUILD="$build" conformance PLUGIN="$plugin" >"$folder/praise" 2>&1
    local code=$?
    cat "$folder/praise"
    [ "$code" -eq 0 ] && grep -q '^attention-simple conforms: ' "$folder/praise"
}

is_refused() {
    if make --no-print-directory BUILD="$build" conformance PLUGIN="$folder/broken/attention-simple.so" >"$folder/refusal" 2>&1; then
        return 1
    fi
    cat "$folder/refusal"
    grep -q '^attention-simple does NOT conform: .*agrees_with_the_definition' "$folder/refusal"
}

plugin=$folder/example/attention-simple.so
case_ "example: under 60 lines" is_short
case_ "example: the header installs" make --no-print-directory install-sdk DESTDIR="$folder/root" PREFIX=/opt/bora
cp -r plugins/example "$folder/example"
rm -f "$folder"/example/*.so
case_ "example: builds against the installed header" make --no-print-directory -C "$folder/example" \
    BORA_INCLUDE="$folder/root/opt/bora/include" CFLAGS='-O2 -g -Werror'
case_ "example: exports one symbol" exports_one_symbol
case_ "example: links to nothing of bora's" needs_nothing_of_ours
case_ "example: conformance suite" conforms
mkdir "$folder/broken" && sed 's/seq->window <= pos/seq->window < pos/' "$folder/example/simple.c" >"$folder/broken/simple.c"
cp "$folder/example/Makefile" "$folder/broken"
case_ "example: builds with a window that is one too long" make --no-print-directory -C "$folder/broken" \
    BORA_INCLUDE="$folder/root/opt/bora/include"
case_ "example: which the suite notices" is_refused
case_ "example: computes a model with windows" "$build/bin/bora-model" eval \
    tests/golden/models/dense-gqa-swa/golden.json --out "$folder/out" --attention "$plugin"
exit $failed
