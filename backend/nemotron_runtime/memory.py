"""Hold what running sequences remember: Mamba states with their tails in slots, keys and values in pages."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nemotron_api.hybrid_config import ATTENTION, MAMBA, HybridConfig
from nemotron_kernels.paged_attention import raw, store
from nemotron_runtime.config import DTYPES, RuntimeConfig
from nemotron_runtime.ring import Ring
from nemotron_runtime.states import FORMATS, Format, States
from nemotron_runtime.tails import RING

NOBODYS_PAGE = 0
"""The page that fills the unused end of every table; it is never written, so it stays zero."""


class Memory:
    """The tensors behind both pools.

    Rings are stacked by layer, then slot. keys, values: (layer, page, token, kv head, head dim).
    """

    def __init__(self, model: HybridConfig, runtime: RuntimeConfig, device: torch.device | str = "cpu") -> None:
        """On the device "meta" it takes no memory, and tells what it would take."""
        with torch.device(device):
            self._make(model, runtime)

    def _make(self, model: HybridConfig, runtime: RuntimeConfig) -> None:
        dtype, shape = DTYPES[runtime.dtype], (model.blocks(MAMBA), runtime.slots)
        h, p, g, n = model.mamba_heads, model.mamba_head_dim, model.groups, model.state_size
        form = FORMATS[runtime.state_dtype]
        self._states = tuple(torch.zeros(*shape, *part, dtype=kept_as) for part, kept_as in form.parts(h, p, n))
        self._tails = {
            "before": torch.zeros(*shape, h, dtype=torch.float64),
            "taps": torch.zeros(*shape, RING, model.conv_dim, dtype=dtype),
            "xs": torch.zeros(*shape, h, RING, p, dtype=dtype),
            "Bs": torch.zeros(*shape, g, RING, n, dtype=dtype),
            "sums": torch.zeros(*shape, h, RING, dtype=torch.float64),
            "keys": torch.full((*shape, h, RING), torch.inf, dtype=torch.float64),
        }
        self.rings = tuple(self._ring(form, layer) for layer in range(shape[0]))
        pages = (model.blocks(ATTENTION), runtime.pages + 1, runtime.page_tokens, model.kv_heads, model.head_dim)
        self.keys = torch.zeros(pages, dtype=runtime.kv)
        self.values = torch.zeros(pages, dtype=runtime.kv)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def slot_bytes(self) -> int:
        return sum(stack.nbytes for stack in self.stacks) // self.stacks[0].shape[1]

    @property
    def page_bytes(self) -> int:
        return 2 * self.keys[:, 0].nbytes

    @property
    def stacks(self) -> tuple[Tensor, ...]:
        """Everything that slots hold: tensors (layer, slot, …)."""
        return (*self._states, *self._tails.values())

    @property
    def _pages(self) -> tuple[Tensor, Tensor]:
        """Keys and values, in a type that is copied by index."""
        return raw(self.keys), raw(self.values)

    @property
    def page_tokens(self) -> int:
        return int(self.keys.shape[2])

    def clear_slot(self, slot: int) -> None:
        """Make the slot an empty sequence: zeros, and no token in the ring."""
        for stack in self.stacks:
            stack[:, slot] = 0
        self._tails["keys"][:, slot] = torch.inf

    def clear_pages(self, pages: Sequence[int]) -> None:
        """Zero pages: attention multiplies what it masks by zero, and an earlier holder's NaN would survive that."""
        index = self._index(pages)
        for rows in self._pages:
            rows[:, index] = 0

    def clear_tail(self, slot: int, pages: Sequence[int], start: int, stop: int) -> None:
        """Empty the places of tokens `start` to `stop` of a sequence, in its ring and in its pages."""
        tokens = range(start, stop)
        places = self._index([token % RING for token in tokens])
        self._tails["taps"][:, slot][:, places] = 0
        for name, empty in (("xs", 0.0), ("Bs", 0.0), ("sums", 0.0), ("keys", torch.inf)):
            self._tails[name][:, slot][:, :, places] = empty
        cells = self._index([pages[at // self.page_tokens] * self.page_tokens + at % self.page_tokens for at in tokens])
        for rows in self._pages:
            rows.flatten(1, 2)[:, cells] = 0

    def copy_slot(self, source: int, target: int) -> None:
        for stack in self.stacks:
            stack[:, target] = stack[:, source]

    def copy_page(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of a page, and zero the rest of the target, as `clear_pages` does."""
        for rows in self._pages:
            rows[:, target, :tokens] = rows[:, source, :tokens]
            rows[:, target, tokens:] = 0

    def read(self, slot: int, pages: Sequence[int]) -> tuple[Tensor, ...]:
        """A copy of all that a slot and pages hold, in the host's memory."""
        index = self._index(pages)
        slots = (stack[:, slot].to("cpu", copy=True) for stack in self.stacks)
        return (*slots, *(rows[:, index].cpu() for rows in self._pages))

    def write(self, slot: int, pages: Sequence[int], content: tuple[Tensor, ...]) -> None:
        """Put back what `read` gave, into the first of the pages."""
        *of_slot, keys, values = content
        index = self._index(pages[: keys.shape[1]])
        for stack, part in zip(self.stacks, of_slot, strict=True):
            stack[:, slot] = part
        for rows, part in zip(self._pages, (keys, values), strict=True):
            rows[:, index] = part.to(self.device)

    def write_kv(self, layer: int, cells: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (t, kv head, head dim) at `cells` (t): page · page size + place in the page."""
        store(self.keys[layer], cells, keys)
        store(self.values[layer], cells, values)

    def _ring(self, form: Format, layer: int) -> Ring:
        states = States(form, layer, tuple(part[layer] for part in self._states))
        return Ring(states, **{name: stack[layer] for name, stack in self._tails.items()})

    def _index(self, pages: Sequence[int]) -> Tensor:
        return torch.tensor(pages, dtype=torch.long, device=self.device)
