"""Hold generated tokens to tier E2: the reference's greedy choice wherever its margin is clear."""

import torch
from torch import Tensor

CLEAR_MARGIN_SIGMAS = 1e-4

CLOSE_CALLS_PER_TOKEN = 1e-3


def unexpected_tokens(logits: Tensor, tokens: list[int]) -> list[int]:
    """Positions where a token is neither the reference's choice nor, in a close call, its second one.

    logits: (l, vocabulary), the reference's, teacher-forced on the very tokens (l) that are judged.
    """
    best, ids = logits.topk(2, dim=-1)
    is_close = best[:, 0] - best[:, 1] <= CLEAR_MARGIN_SIGMAS * logits.std(-1)
    given = torch.tensor(tokens)
    fits = (given == ids[:, 0]) | (is_close & (given == ids[:, 1]))
    return (~fits).nonzero().flatten().tolist()


def close_calls(logits: Tensor, tokens: list[int]) -> int:
    """How many tokens differ from the reference's choice at all."""
    return int((torch.tensor(tokens) != logits.argmax(-1)).sum())
