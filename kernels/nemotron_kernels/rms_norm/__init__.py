"""The norm before every block and before the head."""

from nemotron_kernels.rms_norm.reference import rms_norm

__all__ = ["rms_norm"]
