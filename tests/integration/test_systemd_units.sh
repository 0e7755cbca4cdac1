#!/usr/bin/env bash
# The units as make install lays them down: systemd finds nothing wrong with them, and they meet the daemon where the
# clients look for it.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BORA_BUILD:-build}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$folder/said" 2>&1; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        cat "$folder/said"
        failed=1
    fi
}

# Says nothing at all: a misspelt option is only a warning, and systemd-analyze then still exits with 0.
verify_quietly() {
    XDG_RUNTIME_DIR=$folder systemd-analyze --user --man=no verify "$units"/borad.socket "$units"/borad.service \
        >"$folder/verify" 2>&1
    local code=$?
    cat "$folder/verify"
    [ "$code" -eq 0 ] && [ ! -s "$folder/verify" ]
}

check 'make install' make --no-print-directory install BUILD="$build" PREFIX="$folder/prefix"
units=$folder/prefix/lib/systemd/user
check 'the service starts the daemon that was installed' grep -qx "ExecStart=$folder/prefix/bin/borad" \
    "$units/borad.service"
check 'nothing is left to fill in' sh -c "! grep -q '@[A-Z]*@' '$units/borad.service' '$units/borad.socket'"
check 'the socket is the default one' grep -qx 'ListenStream=%t/bora/bora.sock' "$units/borad.socket"
check 'the installed daemon runs' "$folder/prefix/bin/borad" --config none --database "$folder/sessions.db" --check
if command -v systemd-analyze >/dev/null; then
    check 'systemd accepts the units' verify_quietly
else
    echo 'skip - systemd accepts the units: systemd-analyze is not installed'
fi
exit "$failed"
