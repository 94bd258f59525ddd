#!/usr/bin/env bash
# Builds the binary that the image holds, and prints where it is: one file, static, so that the image
# needs no system around it. deploy/Dockerfile runs this, and so does `make test`, which looks at what
# comes out.
#
#   build.sh           for this machine's kind of processor
#   build.sh --path    only say where it is
#
# Rust's target for glibc is linked statically too. Its own resolver is part of the binary (glibc 2.34
# or newer), and its allocator keeps up with many threads, which musl's does not.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
*-linux-*) ;;
*)
    echo "build.sh: the image's binary is one for Linux; this is $target" >&2
    exit 1
    ;;
esac

binary=${CARGO_TARGET_DIR:-$root/target}/$target/release/groupmq
if [[ ${1:-} == --path ]]; then
    echo "$binary"
    exit
fi

# With --target these flags are for the binary alone, not for what runs while it is built. A static binary
# moves itself at its start; packed, what it has to read for that is a megabyte less.
RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs' \
    cargo build --locked --release --target "$target" --bin groupmq >&2
echo "$binary"
