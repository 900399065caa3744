"""Versions agree wherever they are written, manifests are complete, nodes do not collide."""

import json
import re
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
import yaml

from nemotron_devcluster import network, nodeconfig, tools
from nemotron_devcluster.addons import Addons
from nemotron_devcluster.audit import entries
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.home import CLONE, Home
from nemotron_devcluster.network import MAX_NODES, NodeNetwork
from nemotron_devcluster.pki import Pair
from nemotron_devcluster.registry_images import OWN_BASE, Wish
from nemotron_devcluster.tools import KUBERNETES, MODULES, Tools

pytestmark = pytest.mark.unit

BOOTSTRAP = (CLONE / "devcluster/bootstrap.py").read_text()


def a_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def constant(name: str) -> str:
    found = re.search(rf'^{name} = "([^"]+)"', BOOTSTRAP, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_the_go_that_is_installed_builds_every_module(module: tools.Module) -> None:
    needed = re.search(r"^go ([\d.]+)$", (module.source / "go.mod").read_text(), re.MULTILINE)

    assert needed
    assert a_version(needed[1]) <= a_version(constant("GO_VERSION")) == tools.MINIMUM_GO


@pytest.mark.parametrize("dockerfile", ["operator/Dockerfile", "backend/Dockerfile"])
def test_images_are_built_with_the_uv_that_is_installed(dockerfile: str) -> None:
    assert f"ARG UV_VERSION={constant('UV_VERSION')}\n" in (CLONE / dockerfile).read_text()


def test_a_command_is_built_again_when_its_module_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SOURCES", tmp_path)
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes/go.mod").write_text("require k8s.io/kubernetes v1.36.3\n")
    before = Tools(Home(tmp_path)).path("kubelet")

    (tmp_path / "kubernetes/go.sum").write_text("changed")

    assert Tools(Home(tmp_path)).path("kubelet") != before
    assert Tools(Home(tmp_path)).path("kubelet").parent == Tools(Home(tmp_path)).path("kubectl").parent


def test_kubernetes_knows_its_version() -> None:
    required = re.search(r"k8s\.io/kubernetes (v\S+)", (KUBERNETES.source / "go.mod").read_text())

    assert required
    assert tools._version_flag(KUBERNETES) == f"-X k8s.io/component-base/version.gitVersion={required[1]}"
    assert not tools._version_flag(tools.ETCD)


def test_addons_are_whole_manifests(tmp_path: Path) -> None:
    control_plane = ControlPlane(Home(tmp_path), Tools(Home(tmp_path)))
    control_plane.prepare()

    documents = list(yaml.safe_load_all(Addons(control_plane).manifests()))

    kinds = [document["kind"] for document in documents]
    assert {"DaemonSet", "APIService", "StorageClass", "ClusterRole"} <= set(kinds)
    for document in documents:
        assert document["apiVersion"]
        assert document["metadata"]["name"]


def test_nodes_share_no_address_and_every_address_is_the_clusters() -> None:
    nodes = [NodeNetwork(index) for index in range(1, MAX_NODES + 1)]
    machine = IPv4Network(f"{network.API_ADDRESS}/24", strict=False)

    assert len({node.address for node in nodes} | {network.API_ADDRESS}) == MAX_NODES + 1
    for node in nodes:
        assert ip_address(node.address) in machine
        assert IPv4Network(node.pods).subnet_of(IPv4Network(network.CLUSTER_NETWORK))
        assert not IPv4Network(node.pods).overlaps(machine)
        assert ip_address(node.gateway) in IPv4Network(node.pods)
        assert len(node.cable) < 16  # the kernel's limit for an interface's name
    assert not IPv4Network(nodes[0].pods).overlaps(IPv4Network(nodes[1].pods))


def test_a_node_routes_to_every_other() -> None:
    assert NodeNetwork(1).routes() == [("default", "10.88.0.1"), ("10.88.2.0/24", "10.88.0.3")]
    assert NodeNetwork(2).routes() == [("default", "10.88.0.1"), ("10.88.1.0/24", "10.88.0.2")]


def test_a_nodes_configuration_names_that_node() -> None:
    node = NodeNetwork(2)
    kubelet = nodeconfig.kubelet(Path("/state"), node, Path("/ca"), Pair(Path("/c"), Path("/k")))

    assert kubelet["address"] == node.address
    assert kubelet["clusterDNS"] == [network.DNS_ADDRESS]
    assert nodeconfig.proxy("node2", node, Path("/conf"))["clusterCIDR"] == node.pods
    assert nodeconfig.cni(Path("/state"), node)["plugins"][0]["ipam"]["ranges"][0][0]["subnet"] == node.pods
    assert 'root = "/state/containerd"' in nodeconfig.containerd(Path("/state"), "localhost/pause:1")


def test_the_audit_log_is_read_up_to_the_last_whole_line(tmp_path: Path) -> None:
    at = ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:02.000000Z")
    lines = [
        json.dumps({"verb": verb, "stageTimestamp": time}) for verb, time in zip(("create", "patch"), at, strict=True)
    ]
    (tmp_path / "audit.log").write_text("\n".join([*lines, '{"verb": "dele']))

    assert [entry["verb"] for entry in entries(tmp_path / "audit.log", 0)] == ["create", "patch"]
    assert [entry["verb"] for entry in entries(tmp_path / "audit.log", 1767225601)] == ["patch"]


def test_images_for_a_registry_take_the_arguments_that_were_set() -> None:
    wish = Wish.read({"REGISTRY": "example.com/team", "TAG": "1", "OMIT": "triton", "TORCH_INDEX": ""})

    backend, operator = wish.argv("nemotron-backend"), wish.argv("nemotron-operator")
    assert "--tag=example.com/team/nemotron-backend:1" in backend
    assert "--build-arg=OMIT=triton" in backend
    assert f"--build-arg=BASE_IMAGE={OWN_BASE}" in backend
    assert not [argument for argument in backend if "TORCH_INDEX" in argument]
    assert not [argument for argument in operator if "OMIT" in argument]
