"""Write what a node's programs read: containerd, the CNI plugin, kubelet and kube-proxy."""

import string
from importlib import resources
from pathlib import Path
from typing import Any

from nemotron_devcluster import network
from nemotron_devcluster.network import NodeNetwork
from nemotron_devcluster.pki import Pair

Config = dict[str, Any]


def containerd(directory: Path, pause_image: str) -> str:
    source = resources.files(__package__).joinpath("containerd.toml").read_text()
    values = {"root": directory / "containerd", "cni": directory / "cni", "pause_image": pause_image}
    return string.Template(source).substitute(values)


def resolvers() -> str:
    """The machine's own resolvers: a local forwarder's address (127.0.0.53) would mean the pod itself."""
    upstream = Path("/run/systemd/resolve/resolv.conf")
    return (upstream if upstream.exists() else Path("/etc/resolv.conf")).read_text()


def cni(directory: Path, node: NodeNetwork) -> Config:
    """Point-to-point links that the node routes: Service addresses work without the kernel's br_netfilter."""
    ipam = {
        "type": "host-local",
        "dataDir": str(directory / "addresses"),
        "ranges": [[{"subnet": node.pods, "gateway": node.gateway}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}]}


def proxy(name: str, node: NodeNetwork, kubeconfig: Path) -> Config:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": name,
        "mode": "nftables",
        # Who is not a pod of this node (the machine, for one) must get its answers back through this node.
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": node.pods,
        # Zero leaves the machine's connection tracking settings alone.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def kubelet(directory: Path, node: NodeNetwork, authority: Path, server: Pair) -> Config:
    """The kubelet's configuration; `authority` signs its clients, `server` is what it shows them."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "address": node.address,
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": str(directory / "resolv.conf"),
        "clusterDNS": [network.DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(directory / "logs"),
        "nodeStatusUpdateFrequency": "5s",  # devices count from the next update on
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": False,
        # A virtual machine's cgroups may be v1 without systemd, its root without CAP_SYS_RESOURCE.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        # The machine's disk is shared with everything else on it: keep images, and evict late.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi"},
    }
