"""Sums and means of rows: as is fastest, or in an order that a row's length alone decides."""

from nemotron_kernels.reduction.halves import mean_by_halves, sum_by_halves
from nemotron_kernels.reduction.plain import mean

__all__ = ["mean", "mean_by_halves", "sum_by_halves"]
