"""Offer the experts of a few tokens to torch as an operation, which graphs and compilers take as one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch, options, power_of_two

MOST_TOKENS = 8
"""From more on, sorting tokens by expert pays: each expert's weights are then read for several of them."""
UP, DOWN = (8, 512), (4, 1024)
"""Rows and columns of a program's tile. Not tuned: no GPU was measured yet; of narrower tiles down, registers spill."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The expert that every token has; its input may be wider than the others'."""

    x: Tensor
    """(t, d')."""
    up: Tensor
    """(inner', d')."""
    down: Tensor
    """(d', inner')."""


def moe_few_tokens(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    up: Tensor,
    down: Tensor,
    shared: Shared | None = None,
    *,
    together: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """As `moe`, on a CUDA device: (t, d), and the shared expert's (t, d'), which is None where it is added already.

    `together` adds it, in FP32; it then has to be as wide as the others. A token's bits depend on the token alone.
    """
    of_shared = (shared.x, shared.up, shared.down) if shared else (None, None, None)
    routed, beside = _op(x, ids, weights, up, down, *of_shared, together and shared is not None)
    return routed, beside if shared and not together else None


def plans(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    up: Tensor,
    down: Tensor,
    shared: Shared | None,
    outs: tuple[Tensor, Tensor],
    *,
    together: bool,
) -> tuple[Launch, Launch]:
    """The two launches: up, then down."""
    from nemotron_kernels.moe import few_tokens

    (t, k), (_, inner, d) = ids.shape, up.shape
    shared_inner, shared_d = shared.up.shape if shared else (0, 0)
    hidden = torch.empty(t, k * inner + shared_inner, dtype=torch.float32, device=x.device)
    both: dict[str, Any] = {"hidden": hidden, "ids": ids, "tokens": t, "K": k, "D": d, "INNER": inner}
    both |= {"SHARED_D": shared_d, "SHARED_INNER": shared_inner}
    # Where there is no shared expert, its tensors are named but not read.
    rise: dict[str, Any] = {
        "x": x,
        "shared_x": shared.x if shared else x,
        "up": up,
        "shared_up": shared.up if shared else up,
    }
    rise |= {"x_row": x.stride(0), "shared_x_row": (shared.x if shared else x).stride(0)}
    fall: dict[str, Any] = {"weights": weights, "down": down, "shared_down": shared.down if shared else down}
    fall |= {"out": outs[0], "shared_out": outs[1], "TOGETHER": together}
    up_blocks = k * -(-inner // UP[0]) + -(-shared_inner // UP[0])
    down_blocks = -(-d // DOWN[0]) + (0 if together else -(-shared_d // DOWN[0]))
    return (
        Launch(few_tokens.raise_up, (up_blocks * t,), both | rise | _tile(UP, max(d, shared_d)), options(warps=4)),
        Launch(
            few_tokens.bring_down,
            (down_blocks * t,),
            both | fall | _tile(DOWN, max(inner, shared_inner)),
            options(warps=4),
        ),
    )


def _tile(most: tuple[int, int], width: int) -> dict[str, int]:
    return {"BLOCK_N": most[0], "BLOCK_K": min(most[1], power_of_two(width))}


@torch.library.custom_op("nemotron::moe_few_tokens", mutates_args=())
def _op(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    up: Tensor,
    down: Tensor,
    shared_x: Tensor | None,
    shared_up: Tensor | None,
    shared_down: Tensor | None,
    together: bool,
) -> tuple[Tensor, Tensor]:
    has_shared = shared_x is not None and shared_up is not None and shared_down is not None
    shared = Shared(shared_x, shared_up, shared_down) if has_shared else None  # type: ignore[arg-type]
    outs: tuple[Tensor, Tensor] = _shape(x, ids, weights, up, down, shared_x, shared_up, shared_down, together)
    for launch in plans(x, ids, weights, up, down, shared, outs, together=together):
        launch.run()
    return outs


@_op.register_fake
def _shape(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    up: Tensor,
    down: Tensor,
    shared_x: Tensor | None,
    shared_up: Tensor | None,
    shared_down: Tensor | None,
    together: bool,
) -> tuple[Tensor, Tensor]:
    beside = x.new_empty(0) if shared_x is None or together else x.new_empty(shared_x.shape)
    return x.new_empty(x.shape), beside
