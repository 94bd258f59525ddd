"""Builds every overlay of deploy/k8s and looks at what comes out.

    manifests.py BINARY     checks, with this groupmq; says everything that is wrong, and fails then
    manifests.py --write    writes deploy/observability/prometheus-rule.yaml from alerts.yaml

Resources of Kubernetes are held against its published schemas (package kubernetes-validate), strictly,
for the oldest and the newest version that we mean to run on; those of operators against shapes.yaml.
What no schema knows (restricted pods, secrets, the settings, who may reach whom) is checked below. Run
by tests/deploy/main.rs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "deploy/k8s/overlays"
KUBERNETES = ("1.30", "1.37")
SHAPES = yaml.safe_load((Path(__file__).parent / "shapes.yaml").read_text())
ROLES = {"commands", "webhooks", "gateway"}
# A name or a label of Kubernetes.
NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")

problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


def build(overlay):
    command = ["kubectl", "kustomize", str(overlay)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        sys.exit(f"{' '.join(command)}: {built.stderr}")
    if built.stderr.strip():
        problem(overlay.name, f"kustomize warns: {built.stderr.strip()}")
    return [resource for resource in yaml.safe_load_all(built.stdout) if resource]


def where(overlay, resource):
    return f"{overlay}: {resource['kind']} {resource['metadata']['name']}"


def pod(resource):
    """The pod's template of whatever runs pods."""
    if resource["kind"] in ("Deployment", "StatefulSet", "Job"):
        return resource["spec"]["template"]
    if resource["kind"] == "CronJob":
        return resource["spec"]["jobTemplate"]["spec"]["template"]
    return None


def check_schemas(overlay, resource):
    here = where(overlay, resource)
    if not NAME.match(resource["metadata"]["name"]):
        problem(here, "not a name")
    shape = SHAPES.get(resource["kind"])
    if shape:
        if resource["apiVersion"] != shape["apiVersion"]:
            problem(here, f"apiVersion should be {shape['apiVersion']}")
        if set(resource) != {"apiVersion", "kind", "metadata", "spec"}:
            problem(here, f"has the fields {sorted(resource)}")
        check_shape(here, resource["spec"], shape["spec"])
        check_parts(here, resource, shape)
    else:
        core(here, resource)


def check_shape(here, value, shape):
    for error in jsonschema.Draft202012Validator(shape).iter_errors(value):
        problem(here, f"{error.json_path}: {error.message}")


def core(here, resource):
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problem(here, f"Kubernetes {version}: {error.path}: {error.message}")
        except Exception as error:  # no schema for this kind
            problem(here, f"Kubernetes {version}: {error!r}")


def check_parts(here, resource, shape):
    """The parts of operators' resources that have types of Kubernetes itself."""
    spec = resource["spec"]
    if resource["kind"] == "RabbitmqCluster":
        containers = [{"name": "x", "resources": spec.get("resources", {})}]
        like = {"affinity": spec.get("affinity", {}), "containers": containers}
        core(here, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": like})
        own = overridden(resource)
        core(here, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": own})
        check_restricted(here, own)
        # As the operator calls them.
        named = [it["name"] for it in own.get("initContainers", []) + own["containers"]]
        if named != ["setup-container", "rabbitmq"]:
            problem(here, f"says what its containers may do for {named}")
    if resource["kind"] == "ScaledObject":
        behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
        like = {"maxReplicas": 1, "scaleTargetRef": target, "behavior": behavior}
        meta = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        core(here, {**meta, "metadata": {"name": "x"}, "spec": like})
        for trigger in spec["triggers"]:
            check_shape(here, trigger["metadata"], shape[trigger["type"]])


def overridden(cluster):
    """What a RabbitmqCluster says of its pods beyond what its operator does."""
    override = cluster["spec"].get("override", {}).get("statefulSet", {}).get("spec", {})
    return override.get("template", {}).get("spec", {"containers": []})


def check_restricted(here, spec):
    """What Pod Security Standards, "restricted", demand of a pod and its containers."""
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        problem(here, "may run as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problem(here, "no seccomp profile")
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            problem(here, "may gain privileges")
        if context.get("capabilities") != {"drop": ["ALL"]}:
            problem(here, "has capabilities")


def check_pod(overlay, resource):
    """Pod Security Standards, "restricted", and our own rules."""
    here, spec = where(overlay, resource), pod(resource)["spec"]
    check_restricted(here, spec)
    if spec.get("automountServiceAccountToken") is not False:
        problem(here, "gets a token of a service account")
    if spec.get("enableServiceLinks") is not False:
        problem(here, "services would become settings (GROUPMQ_…_SERVICE_HOST)")
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            problem(here, f"has {key}")
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            problem(here, "mounts the host's files")
    for container in spec["containers"] + spec.get("initContainers", []):
        check_container(here, container, ours=container["image"].split(":")[0].endswith("groupmq"))


def check_container(here, container, ours):
    context = container.get("securityContext", {})
    if "memory" not in container.get("resources", {}).get("limits", {}):
        problem(here, "has no limit of memory")
    if re.search(r":(latest)?$|^[^:]*$", container["image"].rsplit("/", 1)[-1]):
        problem(here, f"the image {container['image']} has no version")
    if ours:
        if context.get("readOnlyRootFilesystem") is not True:
            problem(here, "may write to its root")
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                problem(here, f"{variable['name']}: secrets come as files")


def check_references(overlay, resources):
    """Whatever is named is there, except for the secrets that the README asks for."""
    have = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
    told = set(re.findall(r"`(groupmq-[a-z-]+)`", (ROOT / "deploy/README.md").read_text()))
    for resource in resources:
        here = where(overlay, resource)
        for kind, name in named(resource):
            if (kind, name) not in have and not (kind == "Secret" and name in told):
                problem(here, f"{kind} {name} is not there")


def named(resource):
    template = pod(resource)
    spec = resource.get("spec", {})
    if template:
        if "serviceAccountName" in template["spec"]:
            yield "ServiceAccount", template["spec"]["serviceAccountName"]
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"]
            if "secret" in volume:
                yield "Secret", volume["secret"]["secretName"]
            if "persistentVolumeClaim" in volume:
                yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    if resource["kind"] == "ScaledObject":
        yield "Deployment", spec["scaleTargetRef"]["name"]
        for trigger in spec["triggers"]:
            yield "TriggerAuthentication", trigger["authenticationRef"]["name"]
    for reference in spec.get("secretTargetRef", []):
        yield "Secret", reference["name"]
    if "rabbitmqClusterReference" in spec:
        yield "RabbitmqCluster", spec["rabbitmqClusterReference"]["name"]
    if "userReference" in spec:
        yield "User", spec["userReference"]["name"]
    if "importCredentialsSecret" in spec:
        yield "Secret", spec["importCredentialsSecret"]["name"]
    for key in ("secretName", "caSecretName"):
        if key in spec.get("tls", {}):
            yield "Secret", spec["tls"][key]


def check_selectors(overlay, resources):
    """Whoever selects pods finds exactly those of one Deployment, or says whom else it means."""
    deployments = [it for it in resources if it["kind"] == "Deployment"]
    budgets = [it for it in resources if it["kind"] == "PodDisruptionBudget"]
    for kind in (deployments, budgets):
        for resource in kind:
            wanted = resource["spec"]["selector"]["matchLabels"]
            found = [
                it["metadata"]["name"]
                for it in resources
                if pod(it) and wanted.items() <= pod(it)["metadata"]["labels"].items()
            ]
            if found != [resource["metadata"]["name"]]:
                problem(where(overlay, resource), f"selects the pods of {found}")
    if len(budgets) != len(deployments):
        problem(overlay, "each Deployment has a PodDisruptionBudget")
    for resource in deployments:
        labels = pod(resource)["metadata"]["labels"]
        for spread in pod(resource)["spec"]["topologySpreadConstraints"]:
            if spread["labelSelector"]["matchLabels"] != labels:
                problem(where(overlay, resource), "is spread together with others")


def settings(overlay, resources, resource, binary, name="groupmq"):
    """What `groupmq config print` makes of a pod's files and environment, laid out in a folder."""
    here, spec = where(overlay, resource), pod(resource)["spec"]
    containers = spec["containers"] + spec.get("initContainers", [])
    container = next(it for it in containers if it["name"] == name)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    with tempfile.TemporaryDirectory() as folder:
        for mount in container["volumeMounts"]:
            target = Path(folder + mount["mountPath"])
            target.mkdir(parents=True)
            for name, text in files(volumes[mount["name"]], resources):
                # Files that the settings name are where the pod has them, below our folder.
                moved = re.sub(r'(_file = ")/', rf"\1{folder}/", text)
                (target / name).write_text(moved)
        environment = {
            it["name"]: folder + it["value"] if it["value"].startswith("/") else it["value"]
            for it in container.get("env", [])
        }
        environment["PATH"] = os.environ["PATH"]
        for command in (["config", "check"], ["config", "print"]):
            run = subprocess.run(
                [binary, *command], env=environment, capture_output=True, text=True
            )
            if run.returncode:
                problem(here, f"groupmq {' '.join(command)}: {run.stdout}{run.stderr}")
                return None
        return tomllib.loads(run.stdout)


def files(volume, resources):
    """The files of a volume, secrets with something that passes for one."""
    if "configMap" in volume:
        for resource in resources:
            if resource["kind"] == "ConfigMap" and resource["metadata"]["name"] == volume["configMap"]["name"]:
                yield from resource["data"].items()
    if "secret" in volume:
        samples = {
            "amqp": "amqps://user:password@host:5671/groupmq",
            "store": "postgres://user:password@host/groupmq",
            "store-owner": "postgres://owner:password@host/groupmq",
        }
        for item in volume["secret"]["items"]:
            yield item["path"], samples.get(volume["name"], "x" * 32)


def check_settings(overlay, resources, binary):
    scaled = {
        it["spec"]["scaleTargetRef"]["name"]: it["spec"] for it in resources if it["kind"] == "ScaledObject"
    }
    played = set()
    for resource in resources:
        if resource["kind"] not in ("Deployment", "Job", "CronJob"):
            continue
        here, spec = where(overlay, resource), pod(resource)["spec"]
        found = settings(overlay, resources, resource, binary)
        if not found:
            continue
        for first in spec.get("initContainers", []):
            settings(overlay, resources, resource, binary, first["name"])
        port = int(found["ops"]["listen"].rsplit(":", 1)[1])
        container = spec["containers"][0]
        if resource["kind"] == "Deployment":
            if port not in [it["containerPort"] for it in container["ports"] if it["name"] == "ops"]:
                problem(here, "serves its health on another port")
            deadline = int(re.fullmatch(r"(\d+)s", found["shutdown"]["deadline"])[1])
            grace = spec["terminationGracePeriodSeconds"]
            if not deadline + 10 <= grace <= deadline + 30:
                problem(here, f"has {grace} s to end, with shutdown.deadline = {deadline}s")
            if found["log"]["format"] != "json":
                problem(here, "logs for people")
            roles = found["roles"]
            played |= {roles} if isinstance(roles, str) else set(roles)
            component = resource["metadata"]["labels"].get("app.kubernetes.io/component")
            if component and roles not in (component, [component]):
                problem(here, f"has the roles {roles}")
        scaling = scaled.get(resource["metadata"]["name"])
        if scaling:
            shards = found["topology"]["shards"]
            # One stands by where there is one shard.
            if scaling["maxReplicaCount"] > max(shards, 2):
                problem(here, f"scales beyond its {shards} shards")
            if scaling["minReplicaCount"] < 2:
                problem(here, "may scale to one or none")
            if "replicas" in resource["spec"]:
                problem(here, "sets replicas, which KEDA does too")
            for trigger in scaling["triggers"]:
                if float(trigger["metadata"]["value"]) != 2 * found["amqp"]["prefetch"]:
                    problem(here, "is not scaled by twice amqp.prefetch")
                pattern = trigger["metadata"]["queueName"]
                for number in range(shards):
                    queue = f"{found['topology']['prefix']}.commands.{number}"
                    if not re.search(pattern, queue):
                        problem(here, f"{pattern} leaves out {queue}")
    if played != ROLES:
        problem(overlay, f"nobody has the roles {sorted(ROLES - played)}")


def check_permissions(resources):
    """deploy/rabbitmq/permissions.json, which the tests take rights from, is what production has."""
    told = json.loads((ROOT / "deploy/rabbitmq/permissions.json").read_text())
    producers = {it["user"] for it in told["topic_permissions"]}
    expected = [it for it in told["permissions"] if it["user"] not in producers]
    has = [
        {"user": it["spec"]["userReference"]["name"], "vhost": it["spec"]["vhost"], **it["spec"]["permissions"]}
        for it in resources
        if it["kind"] == "Permission"
    ]
    key = lambda it: it["user"]
    if sorted(has, key=key) != sorted(expected, key=key):
        problem("rabbitmq-users.yaml", "its permissions are not those of deploy/rabbitmq/permissions.json")


def check_production(resources):
    policies = [it for it in resources if it["kind"] == "NetworkPolicy"]
    denies = [it for it in policies if it["spec"]["podSelector"] == {} and "egress" not in it["spec"]]
    if [sorted(it["spec"]["policyTypes"]) for it in denies] != [["Egress", "Ingress"]]:
        problem("production", "no policy that lets nothing through")
    for resource in resources:
        if resource["kind"] == "Secret":
            problem(where("production", resource), "a secret in the repository")
        if resource["kind"] == "Namespace":
            labels = resource["metadata"]["labels"]
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                problem(where("production", resource), "does not enforce restricted pods")
    ports = {
        port["name"]
        for it in resources
        if it["kind"] == "Deployment"
        for port in pod(it)["spec"]["containers"][0]["ports"]
    }
    for resource in resources:
        if resource["kind"] == "Service":
            for port in resource["spec"]["ports"]:
                if port.get("targetPort") not in ports:
                    problem(where("production", resource), f"no pod has a port {port.get('targetPort')}")
    for resource in resources:
        if resource["kind"] == "PodMonitor":
            for endpoint in resource["spec"]["podMetricsEndpoints"]:
                # RabbitMQ's pods are made by its operator, which calls the port so.
                if endpoint["port"] not in ports | {"prometheus"}:
                    problem(where("production", resource), f"no pod has a port {endpoint['port']}")


def admits(policies, labels, namespace, port):
    """Whether a policy lets a namespace in to pods with these labels, at a port."""
    for policy in policies:
        spec = policy["spec"]
        if not spec["podSelector"].get("matchLabels", {"": ""}).items() <= labels.items():
            continue
        for rule in spec.get("ingress", []):
            named = []
            for source in rule["from"]:
                selector = source.get("namespaceSelector", {})
                named.append(selector.get("matchLabels", {}).get("kubernetes.io/metadata.name"))
                for expression in selector.get("matchExpressions", []):
                    named += expression["values"]
            if namespace in named and port in [it["port"] for it in rule["ports"]]:
                return True
    return False


def check_management(resources):
    """Whoever uses the broker's management API gets there: the Topology Operator, and KEDA."""
    policies = [it for it in resources if it["kind"] == "NetworkPolicy"]
    clusters = [it for it in resources if it["kind"] == "RabbitmqCluster"]
    scaled = [it for it in resources if it["kind"] == "ScaledObject"]
    for cluster in clusters:
        here, name = where("production", cluster), cluster["metadata"]["name"]
        labels = {"app.kubernetes.io/name": name}
        host = f"{name}.{cluster['metadata']['namespace']}.svc"
        uses = [("keda", it["metadata"]["host"]) for one in scaled for it in one["spec"]["triggers"]]
        # Where the Topology Operator goes by itself; it trusts our certificates as little as KEDA does.
        own = f"https://{host}:15671" if "tls" in cluster["spec"] else f"http://{host}:15672"
        annotations = cluster["metadata"].get("annotations", {})
        told = annotations.get("rabbitmq.com/operator-connection-uri", own)
        for namespace, uri in [*uses, ("rabbitmq-system", told)]:
            parts = urlsplit(uri)
            if (parts.scheme, parts.hostname) != ("http", host):
                problem(here, f"{namespace} goes to {uri}")
            if not admits(policies, labels, namespace, parts.port):
                problem(here, f"no policy lets {namespace} in at {uri}")
        if cluster["spec"].get("tls", {}).get("disableNonTLSListeners"):
            problem(here, "does not listen where the operator and KEDA go")


def check_compose():
    """What can be said of the Compose file without Docker."""
    folder = ROOT / "deploy"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        here = f"compose.yaml: {name}"
        image = service["image"].rsplit("/", 1)[-1]
        if not re.search(r":v?[0-9]", image):
            problem(here, f"the image {image} has no version")
        for other in service.get("depends_on", {}):
            if "healthcheck" not in services.get(other, {}):
                problem(here, f"waits for the health of {other}, which has none")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                problem(here, f"can be reached from elsewhere: {port}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (folder / source).exists():
                problem(here, f"mounts {source}, which is not there")
    check_compose_settings({name: it for name, it in services.items() if it["image"].startswith("groupmq:")})


def check_compose_settings(ours):
    scraped = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())["scrape_configs"]
    [found] = next(it for it in scraped if it["job_name"] == "groupmq")["dns_sd_configs"]
    if sorted(found["names"]) != sorted(ours):
        problem("compose.yaml", f"Prometheus reads {found['names']} of {sorted(ours)}")
    defaults = tomllib.loads((ROOT / "config.default.toml").read_text())
    known = {name.upper() for name in defaults}
    played = set()
    for name, service in ours.items():
        here = f"compose.yaml: {name}"
        grace = int(service["stop_grace_period"].removesuffix("s"))
        if grace < int(defaults["shutdown"]["deadline"].removesuffix("s")) + 10:
            problem(here, "has less time to end than it takes")
        for variable in service["environment"]:
            if variable.removeprefix("GROUPMQ_").split("__")[0] not in known:
                problem(here, f"{variable} is no setting")
        roles = service["environment"].get("GROUPMQ_ROLES")
        played |= set(roles.split(",") if roles else defaults["roles"])
    if played != ROLES:
        problem("compose.yaml", f"nobody has the roles {sorted(ROLES - played)}")


def check_scaling(resources):
    """A shard has one worker, so there are never more workers than shards, and may be as many."""
    for resource in resources:
        if resource["kind"] == "ScaledObject":
            config = next(it for it in resources if it["kind"] == "ConfigMap" and "groupmq.toml" in it["data"])
            shards = tomllib.loads(config["data"]["groupmq.toml"])["topology"]["shards"]
            most = resource["spec"]["maxReplicaCount"]
            if most != shards:
                problem(where("production", resource), f"{most} workers at most for {shards} shards")
            if resource["spec"]["fallback"].get("behavior") != "currentReplicasIfHigher":
                problem(where("production", resource), "takes workers away when it cannot see what waits")


def prometheus_rule():
    rules = yaml.safe_load((ROOT / "deploy/observability/alerts.yaml").read_text())
    head = "# Written from alerts.yaml by tests/deploy/manifests.py --write; change that one.\n"
    meta = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}
    rule = {**meta, "metadata": {"name": "groupmq"}, "spec": rules}
    return head + yaml.safe_dump(rule, sort_keys=False, width=100, allow_unicode=True)


def main():
    written = ROOT / "deploy/observability/prometheus-rule.yaml"
    if sys.argv[1:] == ["--write"]:
        written.write_text(prometheus_rule())
        return
    [binary] = sys.argv[1:]
    if written.read_text() != prometheus_rule():
        problem(written.name, "is not what alerts.yaml says: run tests/deploy/manifests.py --write")
    check_compose()
    overlays = sorted(it for it in OVERLAYS.iterdir() if (it / "kustomization.yaml").exists())
    counted = 0
    for folder in overlays:
        resources = build(folder)
        counted += len(resources)
        for resource in resources:
            check_schemas(folder.name, resource)
            if pod(resource):
                check_pod(folder.name, resource)
        check_references(folder.name, resources)
        check_selectors(folder.name, resources)
        check_settings(folder.name, resources, binary)
        if folder.name == "production":
            check_production(resources)
            check_management(resources)
            check_scaling(resources)
            check_permissions(resources)
    if problems:
        sys.exit("\n".join(problems))
    print(f"{counted} resources of {len(overlays)} overlays are as they should be")


if __name__ == "__main__":
    main()
