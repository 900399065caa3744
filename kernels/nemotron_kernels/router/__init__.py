"""Which experts serve a token, and with what weights."""

from nemotron_kernels.router.op import router_fused
from nemotron_kernels.router.reference import router

__all__ = ["router", "router_fused"]
