#!/usr/bin/env bash
# Runs a command of groupmq's in the cluster of the production overlay, as the user who may see to
# everything (groupmq-operator), and prints what it says. Needs kubectl and jq.
#
#   desk.sh doctor
#   desk.sh dead list --reason EXPIRED
#
# NAMESPACE (groupmq) says where. What to run comes from the suspended CronJob groupmq-desk. There is no
# terminal: `dead purge` wants --yes.
set -euo pipefail

namespace=${NAMESPACE:-groupmq}
name=groupmq-desk-$(date +%s)
here() { kubectl --namespace "$namespace" "$@"; }

(($#)) || {
    echo "usage: desk.sh COMMAND..., such as: desk.sh dead list" >&2
    exit 2
}
here create job "$name" --from=cronjob/groupmq-desk --dry-run=client --output=json |
    jq '.spec.template.spec.containers[0].args = $ARGS.positional' --args -- "$@" |
    here create --filename=- >/dev/null
trap 'here delete job "$name" --wait=false >/dev/null' EXIT
of_pod() { here get pods --selector="job-name=$name" --output=jsonpath="{.items[*].status.$1}"; }
for _ in {1..120}; do # a minute
    [[ $(of_pod phase) =~ ^(Running|Succeeded|Failed)$ ]] && break
    sleep 0.5
done
here logs --follow "job/$name"
# Its exit code is ours.
for _ in {1..20}; do # its last words come before the cluster knows how it ended
    code=$(of_pod 'containerStatuses[0].state.terminated.exitCode')
    [[ -z $code ]] || break
    sleep 0.5
done
exit "${code:-1}"
