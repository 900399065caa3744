"""Run a multi-token-prediction module by itself: hidden states from the oracle, keys and values in real pages."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_runtime import batch, mtp
from nemotron_runtime.batch import Batch
from nemotron_runtime.config import plan_config
from nemotron_runtime.layout import layout
from nemotron_runtime.memory import Memory
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.types import SamplingParams
from tests.builders.checkpoints import a_checkpoint

KINDS = {"*": "full_attention", "E": "moe", "-": "mlp", "M": "linear_attention"}


def a_drafting_checkpoint(directory: Path, pattern: str = "*E", **changes: Any) -> Path:
    """A random model of the TINY shape with a random module, whose blocks have the shapes of the model's."""
    names = [KINDS[letter] for letter in pattern]
    a_checkpoint(directory, num_nextn_predict_layers=1, mtp_layers_block_type=names, **changes)
    model, tensors = read_config(directory).pattern, load_file(directory / "model.safetensors")
    width, random = read_config(directory).hidden_size, torch.Generator().manual_seed(7)
    ends = {"0.enorm.weight": (width,), "0.hnorm.weight": (width,), "0.eh_proj.weight": (width, 2 * width)}
    shapes = {**ends, f"{len(pattern) - 1}.final_layernorm.weight": (width,)}
    for index, kind in enumerate(pattern):
        like = f"backbone.layers.{model.index(kind)}."
        own = {name.removeprefix(like): tuple(tensors[name].shape) for name in tensors if name.startswith(like)}
        shapes |= {f"{index}.{name}": shape for name, shape in own.items()}
    module = {f"mtp.layers.{name}": 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors | module, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"mtp_layers_block_type": names}))
    return directory


def engine_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """What the module's part of an engine is made of, and the two tensors it shares with the model, in FP32."""
    stored = load_file(checkpoint / "model.safetensors")
    config, tensors = read_config(checkpoint), {}
    for packed in layout(replace(config, pattern=config.mtp_pattern, mtp_pattern="")):
        if packed.name.startswith("layers."):
            parts = [stored[f"mtp.{source.name}"] for source in packed.sources]
            tensors[packed.name.replace("layers.", "mtp.", 1)] = torch.cat([*parts]).view(packed.shape).float()
    last = len(config.mtp_pattern) - 1
    renamed = {"embeddings": "backbone.embeddings", "lm_head": "lm_head", "mtp.enorm": "mtp.layers.0.enorm"}
    renamed |= {"mtp.hnorm": "mtp.layers.0.hnorm", "mtp.eh_proj": "mtp.layers.0.eh_proj"}
    renamed |= {"mtp.final_norm": f"mtp.layers.{last}.final_layernorm"}
    return tensors | {f"{name}.weight": stored[f"{source}.weight"].float() for name, source in renamed.items()}


class Drafter:
    """A module and the memory of `sequences` sequences of at most LIMIT tokens."""

    LIMIT = 80

    def __init__(self, checkpoint: Path, sequences: int = 1) -> None:
        self.config: HybridConfig = read_config(checkpoint)
        found = mtp.build(self.config, engine_tensors(checkpoint))
        assert found is not None
        self.module = found
        runtime = plan_config("FP32", sequences, self.LIMIT, ())
        self.memory = Memory(mtp.with_room(self.config), runtime)
        pages = runtime.pages_for(self.LIMIT)
        self.requests = [self._request(slot, pages) for slot in range(sequences)]

    def _request(self, slot: int, pages: int) -> Request:
        # Pages in an order of their own, so that reading one of the wrong number shows.
        lease = Lease(slot, tuple(1 + slot * pages + (page + 1) % pages for page in range(pages)))
        self.memory.clear(lease)
        return Request(slot, 0, [0] * self.LIMIT, SamplingParams(), frozenset(), print, lease=lease)

    def batch(self, *pieces: tuple[int, int, int]) -> Batch:
        """The batch of (sequence, start, tokens); single tokens come first."""
        slices = [Slice(self.requests[row], start, count, is_last=False) for row, start, count in pieces]
        return batch.build(slices, self.memory)

    @torch.inference_mode()
    def run(self, hidden: Tensor, following: Sequence[int], *pieces: tuple[int, int, int]) -> Tensor:
        """The module's output (t, d) for rows of these pieces, one after the other."""
        return self.module(hidden.float(), torch.tensor(following), self.batch(*pieces), self.memory)

    @torch.inference_mode()
    def draft(self, hidden: Tensor, lengths: Sequence[int], positions: Sequence[int]) -> list[tuple[int, ...]]:
        """Greedy drafts after the outputs (b, d) for the sequences' last rows, at `positions`."""

        def further(rows: Sequence[int], on: int) -> Batch:
            return self.batch(*[(row, positions[row] + on, 1) for row in rows])

        def choose(logits: Tensor, rows: Sequence[int], drafts: Sequence[Sequence[int]]) -> list[int]:
            assert len(logits) == len(rows) == len(drafts)
            chosen: list[int] = logits.argmax(-1).tolist()
            return chosen

        return mtp.draft(self.module, hidden, lengths, self.memory, further, choose)
