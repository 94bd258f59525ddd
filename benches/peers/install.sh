#!/usr/bin/env bash
# Installs the peers' packages from their registries, in the exact versions that are checked in:
#
#   install.sh FOLDER    a folder for each peer in FOLDER; does nothing where nothing changed
#
# Only `make bench` runs it. A peer whose language is missing is not installed, and is not measured.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
say() { echo "peers: $*" >&2; }

node_peer() {
    local target=$folder/$1
    mkdir -p "$target"
    cp "$here/$1/"{worker.mjs,package.json,package-lock.json} "$target/"
    cmp -s "$target/package-lock.json" "$target/installed" && return
    say "installing $1"
    (cd "$target" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    cp "$target/package-lock.json" "$target/installed"
}

python_peer() {
    local target=$folder/$1 packages=$here/$1/requirements.txt
    cmp -s "$packages" "$target/installed" && return
    say "installing $1"
    rm -rf "$target"
    python3 -m venv "$target"
    "$target/bin/pip" install --quiet --disable-pip-version-check --requirement "$packages" >&2
    cp "$packages" "$target/installed"
}

if command -v node >/dev/null && command -v npm >/dev/null; then
    node_peer amqplib
    node_peer nestjs
else
    say "node or npm is missing: amqplib and NestJS are not measured"
fi
if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    python_peer aio_pika
    python_peer celery
else
    say "python3 or its venv is missing: aio-pika and Celery are not measured"
fi
