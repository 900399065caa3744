"""Hold what running sequences remember: Mamba states with their tails in slots, keys and values in pages."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nemotron_api.hybrid_config import ATTENTION, MAMBA, HybridConfig
from nemotron_runtime.config import DTYPES, RuntimeConfig
from nemotron_runtime.ring import Ring
from nemotron_runtime.tails import RING

NOBODYS_PAGE = 0
"""The page that fills the unused end of every table; it is never written, so it stays zero."""


class Memory:
    """The tensors behind both pools.

    Rings are stacked by layer, then slot. keys, values: (layer, page, token, kv head, head dim).
    """

    def __init__(self, model: HybridConfig, runtime: RuntimeConfig, device: torch.device | str = "cpu") -> None:
        with torch.device(device):
            self._make(model, runtime)

    def _make(self, model: HybridConfig, runtime: RuntimeConfig) -> None:
        dtype, shape = DTYPES[runtime.dtype], (model.blocks(MAMBA), runtime.slots)
        h, g = model.mamba_heads, model.groups
        self._stacks = Ring(
            states=torch.zeros(*shape, h, model.mamba_head_dim, model.state_size),
            before=torch.zeros(*shape, h, dtype=torch.float64),
            taps=torch.zeros(*shape, RING, model.conv_dim, dtype=dtype),
            xs=torch.zeros(*shape, h, RING, model.mamba_head_dim, dtype=dtype),
            Bs=torch.zeros(*shape, g, RING, model.state_size, dtype=dtype),
            sums=torch.zeros(*shape, h, RING, dtype=torch.float64),
            keys=torch.full((*shape, h, RING), torch.inf, dtype=torch.float64),
        )
        self.rings = tuple(Ring(*(stack[layer] for stack in self.stacks)) for layer in range(shape[0]))
        pages = (model.blocks(ATTENTION), runtime.pages + 1, runtime.page_tokens, model.kv_heads, model.head_dim)
        self.keys = torch.zeros(pages, dtype=dtype)
        self.values = torch.zeros(pages, dtype=dtype)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def slot_bytes(self) -> int:
        return sum(stack.nbytes for stack in self.stacks) // self._stacks.states.shape[1]

    @property
    def page_bytes(self) -> int:
        return 2 * self.keys[:, 0].nbytes

    @property
    def stacks(self) -> tuple[Tensor, ...]:
        """Everything that slots hold: tensors (layer, slot, …)."""
        stacks = self._stacks
        return stacks.states, stacks.before, stacks.taps, stacks.xs, stacks.Bs, stacks.sums, stacks.keys

    @property
    def page_tokens(self) -> int:
        return int(self.keys.shape[2])

    def clear_slot(self, slot: int) -> None:
        """Make the slot an empty sequence: zeros, and no token in the ring."""
        for stack in self.stacks:
            stack[:, slot] = 0
        self._stacks.keys[:, slot] = torch.inf

    def clear_pages(self, pages: Sequence[int]) -> None:
        """Zero pages: attention multiplies what it masks by zero, and an earlier holder's NaN would survive that."""
        index = self._index(pages)
        self.keys[:, index] = 0
        self.values[:, index] = 0

    def copy_slot(self, source: int, target: int) -> None:
        for stack in self.stacks:
            stack[:, target] = stack[:, source]

    def copy_page(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of a page, and zero the rest of the target, as `clear_pages` does."""
        for pages in (self.keys, self.values):
            pages[:, target, :tokens] = pages[:, source, :tokens]
            pages[:, target, tokens:] = 0

    def read(self, slot: int, pages: Sequence[int]) -> tuple[Tensor, ...]:
        """A copy of all that a slot and pages hold, in the host's memory."""
        index = self._index(pages)
        slots = (stack[:, slot].to("cpu", copy=True) for stack in self.stacks)
        return (*slots, self.keys[:, index].cpu(), self.values[:, index].cpu())

    def write(self, slot: int, pages: Sequence[int], content: tuple[Tensor, ...]) -> None:
        """Put back what `read` gave, into the first of the pages."""
        *of_slot, keys, values = content
        index = self._index(pages[: keys.shape[1]])
        for stack, part in zip(self.stacks, of_slot, strict=True):
            stack[:, slot] = part
        self.keys[:, index] = keys.to(self.device)
        self.values[:, index] = values.to(self.device)

    def write_kv(self, layer: int, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (t, kv head, head dim) at `cells` (t): page · page size + place in the page."""
        self.keys[layer].flatten(0, 1).index_copy_(0, cells, keys)
        self.values[layer].flatten(0, 1).index_copy_(0, cells, values)

    def _index(self, pages: Sequence[int]) -> Tensor:
        return torch.tensor(pages, dtype=torch.long, device=self.device)
