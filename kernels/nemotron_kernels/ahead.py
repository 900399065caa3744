"""Compile a launch for a GPU that need not be here, and read what its program takes of one."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch

ALIGNED = 16
"""Bytes, and numbers: what Triton looks for in a real launch's arguments."""

POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one program of a kernel takes."""

    registers: int
    """Of a thread."""
    spilled: int
    """Bytes of a thread's memory that stand in for registers, its stack among them."""
    shared: int
    """Bytes of a multiprocessor's shared memory."""


def compile_ahead(launch: Launch, capability: int) -> Resources:
    """Compile for a compute capability, 90 for 9.0; its tensors may be on the device "meta".

    Raises what Triton raises for a kernel that this GPU cannot run.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _described(launch)
    source = ASTSource(launch.kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options=dict(launch.options))
    registers, spilled = _used(compiled.asm["cubin"])
    return Resources(registers, spilled, compiled.metadata.shared)


def _described(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Types, constants and alignments of the arguments, as Triton finds them when it starts a kernel."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for place, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None or _is_one(value):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = _type(value)
        if isinstance(value, Tensor) or (isinstance(value, int) and value % ALIGNED == 0):
            attributes[(place,)] = [["tt.divisibility", ALIGNED]]
    return signature, constants, attributes


def _is_one(value: object) -> bool:
    """Triton compiles a kernel anew for numbers that are 1."""
    return isinstance(value, int) and value == 1


def _type(value: object) -> str:
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def _used(binary: bytes) -> tuple[int, int]:
    """Registers, and bytes that are spilled."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        told = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", path], capture_output=True, text=True, check=True
        )
    used = {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", told.stdout)}
    return used["REG"], used["STACK"] + used["LOCAL"]
