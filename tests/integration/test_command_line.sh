#!/usr/bin/env bash
# borad's command line and configuration file: what is asked for, what is refused and how, and what goes before what.
set -u
build=${BORA_BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build}
borad=$build/bin/borad
folder=$(mktemp -d /tmp/bora-test-XXXXXX) || exit 1
trap 'rm -rf "$folder"' EXIT
unset BORA_SOCKET STATE_DIRECTORY NOTIFY_SOCKET LISTEN_FDS JOURNAL_STREAM
export HOME=$folder/home XDG_CONFIG_HOME=$folder/config XDG_RUNTIME_DIR=$folder/run XDG_STATE_HOME=$folder/state
mkdir -p "$HOME" "$XDG_CONFIG_HOME/bora" "$XDG_RUNTIME_DIR" "$XDG_STATE_HOME"
failed=0

# check NAME CODE TEXT ARGUMENT...: borad must end with CODE, and its output must have TEXT in it.
check() {
    local name=$1 code=$2 text=$3 output got
    shift 3
    output=$(timeout 60 "$borad" "$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" -eq "$code" ] && [[ $output == *"$text"* ]]; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        echo "  borad $*: ended with $got, expected $code and '$text' in:"
        printf '%s\n' "$output" | sed 's/^/  /'
        failed=1
    fi
}

# config TEXT: the file for the next checks, in printf's format.
# shellcheck disable=SC2059
config() {
    printf "$1" >"$folder/borad.conf"
}

# check_config NAME TEXT LINE WHY: a file with that text is refused with "FILE:LINE: WHY".
check_config() {
    config "$2"
    check "$1" 2 "borad.conf:$3: $4" --config "$folder/borad.conf" --check
}

# ---- options ----
check 'help' 0 'usage: borad [OPTION...]' --help
check 'version' 0 'borad ' --version
check 'check' 0 'configuration, model and plugins are in order' --check
check 'no file at all' 0 'are in order' --config none --check
check 'help before anything else' 0 'usage:' --help --set nonsense
check 'unknown option' 2 "unrecognized option '--nonsense'" --nonsense
check 'unknown letter' 2 "invalid option -- 'x'" -x
check 'a hint' 2 'borad --help' --nonsense
check 'missing value' 2 "option '--model' requires an argument" --model
check 'an argument' 2 "'model.gguf' is no option" model.gguf
check 'threads as text' 2 "engine.threads is 'many', expected a whole number" --threads many
check 'negative threads' 2 "engine.threads is '-1'" --threads -1
check 'too many threads' 2 "engine.threads is '100000'" --threads 100000
check 'no stages' 2 "pipeline.stages is '0'" --stages 0
check 'stages beyond reason' 2 "pipeline.stages is '65'" --stages 65
check 'log level' 2 "log.level is 'loud', expected error, warn, info or debug" --log-level loud
check 'plugin without kind' 2 'expected attention=, cache=, expert= or link=' --plugin blas
check 'set without key' 2 'is not section.key=value' --set x
check 'set without section' 2 'is not section.key=value' --set threads=2
check 'set, unknown section' 2 'no section [nothing]' --set nothing.key=1
check 'set, unknown key' 2 "section [engine] has no key 'cores'" --set engine.cores=1
check 'set, NaN' 2 "generate.temperature is 'nan'" --set generate.temperature=nan
check 'set, infinite' 2 "generate.temperature is 'inf'" --set generate.temperature=inf
check 'set, negative' 2 "generate.min_p is '-0.1'" --set generate.min_p=-0.1
check 'set, not whole' 2 "generate.max_tokens is '1.5'" --set generate.max_tokens=1.5
check 'set, wraps' 2 "engine.chunk is '18446744073709551617'" --set engine.chunk=18446744073709551617
check 'set, empty' 2 'model.path is empty' --set model.path=
check 'set, layout' 2 "model.layout is 'v9', expected auto, none, v1, v2, v3, v7, v3-tekken or v7-tekken" --set model.layout=v9
check 'set, products' 2 "engine.products is 'f8', expected int8, bf16 or f32" --set engine.products=f8
check 'set, cache type' 2 "cache.type is 'f8', expected f32, f16 or q8_0" --set cache.type=f8
check 'limits that do not fit' 2 'engine.chunk (600) must not be larger than cache.slack (512)' --set engine.chunk=600
check 'more running than rows' 2 'engine.running_max (600)' --set engine.running_max=600

# ---- the file ----
check 'no such file' 2 'No such file' --config "$folder/nowhere.conf"
check 'a folder' 2 'not a regular file' --config "$folder"
check_config 'unknown section' '[model]\n\n[motor]\nfuel = x\n' 4 'there is no section [motor]'
check_config 'unknown key' '# first\n[engine]\nthreads = 1\ncylinders = 6\n' 4 "section [engine] has no key 'cylinders'"
check_config 'wrong value' '[engine]\nthreads = four\n' 2 "engine.threads is 'four'"
check_config 'no assignment' '[engine]\nthreads\n' 2 'neither [section] nor key = value'
check_config 'no end of section' '[engine\nthreads = 1\n' 1 'neither [section] nor key = value'
check_config 'before any section' 'threads = 1\n' 1 "'threads' stands before any [section]"
check_config 'the first of two faults' '[engine]\nthreads\nbogus = 1\n' 2 'neither [section] nor key = value'
check_config 'indented' '[engine]\nthreads = 1\n  2\n' 3 'a line must not begin with a space'
check_config 'empty value' '[model]\npath =\n' 2 'model.path is empty'
check_config 'long line' "[model]\\npath = $(printf 'x%.0s' {1..200})\\n" 2 'longer than 190 bytes'
config '\xef\xbb\xbf[engine]\nthreads = 1\n'
check 'a byte order mark' 0 '1 threads' --config "$folder/borad.conf" --check
config '[engine]\nthreads = 1\0\n'
check 'zero bytes' 2 'has zero bytes' --config "$folder/borad.conf"
head -c 2000000 /dev/zero | tr '\0' '#' >"$folder/borad.conf"
check 'huge file' 2 'more than the' --config "$folder/borad.conf"

# ---- what goes before what ----
config '[engine]\nthreads = 1\n'
check 'from the file' 0 '1 threads' --config "$folder/borad.conf" --check
check 'command line before file' 0 '2 threads' --config "$folder/borad.conf" --check --threads 2
check 'wherever --config stands' 0 '2 threads' --threads 2 --check --config "$folder/borad.conf"
check 'set before file' 0 '2 threads' --check --set engine.threads=2 -c "$folder/borad.conf"
check 'the later of two' 0 '1 threads' --check --threads 2 --set engine.threads=1
printf '[pipeline]\nstages = 3\n' >"$XDG_CONFIG_HOME/bora/borad.conf"
check 'the user'"'"'s own file' 0 '3 stages' --check
check 'none: not even that' 0 '1 stage' --config none --check
check 'another instead' 0 '1 stage' --config "$folder/borad.conf" --check
printf '[pipeline]\nstages = 0\n' >"$XDG_CONFIG_HOME/bora/borad.conf"
check 'a fault in it counts' 2 'borad.conf:2: pipeline.stages' --check
check 'more stages than layers' 0 '64 stages' --config none --check --stages 64

exit $failed
