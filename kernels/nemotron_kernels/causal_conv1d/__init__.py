"""Depthwise causal convolution with SiLU over the last few tokens."""

from nemotron_kernels.causal_conv1d.reference import causal_conv1d

__all__ = ["causal_conv1d"]
