"""Hold what running sequences remember: Mamba states in slots, keys and values in pages."""

import torch
from torch import Tensor

from nemotron_api.hybrid_config import ATTENTION, MAMBA, HybridConfig
from nemotron_runtime.config import DTYPES, RuntimeConfig
from nemotron_runtime.request import Lease

NOBODYS_PAGE = 0
"""The page that fills the unused end of every table; it is never written, so it stays zero."""


class Memory:
    """The tensors behind both pools.

    taps: (slot, layer, conv_kernel-1, channel), states: (slot, layer, h, p, n) in FP32; one slot is contiguous.
    keys, values: (layer, page, token, kv head, head dim). tables: (slot, page of a sequence) → page.
    """

    def __init__(self, model: HybridConfig, runtime: RuntimeConfig) -> None:
        dtype, slots = DTYPES[runtime.dtype], runtime.max_batch
        mambas, attentions = model.blocks(MAMBA), model.blocks(ATTENTION)
        pages = (attentions, runtime.pages + 1, runtime.page_tokens, model.kv_heads, model.head_dim)
        self.taps = torch.zeros(slots, mambas, model.conv_kernel - 1, model.conv_dim, dtype=dtype)
        self.states = torch.zeros(slots, mambas, model.mamba_heads, model.mamba_head_dim, model.state_size)
        self.keys = torch.zeros(pages, dtype=dtype)
        self.values = torch.zeros(pages, dtype=dtype)
        self.tables = torch.full((slots, runtime.pages_for(runtime.max_sequence_tokens)), NOBODYS_PAGE)

    def clear(self, lease: Lease) -> None:
        """Make the lease an empty sequence.

        A zeroed slot is one. Pages are zeroed because attention multiplies what it masks by zero: a NaN left there by
        an earlier holder would survive that.
        """
        pages = torch.tensor(lease.pages, dtype=torch.long)
        self.taps[lease.slot].zero_()
        self.states[lease.slot].zero_()
        self.keys[:, pages] = 0
        self.values[:, pages] = 0
        self.tables[lease.slot].fill_(NOBODYS_PAGE)
        self.tables[lease.slot, : len(pages)] = pages

    def write_kv(self, layer: int, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (t, kv head, head dim) at `cells` (t): page · page size + place in the page."""
        self.keys[layer].flatten(0, 1).index_copy_(0, cells, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, cells, values)
