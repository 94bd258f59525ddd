#!/usr/bin/env bash
# Installs the peers' packages from their registries, in the exact versions that are checked in:
#
#   install.sh FOLDER    FOLDER/amqplib/ (Node) and FOLDER/venv/ (Python); does nothing where nothing changed
#
# Only `make bench` runs it. A peer whose language is missing is not installed, and is not measured.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
say() { echo "peers: $*" >&2; }

node_peer() {
    local target=$folder/amqplib
    mkdir -p "$target"
    cp "$here/amqplib/"{worker.mjs,package.json,package-lock.json} "$target/"
    cmp -s "$target/package-lock.json" "$target/installed" && return
    say "installing amqplib"
    (cd "$target" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    cp "$target/package-lock.json" "$target/installed"
}

python_peer() {
    local target=$folder/venv
    cmp -s "$here/aio_pika/requirements.txt" "$target/installed" && return
    say "installing aio-pika"
    rm -rf "$target"
    python3 -m venv "$target"
    "$target/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/aio_pika/requirements.txt" >&2
    cp "$here/aio_pika/requirements.txt" "$target/installed"
}

if command -v node >/dev/null && command -v npm >/dev/null; then
    node_peer
else
    say "node or npm is missing: amqplib is not measured"
fi
if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    python_peer
else
    say "python3 or its venv is missing: aio-pika is not measured"
fi
