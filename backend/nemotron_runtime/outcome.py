"""Say what a computed slice came to: the tokens that follow it, or that the model broke there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from nemotron_runtime.request import Request
from nemotron_runtime.sampler import Chosen, choose_finite
from nemotron_runtime.scheduler import Slice


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was chosen after one slice; `accepted` has one token, and one for each draft that was right."""

    piece: Slice
    accepted: tuple[Chosen, ...] = ()
    is_torn: bool = False
    """Whether the model broke at a draft: what the slice left in memory after its confirmed tokens is no number."""
    failure: str | None = None
    """Why no token can be chosen; a model that broke says nothing."""

    @property
    def request(self) -> Request:
        return self.piece.request

    @property
    def tokens(self) -> list[int]:
        return [each.token for each in self.accepted]

    @property
    def is_broken(self) -> bool:
        """Whether the request cannot go on."""
        return self.piece.is_last and not self.accepted and not self.is_torn


def outcomes(slices: Sequence[Slice], logits: Tensor) -> list[Outcome]:
    """The outcome of each slice; of those that are not their request's last, nothing follows yet.

    logits: (rows, vocabulary), a row for each last slice's last confirmed token and for each of its drafts.
    """
    last = [piece for piece in slices if piece.is_last]
    choices = [piece.request.choice(piece.drafts[:draft]) for piece in last for draft in range(1 + len(piece.drafts))]
    rows = iter(choose_finite(logits, choices) if choices else ())
    return [_outcome(piece, rows) if piece.is_last else Outcome(piece) for piece in slices]


def _outcome(piece: Slice, rows: Iterator[Chosen | None]) -> Outcome:
    """Takes the slice's rows off the front: None where the model broke."""
    first, *others = found = list(islice(rows, 1 + len(piece.drafts)))
    return Outcome(
        piece,
        accepted=tuple(_accepted(piece, found)),
        is_torn=bool(others) and None in found,
        failure=first.failure if first else None,
    )


def _accepted(piece: Slice, rows: Sequence[Chosen | None]) -> list[Chosen]:
    """What was chosen in each row, up to the first that no draft foresaw, or that has no token."""
    accepted: list[Chosen] = []
    for draft, chosen in zip((*piece.drafts, None), rows, strict=True):
        if chosen is None or chosen.failure:
            break
        accepted.append(chosen)
        if chosen.token != draft or piece.request.finishes_with([each.token for each in accepted]):
            break
    return accepted
