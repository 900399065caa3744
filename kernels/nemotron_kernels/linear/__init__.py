"""The product of rows with a weight matrix."""

from nemotron_kernels.linear.tiles import TILE_ROWS, linear_in_tiles

__all__ = ["TILE_ROWS", "linear_in_tiles"]
