"""Activations whose bits do not depend on where in a tensor an element lies."""

from nemotron_kernels.activation.exact import sigmoid, silu, softplus

__all__ = ["sigmoid", "silu", "softplus"]
