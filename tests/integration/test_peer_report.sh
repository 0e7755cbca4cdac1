#!/usr/bin/env bash
# Tables and plots of comparisons: see tests/bench/peers/check.mjs.
set -u
cd "$(dirname "$0")/../.." || exit 1
if command -v node >/dev/null; then
    exec node tests/bench/peers/check.mjs
fi
echo 'skip - reports of comparisons: node is not installed'
