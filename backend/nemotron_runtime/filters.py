"""Keep the tokens that min_p, top_k and top_p leave to choose from."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nemotron_runtime.types import SamplingParams

NARROW = 1024
"""Likeliest tokens looked at first: what filters keep is nearly always among them, and sorting them is cheap."""


def is_filtered(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def likeliest(scaled: Tensor, params: Sequence[SamplingParams]) -> list[tuple[list[int], Tensor, Tensor]]:
    """scaled: (r, v) FP64, each row's largest 0 → groups of rows: (rows, ids (g, w), logits (g, w)).

    Tokens stand in order: the likeliest first, of equal ones the lower id first; those filtered out have −∞.
    min_p comes first, top_k counts what it leaves, and top_p is a share of what both leave.
    """
    vocabulary = scaled.shape[-1]
    rows, groups = list(range(len(params))), []
    for width in sorted({min(NARROW, vocabulary), vocabulary}):
        ids, logits, is_whole = _cut(scaled[rows], [params[row] for row in rows], width)
        whole = [place for place, ok in enumerate(is_whole) if ok]
        if whole:
            groups.append(([rows[place] for place in whole], ids[whole], logits[whole]))
        rows = [row for row, ok in zip(rows, is_whole, strict=True) if not ok]
        if not rows:
            break
    return groups


def _cut(scaled: Tensor, params: Sequence[SamplingParams], width: int) -> tuple[Tensor, Tensor, list[bool]]:
    """The `width` likeliest tokens, filtered; and of each row whether nothing beyond them can belong to it."""
    vocabulary = scaled.shape[-1]
    ids, ordered = _ordered(scaled, width)
    share = scaled.softmax(-1).gather(-1, ids)
    through = _running_sum(share)
    before = through - share
    limit = _limit(scaled, params)
    total = _total(through, limit, vocabulary)
    top_p = _column(params, "top_p", scaled)
    kept = (torch.arange(width, device=scaled.device) < limit) & ((before < top_p * total) | (top_p == 1))
    # A guide may leave fewer than filters would: without this, all others were sorted for nothing.
    kept &= ordered > -torch.inf
    # The first token stays whatever rounding says, and none stays after one that goes.
    kept[:, 0] = True
    kept = kept.long().cumprod(-1).bool()
    if width == vocabulary:
        is_whole = [True] * len(params)
    else:
        # Of equal tokens at the edge only a whole sort knows the lower ids.
        last = ordered.gather(-1, kept.sum(-1, keepdim=True) - 1)
        is_known = (limit <= width) | (limit == vocabulary)
        is_whole = (is_known & (last > ordered[:, -1:])).squeeze(-1).tolist()
    return ids, ordered.masked_fill(~kept, -torch.inf), is_whole


def _ordered(scaled: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Ids and logits of the `width` largest, descending, equal ones by id."""
    if width == scaled.shape[-1]:
        ordered, ids = scaled.sort(dim=-1, descending=True, stable=True)
        return ids, ordered
    ids = scaled.topk(width, sorted=False).indices.sort().values
    ordered, order = scaled.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return ids.gather(-1, order), ordered


def _running_sum(share: Tensor) -> Tensor:
    """(r, w): sums along each row, added in an order that a number's place alone decides (Hillis and Steele, 1986).

    A library's order depends on the device, the width and the number of rows.
    """
    step = 1
    while step < share.shape[-1]:
        share = torch.cat((share[:, :step], share[:, step:] + share[:, :-step]), dim=-1)
        step *= 2
    return share


def _limit(scaled: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """(r, 1): how many of the likeliest tokens min_p and top_k leave."""
    vocabulary = scaled.shape[-1]
    counts = torch.tensor([[min(each.top_k or vocabulary, vocabulary)] for each in params], device=scaled.device)
    if all(each.min_p == 0 for each in params):
        return counts
    floor = torch.tensor(
        [[math.log(each.min_p) if each.min_p else -math.inf] for each in params],
        dtype=torch.float64,
        device=scaled.device,
    )
    return counts.minimum((scaled >= floor).sum(-1, keepdim=True))


def _total(share: Tensor, limit: Tensor, vocabulary: int) -> Tensor:
    """(r, 1): the share of the `limit` likeliest tokens, by shares summed in order; all tokens hold 1."""
    last = limit.clamp(max=share.shape[-1]) - 1
    return share.gather(-1, last).masked_fill_(limit == vocabulary, 1.0)


def _column(params: Sequence[SamplingParams], name: str, like: Tensor) -> Tensor:
    return torch.tensor([[getattr(each, name)] for each in params], dtype=torch.float64, device=like.device)
