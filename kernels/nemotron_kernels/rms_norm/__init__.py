"""The norm before every block and before the head."""

from nemotron_kernels.rms_norm.op import add_rms_norm_fused
from nemotron_kernels.rms_norm.reference import rms_norm

__all__ = ["add_rms_norm_fused", "rms_norm"]
