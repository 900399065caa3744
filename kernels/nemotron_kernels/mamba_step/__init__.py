"""A Mamba-2 block between its two projections, for a few new tokens of many sequences: one launch instead of a dozen.

Letters as in nemotron_kernels.ssd: b sequences, q new tokens of each, h heads, p head dim, g groups, n state size,
r places of a ring, c = h·p + 2·g·n channels of the convolution, k taps. The place of a token is its position modulo r.
"""

from nemotron_kernels.mamba_step.arguments import Block, RingParts, Rows
from nemotron_kernels.mamba_step.commit_op import can_commit, commit_fused
from nemotron_kernels.mamba_step.op import mamba_step_fused
from nemotron_kernels.mamba_step.reference import mamba_step

__all__ = ["Block", "RingParts", "Rows", "can_commit", "commit_fused", "mamba_step", "mamba_step_fused"]
