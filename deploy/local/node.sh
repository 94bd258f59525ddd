#!/usr/bin/env bash
# Runs one private RabbitMQ node in the foreground, wholly inside one folder.
#
#   node.sh run  DIR PORT          become the node: AMQP on 127.0.0.1:PORT
#   node.sh exec DIR TOOL ARGS...  run rabbitmqctl, rabbitmq-plugins, ... against that node
#   node.sh mapper DIR PORT        become a port mapper, which the nodes of a cluster share
#   node.sh free-port              print a PORT that `run` can have
#
# A node takes the block PORT .. PORT+7: AMQP, Erlang's port mapper, distribution, AMQPS, the
# management plugin, and the tools. It has its own port mapper, cookie, data, log and plugin list,
# so any number of nodes run side by side, and none of them meets the system's.
#
# RABBITMQ_ROOT names the root of another system whose RabbitMQ is to be used: see rabbitmq4.sh.
#
# Before `run`, the caller may put files into DIR/conf.d/*.conf, DIR/advanced.config and
# DIR/enabled_plugins. A plugin that is not listed there by then cannot be enabled later. DIR/mapper
# holds the port of a port mapper, where the node is to use that and start none; nodes that are to form
# a cluster need one mapper and one DIR/.erlang.cookie.
# Called by broker.sh, and by the tests through the crate in tests/support.
set -euo pipefail

die() {
    echo "node.sh: $*" >&2
    exit 1
}

# The release's own scripts. The ones in Debian's /usr/sbin are wrappers that change to the rabbitmq
# user and to /var/lib/rabbitmq. RABBITMQ_SBIN chooses another release, an unpacked tarball say.
release() {
    local script folder
    script=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v rabbitmq-server || true)
    for folder in "${RABBITMQ_SBIN:-}" "${script:+$(dirname "$(readlink -f "$script")")}"; do
        if [[ -n $folder && -x $folder/rabbitmq-server ]]; then
            dirname "$(readlink -f "$folder/rabbitmq-server")"
            return
        fi
    done
    die "no rabbitmq-server found: install it, or set RABBITMQ_SBIN to a release's sbin folder"
}

# Below the range that the system hands out to outgoing connections, so that none of those takes the
# port between this check and the node's start.
free_port() {
    local base port
    while true; do
        base=$((20000 + RANDOM % 1500 * 8))
        for port in {0..7}; do
            # Whatever accepts a connection is taken.
            if (: <"/dev/tcp/127.0.0.1/$((base + port))") 2>/dev/null; then continue 2; fi
        done
        echo "$base"
        return
    done
}

# Everything that decides which node is meant, for the server and its tools alike.
environment() {
    local dir=$1 port=$2
    export HOME=$dir # holds .erlang.cookie
    export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((port + 1))
    [[ ! -f $dir/mapper ]] || ERL_EPMD_PORT=$(<"$dir/mapper")
    export ERL_CRASH_DUMP=$dir/log/erl_crash.dump
    export RABBITMQ_NODENAME=groupmq-$port@localhost
    export RABBITMQ_DIST_PORT=$((port + 2))
    export RABBITMQ_CTL_DIST_PORT_MIN=$((port + 5)) RABBITMQ_CTL_DIST_PORT_MAX=$((port + 7))
    # Only `run` starts the port mapper; left to itself, every Erlang VM would, as a daemon that
    # outlives it. In the environment, since RabbitMQ's tools start further VMs.
    export ERL_ZFLAGS="-start_epmd false"
    export RABBITMQ_CONF_ENV_FILE=/dev/null # not the system's, nor its conf.d
    export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
    export RABBITMQ_CONFIG_FILES=$dir/conf.d
    export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config
    export RABBITMQ_GENERATED_CONFIG_DIR=$dir/generated
    export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
    export RABBITMQ_MNESIA_BASE=$dir/data
    export RABBITMQ_LOG_BASE=$dir/log RABBITMQ_LOGS=$dir/log/node.log
    export RABBITMQ_PID_FILE=$dir/pid
}

# Shows the node its release without the plugins that it does not enable. Erlang looks for each of
# some 700 modules in every folder of its path, so the forty plugin folders cost a third of the time
# to start, used or not.
hide_plugins() {
    local dir=$1 plugins=$2/../plugins library name kept=" rabbitmq_prelaunch "
    # RabbitMQ's scripts do not quote this path, and packed plugins are not folders.
    [[ $dir != *[[:space:]]* && -d $plugins ]] && ! compgen -G "$plugins/*.ez" >/dev/null || return 0

    keep() { # the plugins named in a file, and those that they name as their dependencies
        while read -r name; do
            library=$(compgen -G "$plugins/$name-[0-9]*/ebin/$name.app" || true)
            [[ -n $library && $kept != *" $name "* ]] || continue
            kept+="$name "
            keep "$library"
        done < <(grep -o 'rabbitmq_[a-z0-9_]*' "$1")
    }
    keep "$dir/enabled_plugins"

    rm -rf "$dir/release"
    mkdir -p "$dir/release/plugins"
    ln -s "$2" "$dir/release/sbin"
    for library in "$plugins"/*; do
        name=${library##*/}
        [[ $name == rabbitmq_* && $kept != *" ${name%%-*} "* ]] ||
            ln -s "$(readlink -f "$library")" "$dir/release/plugins/"
    done
    export RABBITMQ_SCRIPTS_DIR=$dir/release/sbin
}

# The port mapper dies with its parent: this process, and after the exec the node.
start_mapper() {
    local epmd=(epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT")
    ! command -v setpriv >/dev/null || epmd=(setpriv --pdeathsig KILL "${epmd[@]}")
    "${epmd[@]}" </dev/null >>"$1/log/startup.log" 2>&1 &
    for _ in {1..250}; do # 5 s
        ! (: <"/dev/tcp/127.0.0.1/$ERL_EPMD_PORT") 2>/dev/null || break
        sleep 0.02
    done
}

run() {
    local dir=$1 port=$2 sbin
    sbin=$(release)
    mkdir -p "$dir"/{conf.d,data,log}
    dir=$(cd "$dir" && pwd)
    environment "$dir" "$port"
    echo "$port" >"$dir/port"

    cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.local = 127.0.0.1:$port
log.file.level = info
log.connection.level = warning
# The default of 512 MiB suits a server; here it is memory and disk for nothing.
raft.wal_max_size_bytes = 67108864
CONF
    [[ -f $dir/enabled_plugins ]] || echo '[].' >"$dir/enabled_plugins"
    hide_plugins "$dir" "$sbin"
    # Where the plugin is not at hand, its keys are refused.
    if [[ $(<"$dir/enabled_plugins") == *rabbitmq_management* ]]; then
        printf 'management.tcp.%s\n' 'ip = 127.0.0.1' "port = $((port + 4))" >>"$dir/rabbitmq.conf"
    fi

    # Several nodes share a small machine: do not pin them all to the same cores.
    export RABBITMQ_SCHEDULER_BIND_TYPE=u
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
    # Makes the server script become the Erlang VM instead of waiting for it, so that the caller's
    # child *is* the node and a signal reaches it.
    export RUNNING_UNDER_SYSTEMD=true

    [[ -f $dir/mapper ]] || start_mapper "$dir"

    cd "$dir"
    exec "$sbin/rabbitmq-server" </dev/null >>"$dir/log/startup.log" 2>&1
}

# In another system, this very script does it.
case ${RABBITMQ_ROOT:-}${1:-} in
/*run | /*exec | /*mapper)
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    root=$RABBITMQ_ROOT dir=$(mkdir -p "$2" && cd "$2" && pwd)
    unset RABBITMQ_ROOT RABBITMQ_SBIN
    exec "$here/rabbitmq4.sh" enter "$root" "$here/node.sh" "$1" "$dir" "${@:3}"
    ;;
esac

case ${1:-} in
run) run "${@:2}" ;;
exec)
    dir=$(cd "$2" && pwd)
    environment "$dir" "$(<"$dir/port")"
    exec "$(release)/$3" "${@:4}"
    ;;
mapper) exec epmd -address 127.0.0.1 -port "$3" </dev/null >>"$2/mapper.log" 2>&1 ;;
free-port) free_port ;;
*) die "usage: node.sh run DIR PORT | mapper DIR PORT | exec DIR TOOL ARGS... | free-port" ;;
esac
