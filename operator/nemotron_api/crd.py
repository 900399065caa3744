"""Generate the CustomResourceDefinitions from the pydantic models."""

import pathlib
import sys
from typing import Any

import yaml
from pydantic import BaseModel

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec
from nemotron_api.cel import cel
from nemotron_api.deployment import DeploymentSpec
from nemotron_api.status import ArtifactStatus, DeploymentStatus

_KEPT = {
    "type", "description", "default", "enum", "pattern", "format", "required", "properties", "items",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
    "additionalProperties", "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema as Kubernetes wants it: no references, no null types, no titles."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    inlined = _inline(schema, schema.get("$defs", {}))
    assert isinstance(inlined, dict)
    return inlined


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _inline({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node:
        (only,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        return _inline({**_inline(only, definitions), **rest}, definitions)
    kept = {key: value for key, value in node.items() if key in _KEPT}
    if isinstance(kept.get("default"), dict | list):
        # Defaults of whole objects would hold nulls, which the API server refuses; readers fill them in themselves.
        del kept["default"]
    if "const" in node:
        kept["enum"] = [node["const"]]
    if isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = _inline(kept["additionalProperties"], definitions)
    elif kept.pop("additionalProperties", False):
        # `false` is not allowed beside properties: the API server prunes or refuses unknown fields by itself.
        kept["x-kubernetes-preserve-unknown-fields"] = True
    if "properties" in kept:
        kept["properties"] = {name: _inline(child, definitions) for name, child in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _inline(kept["items"], definitions)
    return kept


def column(name: str, kind: str, path: str, *, wide: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


def condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


def deployment_crd() -> dict[str, Any]:
    spec = structural(DeploymentSpec)
    spec |= cel(
        "!has(self.scaling) || self.replicas == 1",
        "replicas and scaling exclude each other: remove replicas, or change scaling.min/max",
    )
    schema = _root(
        "One Nemotron model, served.",
        spec,
        structural(DeploymentStatus),
        cel(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
            "metadata.name becomes a Service name: at most 40 lower-case letters, digits and dashes, a letter first",
        ),
    )
    columns = [
        column("Ready", "string", condition(names.READY, "status")),
        column("Reason", "string", condition(names.READY, "reason")),
        column("Model", "string", ".spec.model.name"),
        column("Precision", "string", ".status.resolved.precision"),
        column("Replicas", "integer", ".status.replicas"),
        column("Routable", "integer", ".status.routableReplicas"),
        column("Age", "date", ".metadata.creationTimestamp"),
        column("Revision", "string", ".status.revision", wide=True),
        column("Engine", "string", ".status.resolved.engine", wide=True),
        column("GPU", "string", ".status.resolved.gpu", wide=True),
        column("Message", "string", condition(names.READY, "message"), wide=True),
    ]
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return _crd(names.DEPLOYMENT_KIND, names.DEPLOYMENT_PLURAL, "nd", schema, columns, {"status": {}, "scale": scale})


def artifact_crd() -> dict[str, Any]:
    spec = structural(ArtifactSpec)
    spec |= {
        "x-kubernetes-validations": [
            {
                "rule": "self == oldSelf",
                "message": "an artifact is immutable: create another one, its name is its fingerprint",
            },
            {
                "rule": "self.kind == 'Weights' ? has(self.weights) && !has(self.engine)"
                " : has(self.engine) && !has(self.weights)",
                "message": "give the request that fits the kind: weights for Weights, engine for Engine",
            },
        ]
    }
    columns = [
        column("Kind", "string", ".spec.kind"),
        column("Ready", "string", condition(names.READY, "status")),
        column("Reason", "string", condition(names.READY, "reason")),
        column("Bytes", "integer", ".status.bytes"),
        column("Seconds", "number", ".status.seconds"),
        column("Age", "date", ".metadata.creationTimestamp"),
        column("Message", "string", condition(names.READY, "message"), wide=True),
    ]
    schema = _root("The immutable result of one Job.", spec, structural(ArtifactStatus), {})
    return _crd(names.ARTIFACT_KIND, names.ARTIFACT_PLURAL, "na", schema, columns, {"status": {}})


def _root(description: str, spec: dict[str, Any], status: dict[str, Any], rules: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
        "status": status,
    }
    return {"type": "object", "description": description, "required": ["spec"], "properties": properties, **rules}


def _crd(
    kind: str,
    plural: str,
    short_name: str,
    schema: dict[str, Any],
    columns: list[dict[str, Any]],
    subresources: dict[str, Any],
) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["nemotron", "all"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }


def render(crd: dict[str, Any]) -> str:
    """The CRD as YAML, the same text every time, without anchors."""
    return yaml.dump(crd, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> None:
    """Write both CRDs into the directory named on the command line: `python -m nemotron_api.crd manifests/crds`."""
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for crd in (deployment_crd(), artifact_crd()):
        (directory / f"{crd['metadata']['name']}.yaml").write_text(render(crd))


if __name__ == "__main__":
    main()
