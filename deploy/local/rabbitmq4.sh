#!/usr/bin/env bash
# RabbitMQ 4 beside the system's own RabbitMQ: Debian trixie's package, in a root of its own.
#
#   rabbitmq4.sh root                make the root if there is none, and print its folder
#   rabbitmq4.sh enter ROOT CMD...   become CMD within ROOT
#
# The root is `target/rabbitmq4`: 400 MB, about a minute. Making it needs root's rights (or sudo),
# and debootstrap, which is installed where apt-get is at hand. A process that entered it sees the
# checkout and /tmp at their usual paths, so that it finds its data there; nothing else of the
# machine. Those mounts are its own and end with it. RABBITMQ_ROOT=$(rabbitmq4.sh root) has node.sh
# start its nodes there, hence broker.sh and the tests too.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
root=$checkout/target/rabbitmq4
keys=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "rabbitmq4: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# The Debian mirror that the machine's own apt uses; other systems have none.
mirror() {
    local found
    found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 2>/dev/null |
        sed -n 's,^Debian ,,p' | head -n 1)
    echo "${found:-http://deb.debian.org/debian}"
}

make_root() {
    local as_root=() made=$root.new
    if ((EUID)); then
        sudo -n true 2>/dev/null ||
            die "making $root needs root's rights. Run once: sudo deploy/local/rabbitmq4.sh root"
        as_root=(sudo -n)
    fi
    PATH="$PATH:/usr/sbin:/sbin"
    # The keys are Ubuntu's way to check what is Debian's.
    if ! command -v debootstrap >/dev/null || [[ ! -e $keys ]]; then
        command -v apt-get >/dev/null ||
            die "missing: debootstrap and $keys. Install them with your package manager."
        say "installing debootstrap"
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends \
            debootstrap debian-archive-keyring >&2
    fi
    say "installing RabbitMQ 4 from $(mirror) into $root (about a minute)"
    "${as_root[@]}" rm -rf "$made"
    mkdir -p "$checkout/target"
    # Half a root is no root: it gets its name when it is whole.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive debootstrap --variant=minbase \
        --force-check-gpg --keyring="$keys" --include=rabbitmq-server trixie "$made" "$(mirror)" >"$made.log" 2>&1 || {
        tail -n 20 "$made.log" >&2
        die "debootstrap failed; its log is $made.log"
    }
    "${as_root[@]}" rm -rf "$made"/var/cache/apt/archives/*.deb
    # Where processes will find what is mounted for them.
    "${as_root[@]}" mkdir -p "$made$checkout"
    ((EUID == 0)) || "${as_root[@]}" chown -R "$EUID" "$made" # for whoever cleans up
    "${as_root[@]}" mv "$made" "$root"
}

enter() {
    local inside=$1 as=(--mount)
    shift
    # In a user's own name space, everybody may mount, unless the system forbids it.
    ((EUID == 0)) || as+=(--map-root-user)
    unshare "${as[@]}" true 2>/dev/null ||
        die "this system lets you make no mounts of your own: be root, or allow unprivileged user name spaces (on Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
    # Each becomes the next, so the process stays the same.
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec unshare "${as[@]}" bash -euc '
        inside=$1 checkout=$2
        shift 2
        for folder in /proc /dev /tmp "$checkout"; do
            mount --rbind "$folder" "$inside$folder"
        done
        exec chroot "$inside" "$@"' enter "$inside" "$checkout" "$@"
}

case ${1:-} in
root)
    [[ -d $root ]] || make_root
    echo "$root"
    ;;
enter) enter "${@:2}" ;;
*) die "usage: rabbitmq4.sh root | enter ROOT CMD..." ;;
esac
