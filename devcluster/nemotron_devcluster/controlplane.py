"""Describe the control plane: its certificates, its kubeconfigs and the processes it runs."""

import json
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster import network
from nemotron_devcluster.home import Home
from nemotron_devcluster.pki import Authority, Pair, create_service_account_key, write_kubeconfig
from nemotron_devcluster.process import Service
from nemotron_devcluster.tools import Tools

ETCD_URL = "https://127.0.0.1:23790"
ETCD_PEER_URL = "https://127.0.0.1:23800"

API_HOSTS = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    network.SERVICE_API_ADDRESS,
    network.API_ADDRESS,
    "127.0.0.1",
)

# Who wrote what. Reads are left out: they are most of the traffic, and cost nobody anything.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """One etcd, API server, controller manager and scheduler."""

    home: Home
    tools: Tools

    @property
    def authority(self) -> Authority:
        """Signs every identity in the cluster."""
        return Authority(self._pki / "cluster", "nemotron-cluster")

    @property
    def _pki(self) -> Path:
        return self.home.cluster / "pki"

    @property
    def _front_proxy(self) -> Authority:
        # Its own authority: whoever it signs may act as any user towards aggregated API servers.
        return Authority(self._pki / "front-proxy", "nemotron-front-proxy")

    @property
    def _etcd(self) -> Authority:
        # Its own authority: a node's certificate must not open the database.
        return Authority(self._pki / "etcd", "nemotron-etcd")

    @property
    def _service_account_key(self) -> Path:
        return self._pki / "service-account.key"

    def prepare(self) -> None:
        """Write every certificate, kubeconfig and configuration file the processes read."""
        for authority in (self.authority, self._front_proxy, self._etcd):
            authority.create()
        create_service_account_key(self._service_account_key, self._service_account_key.with_suffix(".pub"))
        self.write_identity("admin", "admin", "system:masters")
        for component in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            self.write_identity(component, f"system:{component}")
        self._file("audit-policy").write_text(json.dumps(AUDIT_POLICY))

    def write_identity(self, name: str, user: str, group: str = "") -> Path:
        """A kubeconfig for this user."""
        path = self.kubeconfig(name)
        if not path.exists():
            write_kubeconfig(path, network.API_URL, self.authority, self.authority.issue(name, user, group))
        return path

    def services(self) -> list[Service]:
        """In the order they start."""
        return [self._etcd_service(), self._api_server(), self._controller_manager(), self._scheduler()]

    def _etcd_service(self) -> Service:
        pair = self._etcd.issue("server", "etcd", hosts=("127.0.0.1",))
        return self._service(
            "etcd",
            data_dir=self.home.cluster / "etcd",
            listen_client_urls=ETCD_URL,
            advertise_client_urls=ETCD_URL,
            listen_peer_urls=ETCD_PEER_URL,
            initial_advertise_peer_urls=ETCD_PEER_URL,
            initial_cluster=f"default={ETCD_PEER_URL}",
            client_cert_auth=True,
            peer_client_cert_auth=True,
            trusted_ca_file=self._etcd.certificate,
            peer_trusted_ca_file=self._etcd.certificate,
            **_pair("cert_file", "key_file", pair),
            **_pair("peer_cert_file", "peer_key_file", pair),
            unsafe_no_fsync=True,  # the database lives as long as the cluster; nothing in it outlasts a power cut
        )

    def _api_server(self) -> Service:
        authority, front_proxy, etcd = self.authority, self._front_proxy, self._etcd
        server = authority.issue("server", "kube-apiserver", hosts=API_HOSTS)
        kubelet_client = authority.issue("kubelet-client", "kube-apiserver-kubelet-client", "nemotron:kubelet-clients")
        return self._service(
            "kube-apiserver",
            etcd_servers=ETCD_URL,
            etcd_cafile=etcd.certificate,
            **_pair("etcd_certfile", "etcd_keyfile", etcd.issue("client", "kube-apiserver")),
            bind_address=network.API_ADDRESS,
            advertise_address=network.API_ADDRESS,
            secure_port=6443,
            service_cluster_ip_range=network.SERVICE_NETWORK,
            endpoint_reconciler_type="lease",
            allow_privileged=True,
            **_pair("tls_cert_file", "tls_private_key_file", server),
            client_ca_file=authority.certificate,
            authorization_mode="Node,RBAC",
            enable_admission_plugins="NodeRestriction",
            kubelet_certificate_authority=authority.certificate,
            **_pair("kubelet_client_certificate", "kubelet_client_key", kubelet_client),
            kubelet_preferred_address_types="InternalIP",
            service_account_issuer="https://kubernetes.default.svc.cluster.local",
            service_account_key_file=self._service_account_key.with_suffix(".pub"),
            service_account_signing_key_file=self._service_account_key,
            requestheader_client_ca_file=front_proxy.certificate,
            requestheader_allowed_names="front-proxy",
            requestheader_username_headers="X-Remote-User",
            requestheader_group_headers="X-Remote-Group",
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            **_pair("proxy_client_cert_file", "proxy_client_key_file", front_proxy.issue("client", "front-proxy")),
            audit_policy_file=self._file("audit-policy"),
            audit_log_path=self.home.audit_log,
            audit_log_maxsize=4096,  # MiB: one file for the cluster's whole life, so that counting needs no rotation
        )

    def _controller_manager(self) -> Service:
        return self._service(
            "kube-controller-manager",
            kubeconfig=self.kubeconfig("kube-controller-manager"),
            bind_address="127.0.0.1",
            leader_elect=False,
            use_service_account_credentials=True,
            root_ca_file=self.authority.certificate,
            service_account_private_key_file=self._service_account_key,
            **_pair("cluster_signing_cert_file", "cluster_signing_key_file", self.authority.pair),
        )

    def _scheduler(self) -> Service:
        kubeconfig = self.kubeconfig("kube-scheduler")
        return self._service("kube-scheduler", kubeconfig=kubeconfig, bind_address="127.0.0.1", leader_elect=False)

    def _service(self, command: str, **flags: object) -> Service:
        """A command of ours with `--like-this=value` for every `like_this=value`."""
        rendered = (f"--{name.replace('_', '-')}={_flag_value(value)}" for name, value in flags.items())
        return Service(command, (str(self.tools.path(command)), *rendered))

    def kubeconfig(self, name: str) -> Path:
        """Where an identity's kubeconfig is."""
        return self.home.cluster / f"{name}.conf"

    def _file(self, name: str) -> Path:
        return self.home.cluster / f"{name}.json"


def _pair(certificate_flag: str, key_flag: str, pair: Pair) -> dict[str, Path]:
    return {certificate_flag: pair.certificate, key_flag: pair.key}


def _flag_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
