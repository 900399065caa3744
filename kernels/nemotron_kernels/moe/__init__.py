"""The routed experts of a MoE block."""

from nemotron_kernels.moe.grouped import moe_grouped
from nemotron_kernels.moe.op import MOST_TOKENS, Shared, moe_few_tokens
from nemotron_kernels.moe.reference import moe

__all__ = ["MOST_TOKENS", "Shared", "moe", "moe_few_tokens", "moe_grouped"]
