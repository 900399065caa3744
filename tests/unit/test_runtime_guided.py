"""An answer under a guide has its form, whoever looks at it, and is the same wherever it is cut."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import Guide, SamplingParams, ThinkingBudget, filters
from nemotron_runtime.grammar import Grammar, GuideFailed
from nemotron_runtime.guides import LibraryGuides
from tests.builders.guided import EOS, PROMPT, THINK, UNTHINK, answer, follows, guides_of_all_kinds, some_guides

pytestmark = pytest.mark.unit

SAMPLINGS = st.builds(
    SamplingParams,
    max_tokens=st.sampled_from([12, 200]),
    min_tokens=st.sampled_from([0, 0, 3]),
    temperature=st.sampled_from([0.0, 0.8]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([0.9, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    ignore_eos=st.booleans(),
    guide=guides_of_all_kinds(),
)
THOUGHTFUL = (*PROMPT, THINK)


@pytest.fixture(scope="module")
def guides() -> Iterator[LibraryGuides]:
    opened = some_guides()
    yield opened
    opened.close()


@settings(max_examples=150, deadline=None)
@given(SAMPLINGS)
def test_an_answer_that_ends_has_the_form_of_its_guide(guides: LibraryGuides, sampling: SamplingParams) -> None:
    made = answer(guides, sampling)

    assume(made.reason in ("stop", "length"))
    guide = sampling.guide
    assert guide is not None
    if made.reason == "stop":
        assert follows(guide, made.text)
    else:
        assert len(made.tokens) == sampling.max_tokens


@settings(max_examples=40, deadline=None)
@given(SAMPLINGS, st.data())
def test_an_answer_cut_after_any_token_goes_on_the_same(
    guides: LibraryGuides, sampling: SamplingParams, data: st.DataObject
) -> None:
    whole = answer(guides, sampling)
    assume(len(whole.tokens) > 1)
    cut = data.draw(st.integers(1, len(whole.tokens) - 1))

    assert answer(guides, sampling, resumed=whole.tokens[:cut]) == whole


@settings(max_examples=40, deadline=None)
@given(SAMPLINGS, st.data())
def test_what_may_follow_is_a_function_of_the_tokens_alone(
    guides: LibraryGuides, sampling: SamplingParams, data: st.DataObject
) -> None:
    # given a grammar that was asked about drafts, right and wrong ones, before and after what is asked now
    tokens = answer(guides, sampling).tokens
    asked = guides.grammar(sampling, PROMPT, ())
    for place in range(len(tokens)):
        before = (*PROMPT, *tokens[:place])
        drafts = data.draw(
            st.sampled_from([(), tokens[place : place + 3], (*b"zz",), (*tokens[place : place + 2], 122)])
        )
        for length in range(1 + len(drafts)):
            asked.allowed((*before, *drafts[:length]))

        fresh = guides.grammar(sampling, PROMPT, ())
        found, expected = asked.allowed(before), fresh.allowed(before)
        assert found is not None
        assert expected is not None
        assert np.array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(guides_of_all_kinds(), st.data())
def test_drafts_are_cut_before_the_first_that_cannot_be(
    guides: LibraryGuides, guide: Guide, data: st.DataObject
) -> None:
    sampling = SamplingParams(max_tokens=40, temperature=1.0, guide=guide)
    tokens = answer(guides, sampling).tokens
    right = data.draw(st.integers(0, len(tokens) - 1))
    grammar = guides.grammar(sampling, PROMPT, ())

    found = grammar.permitted(PROMPT, (*tokens[:right], THINK, *tokens))

    assert found == tokens[:right]


def test_thoughts_are_free_and_the_form_begins_after_them(guides: LibraryGuides) -> None:
    # given a prompt that ends in <think>, and a budget that ends the thoughts
    budget = ThinkingBudget(THINK, UNTHINK, frozenset(b"\n"), tokens=6, grace=2)
    guide = Guide("choice", '["yes", "no"]', THINK, UNTHINK)
    for seed in range(5):
        sampling = SamplingParams(max_tokens=40, temperature=1.0, seed=seed, thinking=budget, guide=guide)

        made = answer(guides, sampling, THOUGHTFUL)

        # then the model's end-of-text token, which it likes, ended no thought
        end = made.tokens.index(UNTHINK)
        assert 6 <= end <= 8
        assert EOS not in made.tokens[:end]
        assert bytes(made.tokens[end + 1 :]) in (b"yes", b"no")
        assert made.reason == "stop"
        for cut in range(1, len(made.tokens)):
            assert answer(guides, sampling, THOUGHTFUL, made.tokens[:cut]) == made


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(PROMPT, id="no-thoughts"),
        pytest.param((THINK, *PROMPT, UNTHINK), id="thoughts-that-ended"),
        pytest.param((UNTHINK, *PROMPT), id="an-end-alone"),
    ],
)
def test_where_no_thoughts_are_open_the_form_begins_at_once(guides: LibraryGuides, prompt: tuple[int, ...]) -> None:
    sampling = SamplingParams(max_tokens=40, guide=Guide("choice", '["yes", "no"]', THINK, UNTHINK))

    assert answer(guides, sampling, prompt).text in ("yes", "no")


def test_the_thoughts_of_a_draft_that_was_wrong_are_forgotten(guides: LibraryGuides) -> None:
    sampling = SamplingParams(guide=Guide("choice", '["yes"]', THINK, UNTHINK))
    grammar = guides.grammar(sampling, THOUGHTFUL, ())

    drafted = grammar.allowed((*THOUGHTFUL, *b"hm", UNTHINK))
    confirmed = grammar.allowed((*THOUGHTFUL, *b"hmm"))

    assert drafted is not None
    assert confirmed is not None
    assert bin(int(drafted.view("uint32").sum())).count("1") == 1
    assert confirmed.view("uint8")[0] == 255


def test_a_guide_that_ignores_ends_goes_on_as_long_as_it_can(guides: LibraryGuides) -> None:
    sampling = SamplingParams(max_tokens=9, ignore_eos=True, guide=Guide("regex", "[ab]+c?"))

    made = answer(guides, sampling)

    assert EOS not in made.tokens
    assert made.reason == ("stop" if made.text.endswith("c") else "length")


def test_bans_that_leave_nothing_say_so(guides: LibraryGuides) -> None:
    sampling = SamplingParams(bad_words=((*b"b",),), guide=Guide("regex", "ab"))

    assert answer(guides, sampling).reason.startswith("bad_words and min_tokens ban every token that the guide allows")


class Counting:
    """A matcher that counts what is asked of it."""

    def __init__(self, matcher: object, calls: dict[str, int]) -> None:
        self._matcher, self._calls = matcher, calls

    def __getattr__(self, name: str) -> object:
        self._calls[name] = self._calls.get(name, 0) + 1
        return getattr(self._matcher, name)


def test_a_mask_is_computed_once_for_each_token_drafted_or_not(guides: LibraryGuides) -> None:
    sampling = SamplingParams(max_tokens=60, temperature=1.0, guide=Guide("regex", "[a-z]{30}1*"))
    whole = answer(guides, sampling)
    calls: dict[str, int] = {}

    def count(grammar: Grammar) -> None:
        grammar._matcher = Counting(grammar._matcher, calls)

    assert answer(guides, sampling, watch=count) == whole
    assert calls["unsafe_compute_mask_ptr"] <= len(whole.tokens) + 1

    # given drafts, for which masks are asked first, and then again when they are judged
    calls.clear()
    grammar = guides.grammar(sampling, PROMPT, ())
    count(grammar)
    for place in range(0, len(whole.tokens) - 4, 4):
        for _ in ("drafted", "judged"):
            for more in range(4):
                grammar.allowed((*PROMPT, *whole.tokens[: place + more]))
    assert calls["unsafe_compute_mask_ptr"] <= len(whole.tokens)


@pytest.mark.parametrize(
    ("resumed", "sentence"),
    [
        pytest.param(b"yex", "resumed token 120 at position 2 is not what the guide allows", id="another-text"),
        pytest.param(b"yes", "a whole answer by the guide", id="all-of-it"),
    ],
)
def test_resumed_tokens_that_do_not_fit_the_guide_are_refused(
    guides: LibraryGuides, resumed: bytes, sentence: str
) -> None:
    sampling = SamplingParams(guide=Guide("choice", '["yes", "yen"]'))

    with pytest.raises(InvalidRequest, match=sentence):
        guides.grammar(sampling, PROMPT, tuple(resumed))


def test_a_mask_that_leaves_few_tokens_needs_no_sort_of_the_whole_vocabulary(
    guides: LibraryGuides, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a narrow look at the likeliest tokens first, which holds all that the guide leaves, but not top_k of them
    monkeypatch.setattr("nemotron_runtime.filters.NARROW", 20)
    widths: list[int] = []
    ordered = filters._ordered

    def noted(scaled: Tensor, width: int) -> tuple[Tensor, Tensor]:
        widths.append(width)
        return ordered(scaled, width)

    monkeypatch.setattr(filters, "_ordered", noted)
    sampling = SamplingParams(max_tokens=5, temperature=1.0, top_k=15, guide=Guide("regex", "[a-c]{20}"))

    answer(guides, replace(sampling, top_p=0.9))

    assert widths == [20] * 5


def test_a_guide_that_fails_at_a_draft_goes_on_where_it_was(guides: LibraryGuides) -> None:
    # given a grammar that leads nowhere after one of its choices: no byte follows "b"
    guide = Guide("ebnf_grammar", 'start: "a" "c" | "b" NOTHING\nNOTHING: /[^\\x00-\\u{10FFFF}]/')
    grammar = guides.grammar(SamplingParams(guide=guide), PROMPT, ())
    before = grammar.allowed(PROMPT)

    with pytest.raises(GuideFailed, match="no text goes on from here"):
        grammar.allowed((*PROMPT, *b"b"))

    after, further = grammar.allowed(PROMPT), grammar.allowed((*PROMPT, *b"a"))
    assert before is not None
    assert after is not None
    assert further is not None
    assert np.array_equal(before, after)
    assert further.view(np.uint8)[ord("c") // 8] == 1 << ord("c") % 8
