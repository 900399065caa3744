"""Pack a checkpoint, and look at the file of weights that comes of it."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import layout
from nemotron_runtime import pack
from nemotron_runtime.config import DTYPES, WEIGHTS, load_config
from nemotron_runtime.tensorfile import read_tensors


def packed(checkpoint: Path, out: Path, dtype: Any = "FP32") -> bytes:
    """The weights file of an engine of two short sequences."""
    pack(checkpoint, out, dtype=dtype, max_batch=2, max_sequence_tokens=32)
    return (out / WEIGHTS).read_bytes()


def mapped(engine: Path) -> dict[str, Tensor]:
    """The weights as the engine opens them."""
    return read_tensors(engine / WEIGHTS, layout(read_config(engine)), DTYPES[load_config(engine).dtype])


def held(engine: Path) -> dict[str, Tensor]:
    """Copies of the weights, without what fills the file up between them."""
    return {name: tensor for name, tensor in load_file(engine / WEIGHTS).items() if not name.startswith("padding.")}
