"""Offer a kubelet GPUs that do not exist, so that requests for them are scheduled as on a real node."""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from nemotron_devcluster.deviceplugin_api import PACKAGE, messages
from nemotron_devcluster.gpu import RESOURCE

SOCKET = "nemotron-gpu.sock"
KUBELET_SOCKET = "kubelet.sock"
Message = Any


@dataclass(frozen=True, slots=True)
class GpuPlugin:
    """The device plugin of one node: `count` healthy devices named GPU-<node>-<number>."""

    node: str
    count: int
    types: dict[str, Any]

    def list_and_watch(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        """The devices, once; then the stream stays open, as the kubelet takes its end for the plugin's."""
        names = [f"GPU-{self.node}-{number}" for number in range(self.count)]
        yield self.types["ListAndWatchResponse"](devices=[{"ID": name, "health": "Healthy"} for name in names])
        while context.is_active():
            time.sleep(1)

    def allocate(self, request: Message, context: grpc.ServicerContext) -> Message:
        """What NVIDIA's plugin sets: the container's devices, by name."""
        response = self.types["AllocateResponse"]()
        for container in request.container_requests:
            entry = {"key": "NVIDIA_VISIBLE_DEVICES", "value": ",".join(container.devices_ids)}
            response.container_responses.add(envs=[entry])
        return response

    def options(self, request: Message, context: grpc.ServicerContext) -> Message:
        return self.types["DevicePluginOptions"]()

    def handlers(self) -> "grpc.GenericRpcHandler[Any, Any]":
        methods = {
            "GetDevicePluginOptions": self._handler(grpc.unary_unary_rpc_method_handler, self.options, "Empty"),
            "ListAndWatch": self._handler(grpc.unary_stream_rpc_method_handler, self.list_and_watch, "Empty"),
            "Allocate": self._handler(grpc.unary_unary_rpc_method_handler, self.allocate, "AllocateRequest"),
        }
        return grpc.method_handlers_generic_handler(f"{PACKAGE}.DevicePlugin", methods)

    def _handler(self, kind: Any, method: Any, request: str) -> Any:
        return kind(method, self.types[request].FromString, lambda message: message.SerializeToString())


def register(directory: Path, types: dict[str, Any]) -> None:
    """Tell the kubelet where the plugin listens."""
    request = types["RegisterRequest"](version=PACKAGE, endpoint=SOCKET, resource_name=RESOURCE)
    with grpc.insecure_channel(f"unix://{directory / KUBELET_SOCKET}") as channel:
        method = f"/{PACKAGE}.Registration/Register"
        call = channel.unary_unary(method, lambda message: message.SerializeToString(), types["Empty"].FromString)
        call(request, timeout=5)


def serve(directory: Path, plugin: GpuPlugin) -> None:
    """Serve until the socket is removed: a kubelet that starts empties its plugin folder."""
    socket = directory / SOCKET
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((plugin.handlers(),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    try:
        register(directory, plugin.types)
        print(f"{plugin.node}: registered {plugin.count} × {RESOURCE}", flush=True)
        while socket.exists():
            time.sleep(0.5)
    finally:
        server.stop(grace=None).wait()


def main() -> None:
    """Run one node's plugin for as long as the node is there, with or without its kubelet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="the kubelet's device-plugins folder")
    parser.add_argument("node")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    plugin = GpuPlugin(arguments.node, arguments.count, messages())
    while True:
        try:
            serve(arguments.directory, plugin)
        except grpc.RpcError as error:
            print(f"{plugin.node}: the kubelet does not take the registration yet: {error}", flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
