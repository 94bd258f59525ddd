#!/usr/bin/env bash
# A RabbitMQ broker for local use: `make broker` and `make broker-stop`.
#
#   broker.sh up            print the URL of a broker that answers, starting one if need be
#   broker.sh down          end what `up` started, and nothing else
#   broker.sh with CMD...   run CMD beside a broker of its own, as the tests want it
#
# `up` takes the first of these: GROUPMQ_AMQP__URL; what it started before; guest on localhost:5672;
# Docker Compose; a private node of the Debian package, which it installs. The URL is the last line
# of stdout, progress goes to stderr. PLUGINS="rabbitmq_management ..." adds to the private node's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
state=$root/target/broker

say() { echo "broker: $*" >&2; }
die() {
    say "$*"
    exit 1
}
answers() { "$here/amqp-login.sh" "$1" 2>/dev/null; }

compose() {
    # One project per checkout.
    docker compose --project-name "groupmq-$(cksum <<<"$root" | cut -d' ' -f1)" \
        --file "$here/compose.yaml" "$@"
}
has_compose() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

node_url() { echo "amqp://guest:guest@127.0.0.1:$1/%2f"; }

# Starts a node in folder $1, waits until it answers, and leaves its process id in `node`. Further
# words go in front of the command.
start_node() {
    local dir=$1 port
    shift
    port=$("$here/node.sh" free-port)
    mkdir -p "$dir"
    # With sharding, `topology.shards` may be more than one.
    echo "[rabbitmq_sharding${PLUGINS:+,${PLUGINS// /,}}]." >"$dir/enabled_plugins"
    set -m # its own process group, so that Ctrl-C does not reach it and one signal ends it all
    "$@" "$here/node.sh" run "$dir" "$port" 8>&- &
    node=$!
    set +m
    for _ in {1..600}; do # 60 s
        ! answers "$(node_url "$port")" || return 0
        kill -0 "$node" 2>/dev/null || break
        sleep 0.1
    done
    end_node "$node"
    tail -n 20 "$dir"/log/*.log >&2 || true
    die "the private node did not start; its logs are in $dir/log"
}

# Asks politely, insists after ten seconds, and takes the helpers along.
end_node() {
    kill "$1" 2>/dev/null || return 0
    for _ in {1..100}; do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

# Whether $1 is still the node that we started, and not another process with its number.
is_our_node() { [[ -n ${1:-} && $(ps -o args= -p "$1" 2>/dev/null) == *"$state/node"* ]]; }

up() {
    if [[ -n ${GROUPMQ_AMQP__URL:-} ]]; then
        # Never fall back from what was asked for; never print the password either.
        answers "$GROUPMQ_AMQP__URL" ||
            die "GROUPMQ_AMQP__URL is set, but no broker answers there (or it refuses the login). Start it, correct the URL, or unset it."
        say "using GROUPMQ_AMQP__URL"
        echo "$GROUPMQ_AMQP__URL"
        return
    fi

    mkdir -p "$state"
    if command -v flock >/dev/null; then
        exec 8>"$state/lock" # two at once: the second finds what the first started
        flock 8
    fi
    if [[ -f $state/url ]] && answers "$(<"$state/url")"; then
        say "already running"
    elif answers amqp://guest:guest@localhost:5672; then
        say "using the broker on localhost:5672"
        node_url 5672
        return
    elif has_compose; then
        say "starting RabbitMQ with Docker Compose"
        compose up --detach --wait >&2
        echo compose >"$state/kind"
        node_url "$(compose port rabbitmq 5672 | sed 's/.*://')" >"$state/url"
    else
        "$here/setup.sh" broker >&2
        say "starting a private RabbitMQ node"
        start_node "$state/node"
        echo "$node" >"$state/kind"
        node_url "$(<"$state/node/port")" >"$state/url"
    fi
    cat "$state/url"
}

down() {
    local kind
    kind=$(cat "$state/kind" 2>/dev/null || true)
    case $kind in
    "") say "nothing to stop" ;;
    compose)
        compose down --volumes >&2
        say "stopped the container"
        ;;
    *)
        if is_our_node "$kind"; then end_node "$kind"; fi
        say "stopped the private node"
        ;;
    esac
    rm -rf "$state"
}

with() {
    local dir status=0
    "$here/setup.sh" broker >&2
    mkdir -p "$root/target"
    dir=$(mktemp -d "$root/target/with-broker.XXXXXX")
    # How often quorum queues report their length, which tests ask for; 5 s by default. Not much more often:
    # in RabbitMQ 3.10 a queue that is so slow to begin that it is asked before dies of it, for good.
    echo '[{rabbit, [{quorum_tick_interval, 1000}]}].' >"$dir/advanced.config"
    node=
    # Expanded now on purpose: `dir` is gone when the trap runs.
    # shellcheck disable=SC2064
    trap "[[ -z \$node ]] || end_node \$node; rm -rf '$dir'" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Should this script be killed outright, the node goes with it.
    if command -v setpriv >/dev/null; then
        start_node "$dir" setpriv --pdeathsig KILL
    else
        start_node "$dir"
    fi
    # Hundreds of tests leave queues behind, and each of them costs the node some time again and again.
    "$here/node.sh" exec "$dir" rabbitmqctl --quiet set_policy --priority=-1 --apply-to queues \
        forgotten '' '{"expires": 300000}' >&2
    GROUPMQ_TEST_BROKER=$dir "$@" || status=$?
    exit "$status"
}

case ${1:-} in
up) up ;;
down) down ;;
with) with "${@:2}" ;;
*) die "usage: broker.sh up | down | with CMD..." ;;
esac
