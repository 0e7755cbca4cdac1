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

plugin=$folder/example/attention-simple.so
case_ "example: under 60 lines" is_short
case_ "example: the header installs" make --no-print-directory install-sdk DESTDIR="$folder/root" PREFIX=/opt/bora
cp -r plugins/example "$folder/example"
rm -f "$folder"/example/*.so
case_ "example: builds against the installed header" make --no-print-directory -C "$folder/example" \
    BORA_INCLUDE="$folder/root/opt/bora/include" CFLAGS='-O2 -g -Werror'
case_ "example: exports one symbol" exports_one_symbol
case_ "example: links to nothing of bora's" needs_nothing_of_ours
case_ "example: conformance suite" env BORA_CONFORMANCE_PLUGIN="$plugin" "$build/tests/conformance/test_attention"
case_ "example: computes a model with windows" "$build/bin/bora-model" eval \
    tests/golden/models/dense-gqa-swa/golden.json --out "$folder/out" --attention "$plugin"
exit $failed
