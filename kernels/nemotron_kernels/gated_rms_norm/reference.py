"""Gate with SiLU first, then scale each group of channels to root mean square 1.

Source: `RMSNormGated` of state-spaces/mamba with norm_before_gate=False. The weight is multiplied after the cast,
unlike the block norm.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from nemotron_kernels import reduction


def gated_rms_norm(
    y: Tensor,
    z: Tensor,
    weight: Tensor,
    *,
    groups: int,
    eps: float,
    silu: Callable[[Tensor], Tensor] = F.silu,
    mean: Callable[[Tensor], Tensor] = reduction.mean,
) -> Tensor:
    """y: (…, c) in any dtype, z: (…, c) the gate, weight: (c) → (…, c) in the gate's dtype."""
    gated = (y.float() * silu(z.float())).view(*y.shape[:-1], groups, -1)
    scaled = gated * (mean(gated.square()) + eps).rsqrt()
    return weight.to(z.dtype) * scaled.view(y.shape).to(z.dtype)
