"""The routed experts of a MoE block."""

from nemotron_kernels.moe.grouped import moe_grouped
from nemotron_kernels.moe.reference import moe

__all__ = ["moe", "moe_grouped"]
