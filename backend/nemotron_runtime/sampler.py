"""Choose the next token of each sequence; a choice depends on that sequence alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nemotron_runtime.choice import Choice, Chosen
from nemotron_runtime.filters import is_filtered, likeliest
from nemotron_runtime.guidance import guided
from nemotron_runtime.noise import gumbel, key
from nemotron_runtime.penalties import changed
from nemotron_runtime.thinking import forced
from nemotron_runtime.types import TokenLogprobs

__all__ = ["Choice", "Chosen", "choose", "choose_finite", "logprobs_of"]


def choose(logits: Tensor, choices: Sequence[Choice]) -> list[Chosen]:
    """logits: (r, v) FP32, one choice per row.

    A token is the largest of logit / temperature + Gumbel noise (Gumbel-max: a sample of the softmax), and the noise is
    made of seed, position and token id alone: whoever guesses the logits well, chooses the same token. Temperature 0
    has no noise; of equal logits the lower id wins.
    """
    left, failures = guided(changed(logits, choices), choices)
    tokens = _tokens(left, choices)
    logprobs = {row: logprobs_of(logits[row], tokens[row], n) for row, n in _asking(choices)}
    return [Chosen(token, logprobs.get(row), failures.get(row)) for row, token in enumerate(tokens)]


def choose_finite(logits: Tensor, choices: Sequence[Choice]) -> list[Chosen | None]:
    """The same; None for rows that are not finite, which have no order: they are not looked at."""
    finite = logits.isfinite().all(-1)
    if finite.all():
        return [*choose(logits, choices)]
    chosen = choose(logits.masked_fill(~finite[:, None], 0.0), choices)
    return [each if is_finite else None for each, is_finite in zip(chosen, finite.tolist(), strict=True)]


def _tokens(logits: Tensor, choices: Sequence[Choice]) -> list[int]:
    tokens: list[int] = logits.argmax(-1).tolist()
    drawn = [row for row, choice in enumerate(choices) if not choice.is_greedy]
    if drawn:
        for row, token in zip(drawn, _drawn(logits[drawn], [choices[row] for row in drawn]), strict=True):
            tokens[row] = token
    return [token if (must := forced(choice)) is None else must for token, choice in zip(tokens, choices, strict=True)]


def _drawn(logits: Tensor, choices: Sequence[Choice]) -> list[int]:
    scaled = _scaled(logits, choices)
    keys = torch.tensor([[key(choice.params.seed, choice.position)] for choice in choices], device=logits.device)
    plain = [row for row, choice in enumerate(choices) if not is_filtered(choice.params)]
    filtered = [row for row, choice in enumerate(choices) if is_filtered(choice.params)]
    tokens = [0] * len(choices)
    if plain:
        ids = torch.arange(logits.shape[-1], device=logits.device)
        _note(tokens, plain, (scaled[plain] + gumbel(keys[plain], ids)).argmax(-1))
    if filtered:
        for places, ids, left in likeliest(scaled[filtered], [choices[row].params for row in filtered]):
            rows = [filtered[place] for place in places]
            best = (left + gumbel(keys[rows], ids)).argmax(-1, keepdim=True)
            _note(tokens, rows, ids.gather(-1, best).squeeze(-1))
    return tokens


def _note(tokens: list[int], rows: Sequence[int], chosen: Tensor) -> None:
    for row, token in zip(rows, chosen.tolist(), strict=True):
        tokens[row] = token


def _scaled(logits: Tensor, choices: Sequence[Choice]) -> Tensor:
    """(r, v) FP64: logits over temperature, with the largest moved to 0 so that no temperature overflows."""
    wide = logits.double()
    temperature = [[choice.params.temperature] for choice in choices]
    return (wide - wide.amax(-1, keepdim=True)) / torch.tensor(temperature, dtype=wide.dtype, device=wide.device)


def _asking(choices: Sequence[Choice]) -> list[tuple[int, int]]:
    """The rows whose log-probabilities are wanted, with how many of the likeliest tokens."""
    return [(row, choice.params.logprobs) for row, choice in enumerate(choices) if choice.params.logprobs is not None]


def logprobs_of(logits: Tensor, token: int, count: int) -> TokenLogprobs:
    """logits: (v,), as the model made them; `count` of the likeliest tokens are told."""
    logprobs = logits.double().log_softmax(-1)
    if not count:
        return TokenLogprobs(logprobs[token].item())
    edge = logprobs.topk(min(count, len(logprobs))).values[-1]
    ids = (logprobs >= edge).nonzero().squeeze(-1)
    pairs = zip(ids.tolist(), logprobs[ids].tolist(), strict=True)
    return TokenLogprobs(logprobs[token].item(), tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:count]))
