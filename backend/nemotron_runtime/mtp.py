"""The multi-token-prediction module: from a token's hidden state and the next token, guess the token after that.

Semantics as vLLM's `nemotron_h_mtp.py` has them: x = eh_proj([enorm(embedding of the next token); hnorm(hidden state
after the model's final norm)]), the module's blocks, a final norm of its own, then the model's head. The output stands
in for the hidden state when the module is asked for one more token.

Its attention blocks keep keys and values in pages like the model's, as further layers after those. Position i of them
holds what the hidden state of token i and the token i+1 gave.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_api.hybrid_config import ATTENTION, MLP, MOE, HybridConfig
from nemotron_runtime import attention, experts
from nemotron_runtime.arithmetic import FAST, Arithmetic
from nemotron_runtime.attention import Attention
from nemotron_runtime.batch import Batch
from nemotron_runtime.memory import Memory
from nemotron_runtime.model import Block, Mixer
from nemotron_runtime.weights import Linear, Norm, Weights

Further = Callable[[Sequence[int], int], Batch]
"""Which sequences (r), and how far on → the batch of one row for each, so many positions after its last one."""

Choose = Callable[[Tensor, Sequence[int], Sequence[Sequence[int]]], Sequence[int]]
"""FP32 logits (r, vocabulary), which sequences (r), and what was drafted for each of them so far → r tokens."""


@dataclass(frozen=True, slots=True)
class Mtp:
    """The module; embeddings and head are the model's own."""

    embeddings: Tensor
    token_norm: Norm
    hidden_norm: Norm
    projection: Linear
    blocks: tuple[Block, ...]
    last_attention: int
    """Which of the blocks is the last to keep keys and values; -1 where none does."""
    final_norm: Norm
    head: Linear

    def __call__(self, hidden: Tensor, following: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """hidden (t, d) of the batch's rows, after the final norm, following (t), the token after each → (t, d).

        The batch says at which positions of which sequences the rows are, as for the model itself. Their keys and
        values are written; those of rows that turn out to be wrong drafts are overwritten by the right ones, as no
        row looks ahead of its position.
        """
        h = self._run(hidden, following, self.blocks, batch, memory)
        return self.final_norm(h)

    def remember(self, hidden: Tensor, following: Tensor, batch: Batch, memory: Memory) -> None:
        """Write keys and values alone, which is cheap, for rows after which nothing is to be drafted now."""
        if self.last_attention < 0:
            return
        h = self._run(hidden, following, self.blocks[: self.last_attention], batch, memory)
        last = self.blocks[self.last_attention]
        if isinstance(last.mixer, Attention):
            last.mixer.remember(last.norm(h), batch, memory)

    def logits(self, hidden: Tensor) -> Tensor:
        """(t, d) of what the module returned → FP32 (t, vocabulary)."""
        return self.head(hidden).float()

    def _run(self, hidden: Tensor, following: Tensor, blocks: Sequence[Block], batch: Batch, memory: Memory) -> Tensor:
        token = self.token_norm(F.embedding(following, self.embeddings))
        h = self.projection(torch.cat([token, self.hidden_norm(hidden)], dim=-1))
        for block in blocks:
            h = h + block.mixer(block.norm(h), batch, memory)
        return h


def draft(
    module: Mtp, hidden: Tensor, lengths: Sequence[int], memory: Memory, further: Further, choose: Choose
) -> list[tuple[int, ...]]:
    """Draft `lengths[i]` tokens for each of b sequences.

    hidden (b, d): what the module returned for the last row of each, which is where `further` counts from.
    """
    drafts: list[tuple[int, ...]] = [()] * len(lengths)
    rows = [row for row, length in enumerate(lengths) if length]
    hidden = hidden[rows]
    for depth in range(1, max(lengths, default=0) + 1):
        chosen = choose(module.logits(hidden), rows, [drafts[row] for row in rows])
        for row, token in zip(rows, chosen, strict=True):
            drafts[row] = (*drafts[row], token)
        going_on = [place for place, row in enumerate(rows) if lengths[row] > depth]
        if going_on:
            rows = [rows[place] for place in going_on]
            following = torch.tensor([drafts[row][-1] for row in rows], device=hidden.device)
            hidden = module(hidden[going_on], following, further(rows, depth), memory)
    return drafts


def with_room(config: HybridConfig) -> HybridConfig:
    """The shape whose memory holds the module's keys and values, too, after those of the model."""
    return replace(config, pattern=config.pattern + config.mtp_pattern)


def build(config: HybridConfig, tensors: Mapping[str, Tensor], arithmetic: Arithmetic = FAST) -> Mtp | None:
    """The module of a packed engine's tensors; None when they have none."""
    weights, pattern = Weights(tensors, arithmetic.linear), config.mtp_pattern
    if not pattern or weights.maybe("mtp.eh_proj.weight") is None:
        return None
    own = weights.under("mtp")

    def norm(name: str) -> Norm:
        return Norm(own.tensor(f"{name}.weight"), config.norm_eps, arithmetic.mean)

    return Mtp(
        embeddings=weights.tensor("embeddings.weight"),
        token_norm=norm("enorm"),
        hidden_norm=norm("hnorm"),
        projection=own.linear("eh_proj"),
        blocks=tuple(_block(config, arithmetic, index, own.under(str(index))) for index in range(len(pattern))),
        last_attention=pattern.rfind(ATTENTION),
        final_norm=norm("final_norm"),
        head=weights.linear("lm_head"),
    )


def _block(config: HybridConfig, arithmetic: Arithmetic, index: int, weights: Weights) -> Block:
    place = config.blocks(ATTENTION) + config.mtp_pattern[:index].count(ATTENTION)
    mixer = weights.under("mixer")
    builders: dict[str, Callable[[], Mixer]] = {
        ATTENTION: lambda: attention.build(config, arithmetic, place, mixer),
        MOE: lambda: experts.build_experts(config, arithmetic, mixer),
        MLP: lambda: experts.build_mlp(mixer),
    }
    norm = Norm(weights.tensor("norm.weight"), config.norm_eps, arithmetic.mean)
    return Block(norm, builders[config.mtp_pattern[index]]())
