#!/usr/bin/env bash
# A private PostgreSQL server for the tests, without passwords, on 127.0.0.1.
#
#   postgres.sh with CMD...      run CMD beside a server, whose URL is in GROUPMQ_TEST_POSTGRES
#   postgres.sh serve DIR PORT   run a server with its data in DIR until standard input ends, then
#                                remove DIR; after a line that says `keep`, leave DIR as it is; after
#                                one that says `kill`, do so too, and kill the server (SIGKILL)
#   postgres.sh ready PORT       whether the server answers
#   postgres.sh psql ...         psql of the same installation
#   postgres.sh pool DIR PORT SERVER [SETTING...]
#                                run pgbouncer before the server at HOST:PORT, for every database and
#                                user, until standard input ends, then remove DIR; settings are like
#                                pool_mode=transaction
#
# PostgreSQL refuses to run as root, so root's servers run as `nobody`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
    echo "postgres: $*" >&2
    exit 1
}

# The newest of Debian's versions, which are not on the path; else whatever is.
newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[[ ! -d $newest ]] || PATH=$newest:$PATH
command -v initdb >/dev/null ||
    die "PostgreSQL is not installed: run deploy/local/setup.sh test, or set GROUPMQ_TEST_POSTGRES"

ready() { pg_isready --quiet -h 127.0.0.1 -p "$1"; }

serve() {
    local dir=$1 port=$2 server how=
    cd "$dir"
    if [[ ! -d data ]]; then
        initdb --auth=trust --username=groupmq --encoding=UTF8 --no-sync -D data >log 2>&1
        # The data are thrown away, so nothing needs to survive a power cut.
        echo 'fsync = off' >>data/postgresql.conf
    fi
    postgres -D data -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c max_connections=200 -c shared_buffers=32MB >>log 2>&1 </dev/null &
    server=$!
    # However our owner ends, standard input ends with it.
    read -r how || true
    if [[ $how == kill ]]; then
        kill_outright "$server"
    else
        kill -INT "$server" 2>/dev/null || true # disconnects everybody, and stops
    fi
    wait "$server" || true
    [[ -n $how ]] || rm -rf "$dir"
}

# Kills a server with all its processes, and returns once none of them runs: a new one does not start
# on data that an old one may still write to.
kill_outright() {
    local all
    all=$(ps -o pid= --ppid "$1" -p "$1" | xargs)
    # shellcheck disable=SC2086 # several words
    kill -KILL $all 2>/dev/null || true
    while ps -o stat= -p "${all// /,}" | grep -qv '^Z'; do sleep 0.02; done
}

pool() {
    local dir=$1 port=$2 server=$3 pooler
    shift 3
    PATH=$PATH:/usr/sbin
    command -v pgbouncer >/dev/null || die "pgbouncer is not installed: run deploy/local/setup.sh test"
    cd "$dir"
    # Debian's version takes no user that it does not know, and asks for no password here.
    {
        echo '[databases]'
        echo "* = host=${server%:*} port=${server##*:}"
        echo '[pgbouncer]'
        printf '%s\n' listen_addr=127.0.0.1 "listen_port=$port" unix_socket_dir= auth_type=trust \
            auth_file=users "$@"
    } >pgbouncer.ini
    pgbouncer -q pgbouncer.ini >>log 2>&1 </dev/null &
    read -r _ || true
    kill -TERM $! 2>/dev/null || true
    wait $! || true
    rm -rf "$dir"
}

# Runs a command of this script without root's rights.
as_somebody() {
    if ((EUID)); then
        "$@"
    else
        chown -R nobody "$2"
        exec setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups \
            bash "$here/postgres.sh" "$@"
    fi
}

with() {
    local dir port status=0
    dir=$(mktemp -d)
    until port=$((20000 + RANDOM % 10000)) && ! ready "$port"; do :; done
    coproc SERVER { "$here/postgres.sh" serve "$dir" "$port"; }
    # bash forgets both when the server ends.
    local input=${SERVER[1]} server=$SERVER_PID
    for _ in {1..600}; do # 60 s
        ! ready "$port" || break
        kill -0 "$server" 2>/dev/null || die "the server did not start: $(cat "$dir/log")"
        sleep 0.1
    done
    GROUPMQ_TEST_POSTGRES=postgres://groupmq@127.0.0.1:$port/postgres "$@" || status=$?
    exec {input}>&-
    wait "$server" || true
    exit "$status"
}

case ${1:-} in
with) with "${@:2}" ;;
serve | pool) as_somebody "$@" ;;
ready) ready "$2" ;;
psql) exec psql "${@:2}" ;;
*) die "usage: postgres.sh with CMD... | serve DIR PORT | ready PORT | psql ... | pool DIR PORT SERVER" ;;
esac
