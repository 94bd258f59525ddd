#!/usr/bin/env bash
# What `make check` does after a small change: formatting, clippy, the unit tests, and those tests that
# tests/check.table names for the files that changed. `make test` does everything.
#
#   check.sh                 what is not committed; where that is nothing, what the branch adds to main
#   check.sh --plan PATH...  print what would run if these files had changed
#
# The tests use the services of GROUPMQ_TEST_POSTGRES and GROUPMQ_TEST_BROKER, and start those that are not
# named there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Thousands of histories, which take most of the time of all unit tests. The table names them for what
# they are about.
long=histories::

changed() {
    local base=HEAD
    if [[ -z $(git status --porcelain) ]]; then
        base=$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main)
    fi
    git diff --name-only "$base"
    git ls-files --others --exclude-standard
}

declare -A wanted=() # a test binary, and the parts of it; an empty text is all of it
want() {
    local binary=$1 modules=${*:2}
    if [[ -z $modules || ${wanted[$binary]-all} == '' ]]; then
        wanted[$binary]=
    else
        wanted[$binary]+=" $modules"
    fi
}

# Looks a file up in the table, and among the tests themselves.
look_up() {
    local path=$1 pattern binary modules
    while read -r pattern binary modules; do
        # shellcheck disable=SC2053,SC2086 # a pattern; several words
        [[ $pattern == '#'* || $path != $pattern ]] || want $binary $modules
    done <tests/check.table
    if [[ $path =~ ^tests/([a-z]+)\.rs$ ]]; then
        want "${BASH_REMATCH[1]}"
    elif [[ $path =~ ^tests/([a-z]+)/(([a-z_]+).*)\.rs$ && -f tests/${BASH_REMATCH[1]}/main.rs ]]; then
        binary=${BASH_REMATCH[1]}
        # Where a file has no tests, those beside it use it.
        if grep -qs '^ *#\[.*test\]' "$path"; then modules=${BASH_REMATCH[2]}; else modules=${BASH_REMATCH[3]}; fi
        want "$binary" "${modules//\//::}"
    fi
}

if [[ ${1:-} == --plan ]]; then
    paths=("${@:2}")
else
    mapfile -t paths < <(changed)
fi
for path in "${paths[@]}"; do look_up "$path"; done

runner=test
if command -v cargo-nextest >/dev/null; then runner='nextest run'; fi
binaries=() commands=()
mapfile -t names < <(printf '%s\n' "${!wanted[@]}" | sort)
for binary in "${names[@]}"; do
    [[ -n $binary ]] || continue
    # As words, each of them once.
    filters=$(tr ' ' '\n' <<<"${wanted[$binary]}" | sed -n 's/$/::/; /^::$/!p' | sort -u | xargs)
    target="--test $binary"
    if [[ $binary == lib ]]; then target=--lib; else binaries+=("$target"); fi
    commands+=("cargo $runner --locked --workspace $target${filters:+ -- $filters}")
done
# The profile is what has unit tests looked at as well.
lints="cargo clippy --locked --workspace --profile test --lib --bins ${binaries[*]} -- -D warnings"
builds="cargo test --no-run --locked --workspace --lib ${binaries[*]}"
commands=("cargo $runner --locked --workspace --lib -- --skip $long" "${commands[@]}")

if [[ ${1:-} == --plan ]]; then
    printf '%s\n' 'cargo fmt --all --check' "$lints" "$builds" "${commands[@]}"
    exit
fi

deploy/local/setup.sh test
cargo fmt --all --check
$lints
$builds
services=()
[[ -n ${GROUPMQ_TEST_POSTGRES:-} ]] || services+=(deploy/local/postgres.sh with)
[[ -n ${GROUPMQ_TEST_BROKER:-} ]] || services+=(deploy/local/broker.sh with)
# A file of tests that holds helpers only has none to run.
NEXTEST_NO_TESTS=pass "${services[@]}" bash -exc "$(printf '%s\n' "${commands[@]}")"
