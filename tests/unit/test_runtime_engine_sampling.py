"""What a request asks of the sampler reaches it through the engine, and what it tells reaches the sink."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import HybridEngine, SamplingParams, ThinkingBudget, open_engine
from tests.builders.gate import a_packed_engine
from tests.builders.streams import Stream, generate, start

pytestmark = pytest.mark.unit

PROMPT = [5, 6, 7]
GREEDY = SamplingParams(max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: Any) -> Path:
    return a_packed_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def engine(directory: Path) -> Iterator[HybridEngine]:
    engine = open_engine(directory, threads=1)
    yield engine
    engine.close()


def the_tokens(engine: HybridEngine, sampling: SamplingParams) -> list[int]:
    (tokens,) = generate(engine, [PROMPT], sampling)
    return tokens


def test_the_models_own_end_waits_for_min_tokens(directory: Path, engine: HybridEngine) -> None:
    # given a model for which the third token it chooses is an end
    third = the_tokens(engine, GREEDY)[2]
    engine.close()
    settings = directory / "runtime.json"
    whole = settings.read_text()
    settings.write_text(json.dumps(json.loads(whole) | {"eos_token_ids": [third]}))
    try:
        ending = open_engine(directory, threads=1)
    finally:
        settings.write_text(whole)

    try:
        early = the_tokens(ending, replace(GREEDY, ignore_eos=False))
        late = the_tokens(ending, replace(GREEDY, ignore_eos=False, min_tokens=6))
    finally:
        ending.close()

    assert len(early) <= 3
    assert len(late) >= 6
    assert third not in late[:6]


def test_bans_and_biases_hold(engine: HybridEngine) -> None:
    first = the_tokens(engine, GREEDY)[0]

    assert first not in the_tokens(engine, replace(GREEDY, bad_words=((first,),)))
    assert set(the_tokens(engine, replace(GREEDY, logit_bias=((3, 1000.0),)))) == {3}
    assert len(set(the_tokens(engine, replace(GREEDY, presence_penalty=1000.0)))) == GREEDY.max_tokens


def test_thinking_ends_after_its_budget(engine: HybridEngine) -> None:
    never = tuple((token,) for token in (1, 2))
    budget = ThinkingBudget(start_id=PROMPT[-1], end_id=2, newline_ids=frozenset(), tokens=3, grace=2)

    tokens = the_tokens(engine, replace(GREEDY, bad_words=(*never, (PROMPT[-1],)), thinking=budget))

    assert tokens.index(2) == budget.tokens + budget.grace
    assert tokens.count(2) == 1


def test_events_carry_log_probabilities_where_they_were_asked_for(engine: HybridEngine) -> None:
    asked, other = start(engine, PROMPT, replace(GREEDY, logprobs=2)), start(engine, PROMPT, GREEDY)

    assert asked.tokens() == other.tokens()
    assert all(event.logprobs is None for event in other.events)
    for event in asked.events:
        assert event.logprobs is not None
        assert event.logprobs.likeliest[0] == (event.token, event.logprobs.chosen)


ALL = SamplingParams(
    max_tokens=16,
    temperature=0.9,
    top_p=0.95,
    seed=5,
    min_tokens=6,
    repetition_penalty=1.2,
    presence_penalty=0.3,
    frequency_penalty=0.2,
    bad_words=((8, 9), (11,)),
    thinking=ThinkingBudget(start_id=PROMPT[-1], end_id=2, newline_ids=frozenset(range(20, 25)), tokens=3, grace=5),
    logprobs=2,
    ignore_eos=True,
)


def test_an_answer_resumed_after_any_token_is_the_same_one(directory: Path) -> None:
    exact = open_engine(directory, threads=1, exact=True)
    try:
        whole = start(exact, PROMPT, ALL)
        tokens = whole.tokens()
        for cut in range(1, len(tokens)):
            rest = Stream()
            exact.submit(PROMPT, ALL, rest.arriving.put, resumed=tokens[:cut])
            assert rest.tokens() == tokens[cut:]
            assert [event.logprobs for event in rest.events] == [event.logprobs for event in whole.events[cut:]]
    finally:
        exact.close()


def test_what_the_sampler_cannot_do_is_refused(engine: HybridEngine) -> None:
    with pytest.raises(InvalidRequest, match="repetition_penalty must be"):
        engine.submit(PROMPT, replace(GREEDY, repetition_penalty=0.0), print)
