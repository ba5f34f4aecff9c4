"""kubernetes_patch.py PATCH: applies the patch to a Deployment, validates the result, and prints the container's command.

Applies it as Kubernetes does: containers, mounts and volumes of the same name are merged, other lists are replaced.
"""

import sys

import kubernetes_validate
import yaml

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: server
          image: server
          args: [/client/stress]
          volumeMounts: [{name: models, mountPath: /models}]
      volumes: [{name: models, emptyDir: {}}]
"""
KEYS = {"initContainers": "name", "containers": "name", "volumes": "name", "volumeMounts": "mountPath"}


def merged(old, patch, name=None):
    if isinstance(old, dict) and isinstance(patch, dict):
        both = {key: merged(old[key], patch[key], key) for key in old.keys() & patch.keys()}
        return {**old, **patch, **both}
    if name in KEYS:
        elements = {element[KEYS[name]]: element for element in old}
        for element in patch:
            key = element[KEYS[name]]
            elements[key] = merged(elements.get(key, {}), element)
        return list(elements.values())
    return patch


with open(sys.argv[1]) as patch:
    deployment = merged(yaml.safe_load(DEPLOYMENT), yaml.safe_load(patch))
kubernetes_validate.validate(deployment, "1.30", strict=True)
spec = deployment["spec"]["template"]["spec"]
(container,) = spec["containers"]
assert {volume["name"] for volume in spec["volumes"]} == {"models", "mrlock"}
assert {mount["name"] for mount in container["volumeMounts"]} == {"models", "mrlock"}
assert not container.get("env"), "it would replace the image's own"
# The arguments are the client, which the caller appends.
assert container["args"] == ["/client/stress"]
print(*container["command"])
