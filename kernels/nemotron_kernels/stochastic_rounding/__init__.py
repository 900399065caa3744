"""Round numbers up or down by chance, the nearer the likelier, so that many roundings cancel instead of adding up.

Letters of this folder: b sequences, u numbers in (0, 1), drawn for each element that is rounded.
"""

from nemotron_kernels.stochastic_rounding.philox import philox, uniform
from nemotron_kernels.stochastic_rounding.reference import SCALED_TOGETHER, from_bytes, to_bytes, to_half

__all__ = ["SCALED_TOGETHER", "from_bytes", "philox", "to_bytes", "to_half", "uniform"]
