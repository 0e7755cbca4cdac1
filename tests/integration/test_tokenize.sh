#!/usr/bin/env bash
# bora-model tokenize: a text, and chats from files and standard input, on the small model of the repository.
set -u
cd "$(dirname "$0")/../.." || exit 1
tool=${BORA_BUILD:-build}/bin/bora-model
model=tests/models/bora-tiny
folder=$(mktemp -d /tmp/bora-test-XXXXXX) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

# check NAME CODE TEXT ARGUMENT...: it must end with CODE, and its output, on one line, must have TEXT in it. Standard
# input is the file input.
check() {
    local name=$1 code=$2 text=$3 output got
    shift 3
    output=$("$tool" "$@" 2>&1 <"$folder/input")
    got=$?
    output=$(printf '%s' "$output" | tr -s ' \n' ' ')
    if [ "$got" -eq "$code" ] && [[ $output == *"$text"* ]]; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        echo "  bora-model $*: ended with $got, expected $code and '$text' in: $output"
        failed=1
    fi
}

cat >"$folder/chat.json" <<'EOF'
{"messages": [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Hi"},
              {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hi"}]}
EOF
hi='569 ▁Hi'
: >"$folder/input"
check 'a text' 0 "$hi" tokenize "$model" Hi
check 'nothing' 0 '' tokenize "$model"
check 'a chat of a file' 0 "1 <s> 3 [INST] $hi 4 [/INST] $hi 2 </s> 3 [INST] $hi" tokenize "$model" --chat "$folder/chat.json"
cp "$folder/chat.json" "$folder/input"
check 'a chat of standard input' 0 "1 <s> 3 [INST] $hi 4 [/INST] $hi 2 </s> 3 [INST] $hi" tokenize "$model" --chat -
check 'a text of standard input' 0 '{' tokenize "$model"
check 'a layout by name' 0 '1 <s> 1953 ▁ 2038 [ 1977 I' tokenize "$model" --chat - --layout v1
check 'an array alone' 0 "1 <s> 3 [INST] $hi 4 [/INST]" tokenize "$model" --chat <(echo '[{"role":"user","content":"Hi"}]')
check 'a layout the model cannot speak' 1 'needs [SYSTEM_PROMPT]' tokenize "$model" --chat - --layout v7
check 'a layout that is none' 2 "'v9' is no value for --layout" tokenize "$model" --chat - --layout v9
check 'no chat layout' 1 'no chat layout' tokenize "$model" --chat - --layout none
check 'a chat and a text' 2 'one word too many' tokenize "$model" Hi --chat -
check 'a chat for inspect' 2 '--chat is for tokenize' inspect "$model" --chat -
check 'no such file' 1 'No such file' tokenize "$model" --chat "$folder/nowhere.json"
echo '[{"role":"user"' >"$folder/input"
check 'no JSON' 1 'no JSON: line' tokenize "$model" --chat -
echo '[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]' >"$folder/input"
check 'nothing to answer' 1 'not a prefix' tokenize "$model" --chat -
exit $failed
