"""Define the kubelet's device plugin protocol, v1beta1 (k8s.io/kubelet/pkg/apis/deviceplugin), without a compiler."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "v1beta1"
Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = MappingProxyType({"string": Field.TYPE_STRING, "bool": Field.TYPE_BOOL})

# Message -> fields as (name, number, type, repeated). The fields we neither send nor read are left out.
_MESSAGES: Mapping[str, tuple[tuple[str, int, str, bool], ...]] = MappingProxyType(
    {
        "Empty": (),
        "DevicePluginOptions": (("pre_start_required", 1, "bool", False),),
        "RegisterRequest": (
            ("version", 1, "string", False),
            ("endpoint", 2, "string", False),
            ("resource_name", 3, "string", False),
            ("options", 4, "DevicePluginOptions", False),
        ),
        "Device": (("ID", 1, "string", False), ("health", 2, "string", False)),
        "ListAndWatchResponse": (("devices", 1, "Device", True),),
        "ContainerAllocateRequest": (("devices_ids", 1, "string", True),),
        "AllocateRequest": (("container_requests", 1, "ContainerAllocateRequest", True),),
        "EnvsEntry": (("key", 1, "string", False), ("value", 2, "string", False)),
        "ContainerAllocateResponse": (("envs", 1, "EnvsEntry", True),),  # a map on the wire is its repeated entries
        "AllocateResponse": (("container_responses", 1, "ContainerAllocateResponse", True),),
    }
)


def messages() -> dict[str, Any]:
    """A class for every message, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="deviceplugin.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
    }
