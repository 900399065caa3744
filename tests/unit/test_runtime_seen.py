"""What penalties and budgets ask of a text is kept beside it: each token is looked at once, however long it gets."""

from collections.abc import Iterator
from typing import Any, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import SamplingParams, ThinkingBudget
from nemotron_runtime.request import Request
from nemotron_runtime.sampler import Choice, choose
from nemotron_runtime.seen import Seen
from tests.builders.choices import VOCABULARY, some_logits

pytestmark = pytest.mark.unit

TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=30)
BUDGET = ThinkingBudget(start_id=1, end_id=2, newline_ids=frozenset({3, 4}), tokens=3, grace=4)
LOOKING_BACK = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 9),
    repetition_penalty=st.sampled_from([1.0, 1.7, 0.4]),
    presence_penalty=st.sampled_from([0.0, 2.5]),
    frequency_penalty=st.sampled_from([0.0, -1.5, 0.75]),
    thinking=st.sampled_from([None, BUDGET]),
)


@given(known=TOKENS, more=TOKENS, prompt=st.integers(0, 40), again=st.integers(0, 3))
def test_what_is_known_and_what_follows_are_counted_alike(
    known: list[int], more: list[int], prompt: int, again: int
) -> None:
    text, seen = known + more, Seen(prompt)
    seen.extend(known[:again])
    seen.extend(known[again:])

    ids, counts = seen.counts(more)

    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {
        token: text[prompt:].count(token) for token in text
    }
    assert len(ids) == len(set(text))
    for token in range(VOCABULARY):
        places = [place for place, other in enumerate(text) if other == token]
        assert seen.last(token, more) == (places[-1] if places else None)


@given(
    params=LOOKING_BACK,
    prompt=TOKENS.filter(bool),
    resumed=TOKENS,
    steps=st.lists(
        st.tuples(TOKENS.map(lambda tokens: tokens[:3]), TOKENS.map(lambda tokens: tokens[:12])), max_size=6
    ),
)
def test_a_choice_is_the_same_whatever_was_asked_before_it(
    params: SamplingParams, prompt: list[int], resumed: list[int], steps: list[tuple[list[int], list[int]]]
) -> None:
    # given a request that goes on by a few tokens a step, with drafts after them that nobody heeds later
    request = Request(1, len(prompt), [*prompt, *resumed], params, print)
    for row, (confirmed, drafts) in enumerate(steps):
        request.tokens += confirmed
        texts = [(*request.tokens, *drafts[:count]) for count in range(len(drafts) + 1)]
        logits = some_logits(len(texts), seed=row)

        found = choose(logits, [request.choice(tuple(drafts[:count])) for count in range(len(texts))])

        # then every row is chosen as from the text alone
        assert found == choose(logits, [Choice(params, text, len(prompt)) for text in texts])


class Watched(list[int]):
    """Counts the tokens that are read from it."""

    read = 0

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        found = super().__getitem__(place)
        self.read += len(found) if isinstance(found, list) else 1
        return found

    def __iter__(self) -> Iterator[int]:
        for token in super().__iter__():
            self.read += 1
            yield token

    def __reversed__(self) -> Iterator[int]:
        self.read += len(self)
        return super().__reversed__()

    def __contains__(self, token: object) -> bool:
        self.read += len(self)
        return super().__contains__(token)

    def index(self, *arguments: Any) -> int:
        self.read += len(self)
        return super().index(*arguments)

    def count(self, token: int) -> int:
        self.read += len(self)
        return super().count(token)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"repetition_penalty": 1.5}, id="repetition"),
        pytest.param({"presence_penalty": 0.5, "frequency_penalty": 0.1}, id="presence-and-frequency"),
        pytest.param({"thinking": BUDGET}, id="thinking-budget"),
        pytest.param({"bad_words": ((5, 6, 7),)}, id="bad-words"),
        pytest.param({}, id="nothing"),
    ],
)
@pytest.mark.parametrize("drafts", [0, 4])
def test_a_token_is_looked_at_once_however_many_follow(params: dict[str, Any], drafts: int) -> None:
    text = Watched([1, *[9] * 4000])
    request = Request(1, 10, text, SamplingParams(temperature=0.5, **params), print)
    logits = some_logits(1 + drafts)

    for _ in range(50):
        (chosen, *_) = choose(logits, [request.choice((8,) * count) for count in range(1 + drafts)])
        request.tokens += [chosen.token]

    assert request.tokens is text
    assert text.read <= 4001 + 50 * (1 + drafts) * 4
