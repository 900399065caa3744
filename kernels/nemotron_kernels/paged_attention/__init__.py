"""Grouped-query attention over keys and values that live in pages.

Letters of this folder: q query heads, k key/value heads, d head dim, s tokens of a page, m queries of a sequence.
"""

from nemotron_kernels.paged_attention.blocks import attend_in_blocks
from nemotron_kernels.paged_attention.gather import attend_span, attend_window
from nemotron_kernels.paged_attention.op import attend_window_in_parts
from nemotron_kernels.paged_attention.reference import paged_attention
from nemotron_kernels.paged_attention.splits import attend_in_splits
from nemotron_kernels.paged_attention.store import raw, store

__all__ = [
    "attend_in_blocks",
    "attend_in_splits",
    "attend_span",
    "attend_window",
    "attend_window_in_parts",
    "paged_attention",
    "raw",
    "store",
]
