"""Put keys and values into their pages, in the pages' type."""

import torch
from torch import Tensor

E4M3_MOST = 448.0


def store(pages: Tensor, cells: Tensor, rows: Tensor) -> None:
    """pages: (pages, s, k, d), cells: (t) page · s + place in the page, rows: (t, k, d).

    Pages of E4M3 hold at most ±448, with a scale of 1; what is not finite becomes NaN there.
    """
    places = pages.flatten(0, 1)
    if pages.dtype == torch.float8_e4m3fn:
        narrow = rows.clamp(-E4M3_MOST, E4M3_MOST).masked_fill_(rows.isinf(), torch.nan).to(pages.dtype)
        # torch copies no rows of this type by index.
        places, rows = places.view(torch.uint8), narrow.view(torch.uint8)
    places.index_copy_(0, cells, rows)
