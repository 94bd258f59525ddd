#!/usr/bin/env bash
# amqp-login.sh URL: succeeds if a broker accepts the URL's user and password.
#
# An open port is not a broker, and a broker may refuse guest. So this speaks the first half of the
# AMQP 0-9-1 handshake, with nothing but bash: our Connection.Start-Ok is answered with
# Connection.Tune, or it was refused. It does not open the virtual host. Of an amqps:// URL it can
# only tell whether something listens.
set -euo pipefail
export LC_ALL=C # lengths count bytes

url=${1:?usage: amqp-login.sh URL}
# A peer that drops packets, or listens and says nothing, must not hold us up.
if [[ -z ${LOGIN_TIMED:-} ]] && command -v timeout >/dev/null; then
    LOGIN_TIMED=1 exec timeout 5 bash "$0" "$url"
fi
pattern='^(amqps?)://(([^:@/]*)(:([^@/]*))?@)?(\[[^]]+\]|[^:/?]+)(:([0-9]+))?'
[[ $url =~ $pattern ]] || {
    echo "not an amqp:// URL" >&2 # without the URL itself, which may hold a password
    exit 2
}
scheme=${BASH_REMATCH[1]} user=${BASH_REMATCH[3]:-guest} password=${BASH_REMATCH[5]:-guest}
host=${BASH_REMATCH[6]//[\[\]]/} port=${BASH_REMATCH[8]}
[[ -n $port ]] || { [[ $scheme == amqps ]] && port=5671 || port=5672; }

decoded() { printf '%b' "${1//%/\\x}"; }
u32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))"; }

# Reads one frame and prints its class and method, "10 30" for Connection.Tune.
frame() {
    local head body
    read -ra head < <(head -c 7 <&3 | od -An -v -tu1)
    ((${#head[@]} == 7)) || return 1
    read -ra body < <(head -c $(((head[3] << 24 | head[4] << 16 | head[5] << 8 | head[6]) + 1)) <&3 |
        od -An -v -tu1)
    echo "$((body[0] << 8 | body[1])) $((body[2] << 8 | body[3]))"
}

login() {
    exec 3<>"/dev/tcp/$host/$port"
    [[ $scheme == amqp ]] || return 0
    printf 'AMQP\x00\x00\x09\x01' >&3
    [[ $(frame) == "10 10" ]] || return 1 # Connection.Start
    local name secret length
    name=$(decoded "$user") secret=$(decoded "$password")
    length=$((2 + ${#name} + ${#secret}))
    {
        printf '\x01\x00\x00'
        u32 $((4 + 4 + 6 + 4 + length + 6))
        printf '\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN' # Start-Ok, no properties
        u32 "$length"
        printf '\x00%s\x00%s\x05en_US\xce' "$name" "$secret"
    } >&3
    [[ $(frame) == "10 30" ]]
}

login 2>/dev/null
