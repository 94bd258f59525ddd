#!/usr/bin/env bash
# Runs a command that runs nextest, prints the twenty slowest of its tests, and ends as the command did.
#
#   slowest.sh cargo nextest run ...
#
# The times are from the JUnit report that .config/nextest.toml asks for; `cargo test` writes none.
set -euo pipefail

report=${CARGO_TARGET_DIR:-target}/nextest/${NEXTEST_PROFILE:-default}/junit.xml
rm -f "$report"
status=0
"$@" || status=$?
if [[ -f $report ]]; then
    echo 'The slowest tests, in seconds:'
    sed -n 's/.*<testcase name="\([^"]*\)" classname="\([^"]*\)".* time="\([^"]*\)".*/\3 \2 \1/p' "$report" |
        sort -rn | awk 'NR <= 20 { printf "%9.3f  %s %s\n", $1, $2, $3 }'
fi
exit "$status"
