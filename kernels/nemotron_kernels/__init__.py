"""The arithmetic of a hybrid model, one folder per operation: an obvious reference, with faster forms beside it.

Letters, as in the Mamba-2 paper (arXiv 2405.21060): b sequences, t tokens, l positions of one sequence, c channels,
h heads, p head dim, g groups of heads that share B and C, n state size, d model width.
"""
