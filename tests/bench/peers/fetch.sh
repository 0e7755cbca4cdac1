#!/usr/bin/env bash
# Fetches llama.cpp as the prebuilt binaries of node-llama-cpp from the npm registry: nothing is compiled, nothing comes
# from elsewhere. FOLDER/node_modules gets the package with a CPU back end per generation of processors, of which the best
# is chosen when it is loaded; FOLDER/avx2/node_modules the same files without the back ends that need more than AVX2.
# Usage: tests/bench/peers/fetch.sh FOLDER
set -eu
folder=${1:?usage: tests/bench/peers/fetch.sh FOLDER}
version=3.22.1
command -v npm node >/dev/null || { echo 'this needs npm: apt-get install npm' >&2; exit 1; }
mkdir -p "$folder"
installed=$(node -p "require('$(realpath "$folder")/node_modules/node-llama-cpp/package.json').version" 2>/dev/null || true)
if [ "$installed" != "$version" ]; then
    rm -rf "$folder/node_modules" "$folder/avx2"
    npm install --silent --ignore-scripts --omit=optional --omit=peer --no-audit --no-fund --no-save \
        --prefix "$folder" "node-llama-cpp@$version" "@node-llama-cpp/linux-x64@$version"
fi
if [ ! -d "$folder/avx2/node_modules" ]; then
    rm -rf "$folder/avx2.new"
    mkdir -p "$folder/avx2.new"
    cp -al "$folder/node_modules" "$folder/avx2.new/node_modules"
    bins=$folder/avx2.new/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
    for backend in "$bins"/libggml-cpu-*.so; do
        case ${backend##*/libggml-cpu-} in
        haswell.so) ;; # AVX2, FMA, F16C, BMI2
        *) rm "$backend" ;;
        esac
    done
    mv "$folder/avx2.new" "$folder/avx2"
fi
echo "$folder: node-llama-cpp $version"
