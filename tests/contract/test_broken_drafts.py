"""A draft that breaks the model's numbers is a wrong draft: its stream goes on as if it had never been."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nemotron_runtime import pack
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.speculation import Module
from tests.builders import company
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.company import Ask, Prefix, Room, serve
from tests.builders.members import Tensors, rewrite, with_mtp

pytestmark = pytest.mark.contract

POISON = 7
"""A token whose embedding is no number: whatever is computed from it is none."""


def poisoned(tensors: Tensors) -> Tensors:
    embeddings = tensors["backbone.embeddings.weight"].clone()
    embeddings[POISON] = torch.nan
    # its own logit is 0, which is never the largest: nobody chooses it
    head = tensors["lm_head.weight"].clone()
    head[POISON] = 0
    return tensors | {"backbone.embeddings.weight": embeddings, "lm_head.weight": head}


@dataclass(slots=True)
class Poisoner:
    """Drafts what is right, then the token that breaks everything, then more."""

    answers: dict[tuple[int, ...], list[int]]
    dice: random.Random

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        self._streams = streams
        return list(most)

    _streams: Sequence[Request] = ()

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[tuple[int, ...]]:
        return [self._guess(request, length) for request, length in zip(self._streams, lengths, strict=True)]

    def forget(self, requests: Sequence[Request]) -> None: ...

    def _guess(self, request: Request, length: int) -> tuple[int, ...]:
        answer = self.answers[tuple(request.tokens[: request.prompt_tokens])]
        right = answer[request.generated : request.generated + self.dice.randint(0, 4)]
        return (*right, POISON, *[5] * 12)[:length]


class PoisonedModule(Module):
    """The model's own module, of whose drafts the second one breaks everything."""

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[tuple[int, ...]]:
        return [(*draft[:1], *[POISON] * len(draft[1:2]), *draft[2:]) for draft in super().draft(pieces, lengths)]


def an_engine(tmp_path: Path, pattern: str, *, module: bool = False) -> Path:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", hybrid_override_pattern=pattern)
    rewrite(with_mtp(checkpoint) if module else checkpoint, poisoned)
    pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=4, max_sequence_tokens=240)
    return tmp_path / "engine"


def some_asks() -> list[Ask]:
    dice = random.Random(1)
    tokens = [token for token in range(TINY["vocab_size"]) if token != POISON]
    return [Ask(tuple(dice.choices(tokens, k=length)), 60) for length in (1, 15, 40, 70)]


def answers_to(directory: Path, asks: Sequence[Ask]) -> list[list[int]]:
    """Without drafts."""
    answers = [serve(directory, [ask], Room(), {}, exact=True)[0][0] for ask in asks]
    assert POISON not in {token for answer in answers for token in answer}
    return answers


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
@pytest.mark.parametrize("pattern", ["MEM*E-", "*-*-", "MMM"])
def test_a_draft_that_is_no_number_leaves_nothing_behind(pattern: str, exact: bool, tmp_path: Path) -> None:
    directory, asks = an_engine(tmp_path, pattern), some_asks()
    whole = answers_to(directory, asks)

    poisoner = Poisoner({ask.prompt: answer for ask, answer in zip(asks, whole, strict=True)}, random.Random(1))
    answers, _, engine = serve(directory, asks, Room(), {}, poisoner, exact=exact)

    assert answers == whole
    assert engine.stats().drafted_tokens > engine.stats().accepted_tokens > 0


def test_nor_does_it_among_what_the_models_own_module_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, asks = an_engine(tmp_path, "MEM*E-", module=True), some_asks()
    whole = answers_to(directory, asks)
    drafts: dict[Prefix, tuple[int, ...]] = {}
    serve(directory, asks, Room(), {}, "module", exact=True, drafts=drafts)

    monkeypatch.setattr(company, "Module", PoisonedModule)
    answers, recorder, engine = serve(directory, asks, Room(), {}, "module", exact=True, drafts=drafts)

    # then even its drafts are those that it makes of whole rows
    assert answers == whole
    assert recorder.differing_drafts == []
    assert engine.stats().drafted_tokens > 100
