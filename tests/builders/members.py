"""Rewrite a tiny checkpoint the way other members of the family publish theirs: drafts, prefixes, quantised weights.

Codes and scales are chosen at random and decoded here by the formats' own formulas, number by number.
"""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import MTP, layout, sources
from tests.builders.checkpoints import TINY

WEIGHTS = "model.safetensors"
EXPERTS = TINY["n_routed_experts"]

Tensors = dict[str, Tensor]


def rewrite(checkpoint: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """The same folder with other tensors."""
    save_file(change(load_file(checkpoint / WEIGHTS)), checkpoint / WEIGHTS, metadata={"format": "pt"})
    return checkpoint


def edit(checkpoint: Path, file: str = "config.json", **changes: Any) -> Path:
    """The same folder, keys of one of its JSON files changed; None removes a key."""
    raw = json.loads((checkpoint / file).read_text()) | changes
    (checkpoint / file).write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    return checkpoint


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def with_stacked_experts(tensors: Tensors) -> Tensors:
    """Experts as one tensor per projection, the way models hold them in memory."""
    stacked = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for first in [name for name in tensors if ".experts.0." in name]:
        rows = [tensors[first.replace(".experts.0.", f".experts.{row}.")] for row in range(EXPERTS)]
        stacked[first.replace(".experts.0.", ".experts.").removesuffix(".weight")] = torch.stack(rows)
    return stacked


def with_mtp(checkpoint: Path, pattern: str = "*E", seed: int = 0) -> Path:
    """The same folder with a random multi-token-prediction module."""
    edit(checkpoint, num_nextn_predict_layers=1, mtp_hybrid_override_pattern=pattern, mtp_layers_block_type=None)
    wanted = sources(layout(read_config(checkpoint)))
    random = torch.Generator().manual_seed(seed)
    extra = {
        name: torch.randn(source.shape, generator=random) * 0.2
        for name, source in wanted.items()
        if name.startswith(MTP)
    }
    return rewrite(checkpoint, lambda tensors: tensors | extra)


def in_shards(checkpoint: Path, count: int = 3) -> Path:
    """The same folder, its tensors dealt out to files that an index names."""
    tensors = list(load_file(checkpoint / WEIGHTS).items())
    (checkpoint / WEIGHTS).unlink()
    weight_map: dict[str, str] = {}
    for shard in range(count):
        part, file = dict(tensors[shard::count]), f"model-{shard + 1:05}-of-{count:05}.safetensors"
        save_file(part, checkpoint / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (checkpoint / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return checkpoint


def quantised(checkpoint: Path, formats: Mapping[str, str], seed: int = 0) -> tuple[Path, Path]:
    """Two folders beside the checkpoint that mean the same numbers: quantised by pattern → format, and in FP32."""
    plain, stored, layers = load_file(checkpoint / WEIGHTS), Tensors(), {}
    random = np.random.default_rng(seed)
    for name, tensor in list(plain.items()):
        module = name.removesuffix(".weight")
        stored_as = next((value for pattern, value in formats.items() if fnmatchcase(module, pattern)), None)
        if stored_as is None:
            stored[name] = tensor
            continue
        layers[module] = {"quant_algo": stored_as}
        pieces, plain[name] = WRITERS[stored_as](tuple(tensor.shape), random)
        stored |= {f"{module}.{piece}": content for piece, content in pieces.items()}
    folders = checkpoint.with_name("quantised"), checkpoint.with_name("decoded")
    for folder, tensors in zip(folders, (stored, plain), strict=True):
        folder.mkdir()
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / "config.json").write_text((checkpoint / "config.json").read_text())
    edit(
        folders[0],
        quantization_config={
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": layers,
            "ignore": [],
        },
    )
    return folders


def a_scale(random: np.random.Generator) -> float:
    """Few enough bits that products of codes and scales are exact in FP32."""
    return float(random.integers(129, 255)) * 2.0**-12


def e4m3(code: int) -> float:
    """One sign, four bits of exponent, three of mantissa; https://arxiv.org/abs/2209.05433, table 1."""
    code = int(code)  # a byte of numpy's stays a byte in what is computed from it
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, code >> 3 & 0xF, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


def e2m1(code: int) -> float:
    """One sign, two bits of exponent, one of mantissa; OCP Microscaling Formats 1.0, section 5.3.3."""
    sign, exponent, mantissa = -1.0 if code & 8 else 1.0, code >> 1 & 3, code & 1
    return sign * (mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1))


def _fp8(shape: tuple[int, ...], random: np.random.Generator) -> tuple[Tensors, Tensor]:
    # Codes up to 0x3F stand for numbers below 2.
    codes = (random.integers(0, 0x40, shape) | random.integers(0, 2, shape) << 7).astype(np.uint8)
    scale = a_scale(random)
    numbers = np.vectorize(e4m3)(codes) * scale
    pieces = {
        "weight": torch.from_numpy(codes).view(torch.float8_e4m3fn),
        "weight_scale": torch.tensor(scale),
        "input_scale": torch.tensor(0.5),
    }
    return pieces, torch.from_numpy(numbers).float()


def _nvfp4(shape: tuple[int, ...], random: np.random.Generator) -> tuple[Tensors, Tensor]:
    codes = random.integers(0, 16, shape).astype(np.uint8)
    blocks = random.integers(0x28, 0x3C, (shape[0], shape[1] // 16)).astype(np.uint8)
    scale = a_scale(random)
    numbers = np.vectorize(e2m1)(codes) * np.repeat(np.vectorize(e4m3)(blocks), 16, axis=1) * scale
    pieces = {
        "weight": torch.from_numpy(codes[:, 0::2] + 16 * codes[:, 1::2]),
        "weight_scale": torch.from_numpy(blocks).view(torch.float8_e4m3fn),
        "weight_scale_2": torch.tensor([scale]),
    }
    return pieces, torch.from_numpy(numbers).float()


WRITERS = {"FP8": _fp8, "NVFP4": _nvfp4}
