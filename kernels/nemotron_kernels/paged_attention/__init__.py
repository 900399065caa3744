"""Grouped-query attention over keys and values that live in pages."""

from nemotron_kernels.paged_attention.gather import attend_one_each, attend_span
from nemotron_kernels.paged_attention.reference import paged_attention

__all__ = ["attend_one_each", "attend_span", "paged_attention"]
