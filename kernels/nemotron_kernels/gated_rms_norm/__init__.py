"""The gated norm at the end of a Mamba block."""

from nemotron_kernels.gated_rms_norm.reference import gated_rms_norm

__all__ = ["gated_rms_norm"]
