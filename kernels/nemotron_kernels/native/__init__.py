"""A whole decode step on a CPU in one call, by the library that `kernels/csrc` is compiled to."""

from nemotron_kernels.native.library import NativeMissing, best_isa, why_missing
from nemotron_kernels.native.network import Attention, Experts, Linear, Mamba, Mlp, Network, Routing
from nemotron_kernels.native.plan import Piece, Plan

__all__ = [
    "Attention",
    "Experts",
    "Linear",
    "Mamba",
    "Mlp",
    "NativeMissing",
    "Network",
    "Piece",
    "Plan",
    "Routing",
    "best_isa",
    "why_missing",
]
