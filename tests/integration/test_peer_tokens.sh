#!/usr/bin/env bash
# Files that bora-model writes mean the same to llama.cpp: see tests/bench/peers/agree.mjs. Needs what `make peers` fetches.
set -u
cd "$(dirname "$0")/../.." || exit 1
peers=build/peers
if ! command -v node >/dev/null; then
    echo 'skip - tokens of llama.cpp: node is not installed'
elif [ ! -d "$peers/node_modules/node-llama-cpp" ]; then
    echo 'skip - tokens of llama.cpp: make peers fetches it'
else
    exec node tests/bench/peers/agree.mjs "${BORA_BUILD:-build}" "$peers"
fi
