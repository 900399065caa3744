"""Say which tokens of a sequence its stored state holds, and which its ring keeps beside it.

A state is an anchor plus a tail: the state after `anchor` tokens, and a ring with the inputs of those since. Anchors
lie at multiples of BLOCK, at least BLOCK tokens behind the end where the sequence is that long, so that every cut
between the anchor and the end is a valid sequence: the tokens after the cut are simply no longer looked at.
"""

from nemotron_api.errors import InvalidModel
from nemotron_api.hybrid_config import MAMBA, HybridConfig

BLOCK = 16

WINDOW = 13
"""Tokens of one sequence, drafts among them, that are computed from its ring at most; more go through a scan."""

MOST_OLD = 2 * BLOCK - 1
"""Tokens between an anchor and the first one of a window, at most."""

RING = 48
"""Places of a ring: MOST_OLD confirmed tokens, a window, and the taps of the convolution before the anchor."""

MOST_TAPS = RING - MOST_OLD - WINDOW
"""Inputs of the convolution before the anchor that a ring has room for."""


def check_taps(model: HybridConfig) -> None:
    """Raise InvalidModel for a convolution that looks further back than a ring does: it would read newer tokens."""
    taps = model.conv_kernel - 1
    if model.blocks(MAMBA) and taps > MOST_TAPS:
        raise InvalidModel(
            f"conv_kernel is {model.conv_kernel}, so a token is computed from {taps} before it; this runtime keeps "
            f"{MOST_TAPS} for that: it serves models with conv_kernel up to {MOST_TAPS + 1}"
        )


def anchor_behind(tokens: int) -> int:
    """Where the state of a sequence of this many tokens should be."""
    return max(0, tokens // BLOCK - 1) * BLOCK


def next_anchor(anchor: int, start: int, tokens: int) -> int:
    """Where the anchor is once `tokens` more are computed after the first `start`.

    A window may hold drafts, which can turn out wrong: it moves the anchor only over tokens that were there before.
    """
    return max(anchor, anchor_behind(start if tokens <= WINDOW else start + tokens))
