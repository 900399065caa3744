"""Start a real API server with its controllers on loopback: no node, no kubelet."""

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import yaml

from nemotron_devcluster.home import home
from nemotron_devcluster.pki import Authority, Pair, create_service_account_key, write_kubeconfig
from nemotron_devcluster.process import Processes, Service
from nemotron_devcluster.tools import Tools
from nemotron_operator.objects import KINDS, Kind, Manifest

PATIENCE_SECONDS = 120.0
SERVICE_NETWORK = "127.64.0.0/16"
"""Services get addresses of loopback, so that a test can answer on them without kube-proxy."""
CONTROLLERS = (
    "deployment-controller", "replicaset-controller", "job-controller", "garbage-collector-controller",
    "namespace-controller", "serviceaccount-controller", "disruption-controller",
)  # fmt: skip
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
CUSTOM = tuple(kind for kind in KINDS.values() if kind.api_version.startswith("serving."))


class Refusal(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """The API server as somebody with a client certificate sees it."""

    port: int
    authority: Authority
    client: Pair

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Manifest:
        """One request.

        Raises:
            Refusal: the answer is no success; its text is the server's.
        """
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.client.certificate, self.client.key)
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": content_type, "User-Agent": "a-user"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise Refusal(response.status, _message(answer))
        content: Manifest = json.loads(answer) if answer.startswith(b"{") else {}
        return content

    def list(self, kind: Kind, namespace: str) -> list[Manifest]:
        return list(self.call("GET", kind.path(namespace))["items"])

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self.call("GET", kind.path(namespace, name))

    def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        try:
            return self.get(kind, namespace, name)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def create(self, manifest: Manifest, *, strict: bool = False) -> Manifest:
        """Make the object; `strict` as kubectl is: unknown fields are refused."""
        kind = KINDS[manifest["kind"]]
        query = "?fieldValidation=Strict" if strict else ""
        return self.call("POST", kind.path(manifest["metadata"]["namespace"]) + query, manifest)

    def patch(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any], part: str = "") -> Manifest:
        """A JSON merge patch, of a subresource if `part` names one."""
        path = kind.path(namespace, name) + (f"/{part}" if part else "")
        return self.call("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.call("DELETE", kind.path(namespace, name), {"propagationPolicy": "Background"})


@dataclass(frozen=True)
class ControlPlane:
    """The running processes and the ways in."""

    directory: Path
    port: int
    admin: Api
    authority: Authority
    processes: Processes
    api_server: Service

    def restart_api_server(self) -> None:
        """End it and start it again; returns when it answers."""
        self.processes.stop(self.api_server.name)
        self.processes.start(self.api_server)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.processes.require(["etcd", self.api_server.name])
            try:
                self.admin.call("GET", "/readyz")
                return
            except (OSError, Refusal):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    def kubeconfig(self, name: str, *, user: str, group: str = "") -> Path:
        path = self.directory / f"{name}.conf"
        write_kubeconfig(path, self.url, self.authority, self.authority.issue(name, user, group))
        return path

    def token_kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig with a token of a ServiceAccount and nothing else."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        spec = {"expirationSeconds": 7200}
        request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
        token = self.admin.call("POST", path, request)["status"]["token"]
        target = self.kubeconfig(account, user="nobody")
        config = yaml.safe_load(target.read_text())
        config["users"][0]["user"] = {"token": token}
        target.write_text(yaml.safe_dump(config))
        return target

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def audit(self) -> Iterator[Mapping[str, Any]]:
        """Every request that was answered so far."""
        for line in self.audit_log.read_text().splitlines():
            if line.endswith("}"):
                yield json.loads(line)


def start(directory: Path, stack: ExitStack) -> ControlPlane:
    """Bring it up; the stack takes it down."""
    tools = Tools(home())
    tools.build()
    authority = Authority(directory / "pki", "nemotron-tests")
    authority.create()
    processes = Processes(directory / "run")
    (directory / "audit.json").write_text(json.dumps(AUDIT_POLICY))
    create_service_account_key(directory / "sa.key", directory / "sa.pub")
    etcd, peer, port = free_port(), free_port(), free_port()
    admin = Api(port, authority, authority.issue("admin", "admin", "system:masters"))
    server = _api_server(directory, tools, authority, etcd, port)
    plane = ControlPlane(directory, port, admin, authority, processes, server)
    manager = plane.kubeconfig("manager", user="system:kube-controller-manager", group="system:masters")
    for service in (_etcd(directory, tools, etcd, peer), server, _manager(directory, tools, manager)):
        stack.callback(processes.stop, service.name)
        processes.start(service)
        if service is server:
            plane.wait_until_ready()
    return plane


def _etcd(directory: Path, tools: Tools, port: int, peer: int) -> Service:
    client, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return _service(
        tools,
        "etcd",
        data_dir=directory / "etcd",
        listen_client_urls=client,
        advertise_client_urls=client,
        listen_peer_urls=peers,
        initial_advertise_peer_urls=peers,
        initial_cluster=f"default={peers}",
        unsafe_no_fsync="true",
        log_level="error",
    )


def _api_server(directory: Path, tools: Tools, authority: Authority, etcd: int, port: int) -> Service:
    serving = authority.issue("server", "kube-apiserver", hosts=("127.0.0.1", "localhost"))
    return _service(
        tools,
        "kube-apiserver",
        etcd_servers=f"http://127.0.0.1:{etcd}",
        bind_address="127.0.0.1",
        # Never bound: only told to pods, and there is no pod that could ask.
        advertise_address="192.0.2.1",
        endpoint_reconciler_type="none",
        secure_port=port,
        service_cluster_ip_range=SERVICE_NETWORK,
        tls_cert_file=serving.certificate,
        tls_private_key_file=serving.key,
        client_ca_file=authority.certificate,
        authorization_mode="RBAC",
        service_account_issuer="https://kubernetes.default.svc",
        service_account_key_file=directory / "sa.pub",
        service_account_signing_key_file=directory / "sa.key",
        audit_policy_file=directory / "audit.json",
        audit_log_path=directory / "audit.log",
        audit_log_maxsize=4096,
    )


def _manager(directory: Path, tools: Tools, kubeconfig: Path) -> Service:
    return _service(
        tools,
        "kube-controller-manager",
        kubeconfig=kubeconfig,
        bind_address="127.0.0.1",
        secure_port=free_port(),
        cert_dir=directory / "manager",
        leader_elect="false",
        controllers=",".join(CONTROLLERS),
        concurrent_namespace_syncs=4,
    )


def _service(tools: Tools, command: str, **flags: object) -> Service:
    rendered = (f"--{name.replace('_', '-')}={value}" for name, value in flags.items())
    return Service(command, (str(tools.path(command)), *rendered))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")
