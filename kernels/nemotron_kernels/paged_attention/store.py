"""Put keys and values into their pages, in the pages' type."""

import torch
from torch import Tensor

E4M3_MOST = 448.0


def raw(pages: Tensor) -> Tensor:
    """The same memory in a type that can be copied by index: torch has no such copies of E4M3 on every device."""
    return pages.view(torch.uint8) if pages.dtype == torch.float8_e4m3fn else pages


def store(pages: Tensor, cells: Tensor, rows: Tensor) -> None:
    """pages: (pages, s, k, d), cells: (t) page · s + place in the page, rows: (t, k, d).

    Pages of E4M3 hold at most ±448, with a scale of 1; what is not finite becomes NaN there.
    """
    if pages.dtype == torch.float8_e4m3fn:
        rows = rows.clamp(-E4M3_MOST, E4M3_MOST).masked_fill_(rows.isinf(), torch.nan).to(pages.dtype)
    raw(pages).flatten(0, 1).index_copy_(0, cells, raw(rows))
