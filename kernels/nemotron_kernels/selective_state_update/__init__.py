"""One token's step of the Mamba-2 recurrence for many sequences at once."""

from nemotron_kernels.selective_state_update.reference import selective_state_update

__all__ = ["selective_state_update"]
