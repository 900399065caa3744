"""Which experts serve a token, and with what weights."""

from nemotron_kernels.router.reference import router

__all__ = ["router"]
