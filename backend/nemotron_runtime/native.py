"""Hand a model's tensors to the library of CPU kernels, and steps of a few tokens per sequence with them."""

from collections.abc import Sequence
from itertools import compress

import torch
from torch import Tensor

from nemotron_api.errors import KernelUnavailable
from nemotron_api.hybrid_config import HybridConfig
from nemotron_kernels import native
from nemotron_kernels.choose import Choice, Implementation, Kernels, NoKernels, Situation, choose
from nemotron_kernels.launch import why_missing
from nemotron_kernels.native import Piece, Plan
from nemotron_runtime import batch, mamba, model, places
from nemotron_runtime.attention import Attention
from nemotron_runtime.experts import Experts, Mlp
from nemotron_runtime.memory import Memory
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tails import BLOCK
from nemotron_runtime.weights import Linear


def choose_kernels(wanted: Kernels, device: torch.device, *, exact: bool) -> Choice:
    """Who computes steps of a few tokens. Raises KernelUnavailable, which says what to ask for instead."""
    found = {
        "native": native.why_missing() if device.type == "cpu" else None,
        "triton": why_missing(is_cuda=device.type == "cuda"),
    }
    missing: dict[Implementation, str] = {who: why for who, why in found.items() if why}  # type: ignore[misc]
    try:
        return choose(wanted, Situation(device.type, exact, missing))
    except NoKernels as error:
        raise KernelUnavailable(str(error)) from error


class NativeSteps:
    """The network as the library runs it; it shares weights and memory with torch, so that either goes on from both."""

    def __init__(
        self, config: HybridConfig, network: model.Model, memory: Memory, *, threads: int, isa: int | None = None
    ) -> None:
        """`isa` forces a set of instructions, for tests. Raises NativeMissing, or ValueError for what cannot be run."""
        self._config = config
        self._memory = memory
        self._network = network
        self._rounds_states = bool(memory.rings) and memory.rings[0].states.format.stored is not None
        self._plan = Plan(describe(config, network, memory), threads=threads, isa=isa)

    def close(self) -> None:
        """End the library's threads."""
        self._plan.close()

    def run(self, slices: Sequence[Slice], *, wants_normed: bool) -> tuple[Tensor, Tensor | None]:
        """Compute slices of at most WINDOW tokens.

        Returns FP32 logits as `Executor.run` has them, and, if wanted, all rows (t, d) after the final norm.
        """
        anchors = [piece.next_anchor for piece in slices]
        due = [anchor > piece.lease.anchor for piece, anchor in zip(slices, anchors, strict=True)]
        if self._rounds_states and any(due):
            self._commit(list(compress(slices, due)))
            due = [False] * len(slices)
        tables = batch.tables(
            [piece.lease.pages for piece in slices], max(piece.stop for piece in slices), self._memory.page_tokens
        )
        pieces = [
            Piece(piece.ids, piece.lease.slot, piece.start, anchor, is_due)
            for piece, anchor, is_due in zip(slices, anchors, due, strict=True)
        ]
        logits, normed = self._plan.run(pieces, tables, _yields(slices), wants_normed=wants_normed)
        return logits, None if normed is None else normed.to(self._network.embeddings.dtype)

    def _commit(self, due: Sequence[Slice]) -> None:
        """Move anchors on where states are rounded by chance, which torch draws."""
        slots, anchors = [piece.lease.slot for piece in due], [piece.lease.anchor for piece in due]
        commit = places.commit(self._config, slots, anchors, batch.seeds(due))
        mixers = (block.mixer for block in self._network.blocks if isinstance(block.mixer, mamba.Mamba))
        for ring, mixer in zip(self._memory.rings, mixers, strict=True):
            if commit:
                ring.commit(commit, mixer.arithmetic.advance)


def _yields(slices: Sequence[Slice]) -> list[int]:
    """Rows whose logits are wanted."""
    yields: list[int] = []
    row = 0
    for piece in slices:
        if piece.is_last:
            yields += range(row + piece.confirmed - 1, row + piece.tokens)
        row += piece.tokens
    return yields


def describe(config: HybridConfig, network: model.Model, memory: Memory) -> native.Network:
    """The tensors of a network and of its memory, as the library takes them; none is copied."""
    return native.Network(
        embeddings=network.embeddings,
        blocks=tuple(_block(block, memory) for block in network.blocks),
        norm=network.norm.weight,
        head=_linear(network.head),
        eps=config.norm_eps,
        routing=native.Routing(
            config.experts_per_token,
            config.router_groups,
            config.router_top_groups,
            config.router_scale,
            config.normalize_weights,
        ),
        query_heads=config.attention_heads,
        block_tokens=BLOCK,
    )


def _block(block: model.Block, memory: Memory) -> native.network.Block:
    norm = block.norm.weight
    match block.mixer:
        case mamba.Mamba() as mixer:
            return _mamba(norm, mixer, memory)
        case Attention() as mixer:
            pages = memory.keys[mixer.layer], memory.values[mixer.layer]
            return native.Attention(norm, _linear(mixer.qkv_proj), _linear(mixer.o_proj), *pages)
        case Experts() as mixer:
            return _experts(norm, mixer)
        case Mlp(up, down):
            return native.Mlp(norm, _linear(up), _linear(down))
        case other:
            raise ValueError(f"the library knows no block like {type(other).__name__}")


def _mamba(norm: Tensor, mixer: mamba.Mamba, memory: Memory) -> native.Mamba:
    ring = memory.rings[mixer.layer]
    return native.Mamba(
        norm=norm,
        in_proj=_linear(mixer.in_proj),
        conv_weight=mixer.conv_weight,
        conv_bias=mixer.conv_bias,
        A=mixer.A,
        D=mixer.D,
        dt_bias=mixer.dt_bias,
        gate_norm=mixer.norm,
        out_proj=_linear(mixer.out_proj),
        states=ring.states.parts,
        before=ring.before,
        taps=ring.taps,
        xs=ring.xs,
        Bs=ring.Bs,
        sums=ring.sums,
        keys=ring.keys,
    )


def _experts(norm: Tensor, mixer: Experts) -> native.Experts:
    shared = mixer.shared
    return native.Experts(
        norm=norm,
        gate=mixer.gate,
        correction=mixer.correction_bias,
        up=mixer.up,
        down=mixer.down,
        to_latent=_linear(mixer.to_latent) if mixer.to_latent else None,
        from_latent=_linear(mixer.from_latent) if mixer.from_latent else None,
        shared_up=_linear(shared.up) if shared else None,
        shared_down=_linear(shared.down) if shared else None,
    )


def _linear(linear: Linear) -> native.Linear:
    return native.Linear(linear.weight, linear.bias)
