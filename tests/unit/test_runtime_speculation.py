"""Drafts go to the streams that decode, alike in length; what became of them is learnt, and forgotten after."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import SamplingParams
from nemotron_runtime.draft_length import Acceptance
from nemotron_runtime.governor import Phase
from nemotron_runtime.outcome import Outcome
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.sampler import Chosen
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.speculation import LOOKED_BACK, MOST_DRAFTS, LookUp, Speculation
from tests.builders.governors import AlwaysDrafting

pytestmark = pytest.mark.unit


@dataclass(slots=True)
class Asked:
    """Lengths as a test wants them; notes what it was asked and told."""

    wanted: Sequence[int]
    limits: list[list[int]] = field(default_factory=list)
    learnt: list[tuple[list[int], list[int], float | None]] = field(default_factory=list)

    def decide(self, known: Sequence[Acceptance], limits: Sequence[int]) -> list[int]:
        self.limits.append(list(limits))
        return [min(wanted, limit) for wanted, limit in zip(self.wanted, limits, strict=True)]

    def learn(self, lengths: Sequence[int], accepted: Sequence[int], seconds: float | None) -> None:
        self.learnt.append((list(lengths), list(accepted), seconds))


def a_stream(id: int, tokens: list[int], max_tokens: int = 50, drafts: tuple[int, ...] = ()) -> Request:  # noqa: A002
    """A running request whose newest token is still to be computed."""
    request = Request(id, 2, list(tokens), SamplingParams(max_tokens=max_tokens), print, lease=Lease(id, [1]))
    request.computed, request.drafts = len(tokens) - 1, drafts
    return request


def a_step(request: Request, chosen: list[int]) -> Outcome:
    """What came of computing the request's newest token and drafts, written down already."""
    piece = Slice(request, request.computed, 1 + len(request.drafts), is_last=True, drafts=request.drafts)
    request.computed += len(chosen)
    request.tokens += chosen
    return Outcome(piece, tuple(Chosen(token) for token in chosen))


def test_a_text_that_repeats_itself_is_drafted_from_itself() -> None:
    speculation = Speculation(LookUp(), Asked([3]), AlwaysDrafting())
    request = a_stream(1, [1, 2, 3, 4, 5, 1, 2])

    speculation.follow([a_step(request, [3])], 0.01, [request])

    assert request.drafts == (4, 5, 1)


def test_a_draft_never_goes_beyond_the_last_token_a_stream_may_have() -> None:
    lengths = Asked([MOST_DRAFTS])
    # given a stream of 2 + 9 tokens at most, which has 2 + 7
    request = a_stream(1, [7] * 8, max_tokens=9)

    Speculation(LookUp(), lengths, AlwaysDrafting()).follow([a_step(request, [7])], 0.01, [request])

    assert lengths.limits == [[1]]
    assert request.drafts == (7,)


def test_what_became_of_drafts_is_learnt_with_the_time_of_all_it_took() -> None:
    ticks = iter([0.0, 0.5, 10.0, 10.0])
    lengths = Asked([2])
    speculation = Speculation(LookUp(), lengths, AlwaysDrafting(), clock=lambda: next(ticks))
    request = a_stream(1, [7] * 8)
    speculation.follow([a_step(request, [7])], 0.25, [request])

    # when the next step finds the first of two drafts right
    speculation.follow([a_step(request, [7, 9])], 0.25, [request])

    # then its time is that of the step, and of drafting for it
    assert lengths.learnt == [([0], [0], 0.25), ([2], [1], 0.75)]


def test_a_step_that_computed_a_prompt_beside_says_nothing_of_the_time() -> None:
    lengths = Asked([0])
    stream, prompt = a_stream(1, [7] * 8), a_stream(2, [7] * 30)
    pieces = [a_step(stream, [7]), Outcome(Slice(prompt, 0, 20, is_last=False))]

    Speculation(LookUp(), lengths, AlwaysDrafting()).follow(pieces, 0.25, [stream, prompt])

    assert lengths.learnt == [([0], [0], None)]


@given(wanted=st.lists(st.integers(0, MOST_DRAFTS), min_size=1, max_size=9), room=st.data())
def test_streams_that_draft_do_so_alike(wanted: list[int], room: st.DataObject) -> None:
    left = [room.draw(st.integers(1, 20)) for _ in wanted]
    streams = [a_stream(i, [7] * 9, max_tokens=7 + tokens) for i, tokens in enumerate(left)]
    pieces = [a_step(stream, [7]) for stream in streams]

    Speculation(LookUp(), Asked(wanted), AlwaysDrafting()).follow(pieces, 0.01, streams)

    assert len({len(stream.drafts) for stream in streams if stream.drafts}) <= 1
    assert all(len(stream.drafts) < tokens for stream, tokens in zip(streams, left, strict=True))


def test_streams_that_are_gone_are_forgotten() -> None:
    look_up = LookUp()
    speculation = Speculation(look_up, Asked([0]), AlwaysDrafting())

    for number in range(100):
        request = a_stream(number, [7] * 8)
        speculation.follow([a_step(request, [7])], 0.01, [request])

    assert speculation.remembered == {99}
    request.lease = None
    speculation.follow([a_step(request, [7])], 0.01, [])
    assert speculation.remembered == set()


@pytest.mark.parametrize(
    ("between", "drafts"), [pytest.param(50, (3, 4), id="near"), pytest.param(LOOKED_BACK, (), id="too-far-back")]
)
def test_a_long_text_is_looked_up_from_near_its_end_on(between: int, drafts: tuple[int, ...]) -> None:
    # given a text that ends as it began, or as it went on a while ago
    request = a_stream(1, [1, 2, 3, 4, *range(10, 10 + between), 1], max_tokens=10_000)

    Speculation(LookUp(), Asked([2]), AlwaysDrafting()).follow([a_step(request, [2])], 0.01, [request])

    assert request.drafts == drafts


class Mute:
    """A drafter that nobody may ask."""

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        raise AssertionError("asked for limits")

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[tuple[int, ...]]:
        raise AssertionError("asked for drafts")

    def forget(self, requests: Sequence[Request]) -> None: ...


def test_while_drafts_rest_none_are_left_and_nobody_is_asked_for_any() -> None:
    request = a_stream(1, [7] * 8, drafts=(7, 7))
    governor = AlwaysDrafting(Phase.RESTING)

    Speculation(Mute(), Asked([3]), governor).follow([a_step(request, [7, 7])], 0.01, [request])

    assert request.drafts == ()


def test_while_steps_are_measured_who_drafts_keeps_up_and_nothing_is_drafted() -> None:
    look_up, lengths = LookUp(), Asked([3])
    request = a_stream(1, [7] * 8)

    speculation = Speculation(look_up, lengths, AlwaysDrafting(Phase.MEASURING))
    speculation.follow([a_step(request, [7])], 0.01, [request])

    assert request.drafts == ()
    assert lengths.limits == []
    assert look_up.limits([request], [2]) == [2]
