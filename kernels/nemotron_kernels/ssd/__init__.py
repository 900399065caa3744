"""The Mamba-2 recurrence over many tokens of one sequence (state space duality)."""

from nemotron_kernels.ssd.chunk import ssd_chunk
from nemotron_kernels.ssd.reference import ssd_sequential

__all__ = ["ssd_chunk", "ssd_sequential"]
