"""The Mamba-2 recurrence over many tokens (state space duality).

Letters of this folder: q new tokens of a sequence, r places of its ring, L_t = Σ_(i≤t) dt_i·A the log decay since the
sequence began, K_j = L_j - ln dt_j. A token j adds exp(L_t - K_j)·x_j⊗B_j to the state after token t, so that one
number per head and token, kept beside x_j and B_j, says all about its weight at any later time.
"""

from nemotron_kernels.ssd.block import ssd_advance, ssd_block
from nemotron_kernels.ssd.decay import in_units, log_decays
from nemotron_kernels.ssd.reference import ssd_sequential
from nemotron_kernels.ssd.scan import Rounded, ssd_scan, unrounded
from nemotron_kernels.ssd.window import ssd_window

__all__ = [
    "Rounded",
    "in_units",
    "log_decays",
    "ssd_advance",
    "ssd_block",
    "ssd_scan",
    "ssd_sequential",
    "ssd_window",
    "unrounded",
]
