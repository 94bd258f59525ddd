#!/usr/bin/env bash
# The steps of a release, which .github/workflows/release.yml runs for a tag, and tests/deploy without one.
#
#   release.sh notes TAG           print what CHANGELOG.md says of the tag; fails where the tag is not
#                                  Cargo.toml's version with a `v`, or has no section there
#   release.sh pack BINARY DIR     write DIR/groupmq-VERSION-TARGET.tar.gz with the binary, and its checksum beside
#                                  it, in the format of sha256sum
#
# The binary is the one that build.sh makes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(sed -n '/^\[package\]/,/^version/ s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")

die() {
    echo "release: $*" >&2
    exit 1
}

notes() {
    local tag=$1 text
    [[ $tag == "v$version" ]] || die "the tag is $tag, and Cargo.toml has version $version"
    text=$(awk -v heading="## [$version]" '
        /^## / { inside = index($0, heading) == 1; next }
        inside' "$root/CHANGELOG.md")
    [[ -n ${text//[[:space:]]/} ]] || die "CHANGELOG.md has no section for $version"
    echo "$text"
}

pack() {
    local binary=$1 dir=$2 name staging
    [[ $("$binary" --version) == "groupmq $version" ]] || die "$binary is not groupmq $version"
    name=groupmq-$version-$(rustc -vV | sed -n 's/^host: //p')
    staging=$(mktemp -d)
    # Expanded now on purpose: `staging` is gone when the trap runs.
    # shellcheck disable=SC2064
    trap "rm -rf '$staging'" EXIT
    mkdir -p "$dir" "$staging/$name"
    cp "$binary" "$staging/$name/groupmq"
    cp "$root"/{README.md,CHANGELOG.md,LICENSE-APACHE,LICENSE-MIT,config.default.toml} "$staging/$name"
    tar -C "$staging" --owner=0 --group=0 --numeric-owner -czf "$dir/$name.tar.gz" "$name"
    # With the bare name, so that it can be checked wherever both files are.
    (cd "$dir" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
}

case ${1:-} in
notes) notes "$2" ;;
pack) pack "$2" "$3" ;;
*) die "usage: release.sh notes TAG | pack BINARY DIR" ;;
esac
