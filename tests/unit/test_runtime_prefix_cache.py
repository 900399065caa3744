"""What was computed is found again, as much of it as can be, by those it is meant for; what saves least goes first."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nemotron_runtime import SamplingParams, Terms
from nemotron_runtime.config import PAGE_TOKENS
from nemotron_runtime.prefix_cache import Entry, PrefixCache, common_tokens, extend, worth_keeping
from nemotron_runtime.tails import BLOCK, anchor_behind
from tests.builders.scripted_executor import ScriptedExecutor, a_ledger, a_request, an_engine, answer_to, play
from tests.builders.streams import generate, start

pytestmark = pytest.mark.unit

TINY = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
ONE = SamplingParams(max_tokens=1, ignore_eos=True)
MODULE = pytest.mark.parametrize("recomputed", [1, 2], ids=["without-a-module", "with-a-module"])
"""Tokens at the end of a prompt that are computed in any case; a module needs one more."""


def some_tokens(count: int, seed: int = 0) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(5, 61) for _ in range(count)]


def an_entry(tokens: Sequence[int], salt: str = "", slot: int = 0, pages: int = 0) -> Entry:
    chain: list[bytes] = []
    extend(chain, tokens, salt)
    return Entry(tuple(tokens), tuple(chain), slot, tuple(range(pages)), anchor_behind(len(tokens)), len(tokens))


def digests(tokens: Sequence[int], salt: str = "") -> list[bytes]:
    chain: list[bytes] = []
    extend(chain, tokens, salt)
    return chain


def agreeing(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


# Texts that begin alike: a stem, cut somewhere, and a few letters more.
TEXTS = st.builds(
    lambda stem, more: [*([7] * stem), *more], st.integers(0, 90), st.lists(st.integers(7, 8), min_size=1, max_size=40)
)


@given(
    kept=st.lists(st.tuples(TEXTS, st.sampled_from(["", "s"])), max_size=8),
    asked=TEXTS,
    salt=st.sampled_from(["", "s"]),
    short=st.integers(0, 1),
)
def test_a_hit_is_the_longest_cut_that_any_entry_allows(
    kept: list[tuple[list[int], str]], asked: list[int], salt: str, short: int
) -> None:
    cache = PrefixCache(1000, 100)
    for tokens, of in kept:
        cache.add(an_entry(tokens, of))

    hit = cache.find(asked, digests(asked, salt), short=short).hit

    alike = [tokens for tokens, of in kept if of == salt]
    cuts = [min(agreeing(tokens, asked), len(asked) - 1) - short for tokens in alike]
    usable = [cut for cut, tokens in zip(cuts, alike, strict=True) if cut >= max(1, anchor_behind(len(tokens)))]
    assert (hit.tokens if hit else 0) == max(usable, default=0)


@given(one=TEXTS, other=TEXTS, salts=st.tuples(st.sampled_from("ab"), st.sampled_from("ab")))
def test_what_two_texts_share_is_found_by_their_digests(
    one: list[int], other: list[int], salts: tuple[str, str]
) -> None:
    alike = agreeing(one, other) if salts[0] == salts[1] else 0

    assert common_tokens(one, other, (digests(one, salts[0]), digests(other, salts[1]))) == alike


@given(texts=st.lists(TEXTS, max_size=6), gone=st.randoms(use_true_random=False))
def test_a_cache_that_lost_all_its_entries_remembers_nothing(texts: list[list[int]], gone: random.Random) -> None:
    cache = PrefixCache(1000, 100)
    entries = [an_entry(tokens) for tokens in texts]
    for entry in entries:
        cache.add(entry)

    gone.shuffle(entries)
    for entry in entries:
        cache.remove(entry)

    assert len(cache) == len(list(cache)) == 0
    for tokens in texts:
        found = cache.find(tokens, digests(tokens))
        assert (found.hit, found.junction) == (None, 0)


def test_what_saves_least_per_byte_goes_first_unless_it_was_of_use() -> None:
    # given slots of 10 pages' worth: per byte, the short text saves least
    cache = PrefixCache(slot_bytes=1000, page_bytes=100)
    short, middle, long = (
        an_entry(some_tokens(length, seed=length), pages=-(-length // PAGE_TOKENS)) for length in (20, 60, 200)
    )
    for entry in (long, short, middle):
        cache.add(entry)

    assert cache.cheapest(()) is short
    assert cache.cheapest([short]) is middle
    # when it goes, the clock moves on: what is of use from now on stands above what was not for long
    cache.remove(short)
    for _ in range(50):
        entry = an_entry(some_tokens(20, seed=1))
        cache.add(entry)
        cheapest = cache.cheapest(())
        assert cheapest is not None
        cache.remove(cheapest)
        if cheapest is long:
            break
    assert cheapest is long


@MODULE
def test_the_first_repeat_of_a_prompt_computes_its_end_alone(recomputed: int) -> None:
    engine = an_engine(ScriptedExecutor(has_module=recomputed == 2))
    prompt = some_tokens(100)

    answers = generate(engine, [prompt], ONE) + generate(engine, [prompt], ONE)

    stats = engine.stats()
    assert answers == [answer_to(prompt, 1)] * 2
    assert stats.prefix_hit_tokens == 100 - recomputed
    assert stats.prompt_tokens == 100 + recomputed
    engine.close()


@MODULE
@pytest.mark.parametrize("more_than_run", [False, True])
def test_a_prompt_that_is_sent_many_times_at_once_is_computed_once(recomputed: int, more_than_run: bool) -> None:
    engine = an_engine(ScriptedExecutor(has_module=recomputed == 2), running=4, slots=6, prefill_tokens=48)
    prompt, count = some_tokens(150), 12 if more_than_run else 4

    answers = generate(engine, [prompt] * count, SamplingParams(max_tokens=7, ignore_eos=True))

    assert answers == [answer_to(prompt, 7)] * count
    assert engine.stats().prompt_tokens == 150 + (count - 1) * recomputed
    engine.close()


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)


@MODULE
def test_the_next_turn_of_a_chat_that_thinks_reuses_all_through_the_last_user_message(
    words: PreTrainedTokenizerFast, recomputed: int
) -> None:
    # given a template that ends prompts in an open thought, and renders past ones empty
    def prompt(messages: list[dict[str, str]]) -> list[int]:
        text: str = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return [token % 56 + 5 for token in words.encode(text)]

    engine = an_engine(ScriptedExecutor(has_module=recomputed == 2), slots=6, pages=200)
    chat = [{"role": "system", "content": "You answer in one sentence."}]
    known = 0
    for turn in range(4):
        chat.append({"role": "user", "content": f"What about question {turn}, which is " + "long " * 9 * turn})
        tokens, before = prompt(chat), engine.stats()
        user_message = len(prompt(chat)) - len(words.encode("<|im_start|>assistant\n<think>\n"))

        (answer,) = generate(engine, [tokens], SamplingParams(max_tokens=25, ignore_eos=True))

        # then all that the turn before had up to its answer was there
        hit = engine.stats().prefix_hit_tokens - before.prefix_hit_tokens
        assert known <= hit < len(tokens)
        assert answer == answer_to(tokens, 25)
        chat.append({"role": "assistant", "reasoning_content": "Hm.", "content": f"Answer {turn}."})
        known = user_message
    assert known > 300
    engine.close()


@MODULE
def test_an_answer_that_goes_on_reuses_the_slot_of_the_one_that_ended(recomputed: int) -> None:
    engine = an_engine(ScriptedExecutor(has_module=recomputed == 2))
    prompt = some_tokens(50)
    (answer,) = generate(engine, [prompt], SamplingParams(max_tokens=40, ignore_eos=True))

    # when the text goes on where it ended, whose last token nobody computed
    generate(engine, [[*prompt, *answer, 5, 6]], ONE)

    assert engine.stats().prefix_hit_tokens == 50 + 40 - recomputed
    engine.close()


def test_where_texts_part_is_noted_on_second_sight_and_used_on_the_third() -> None:
    # given three texts of a stem that ends amid a block, each long enough to have its states after it
    engine = an_engine(ScriptedExecutor(), slots=8, pages=200)
    stem = some_tokens(3 * BLOCK + 5)
    hits = []
    for turn in range(3):
        before = engine.stats().prefix_hit_tokens
        generate(engine, [[*stem, *some_tokens(60, seed=turn + 1)]], ONE)
        hits.append(engine.stats().prefix_hit_tokens - before)

    assert hits == [0, 0, 3 * BLOCK]
    engine.close()


@given(prompts=st.lists(TEXTS, min_size=1, max_size=5), seed=st.integers(0, 9))
def test_another_salt_never_hits(prompts: list[list[int]], seed: int) -> None:
    ledger, executor = a_ledger(slots=8, pages=200), ScriptedExecutor()
    for number, prompt in enumerate(prompts):
        ledger.add(a_request(number, prompt, 5, Terms(salt=f"salt {number}")))
        play(ledger, executor, 12)

    stats = ledger.stats(0.0)
    assert not ledger.all()
    assert stats.prefix_hit_tokens == 0
    assert stats.prompt_tokens == sum(map(len, prompts))


@MODULE
@pytest.mark.parametrize("salt", ["", "s"])
def test_a_prompt_that_needs_every_page_takes_them_from_kept_prefixes(salt: str, recomputed: int) -> None:
    engine = an_engine(ScriptedExecutor(has_module=recomputed == 2), running=2, slots=6, pages=10)
    for seed in range(5):
        generate(engine, [some_tokens(40, seed)], ONE)
    long = some_tokens(10 * PAGE_TOKENS - 1, seed=9)

    stream = start(engine, long, ONE, Terms(salt=salt))

    assert stream.tokens() == answer_to(long, 1)
    assert engine.stats().preemptions == 0
    engine.close()


@pytest.mark.parametrize(
    ("prompt", "places"),
    [
        pytest.param([5] * 300, [300], id="no-messages"),
        pytest.param([*[5] * 99, 11, *[5] * 100], [200, 100], id="a-system-message-and-more"),
        pytest.param([*[5] * 20, 11, *[5] * 100], [121], id="a-short-system-message"),
        pytest.param([*[5] * 99, 11, *[5] * 20], [120], id="little-after-the-first-message"),
        pytest.param([*[5] * 99, 11, *[5] * 99, 11, *[5] * 100], [300, 100], id="the-first-of-several"),
    ],
)
def test_where_a_prompts_state_is_kept_on_first_sight(prompt: list[int], places: list[int]) -> None:
    assert worth_keeping(prompt, {2, 11}) == places
