"""A kept prefix is found by whoever shares it, up to the last common token inside its tail; what saves least goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.prefix_cache import Entry, PrefixCache, extend, worth_keeping
from nemotron_runtime.tails import BLOCK, anchor_behind

pytestmark = pytest.mark.unit

TEXT = list(range(1000, 1300))


def chain(tokens: list[int], salt: str = "") -> list[int]:
    hashes: list[int] = []
    extend(hashes, tokens, salt)
    return hashes


def kept(cache: PrefixCache, tokens: list[int], *, slot: int = 0, salt: str = "") -> Entry:
    """The prefix, kept as a sequence leaves it."""
    pages = tuple(range(-(-len(tokens) // 16)))
    entry = Entry(tuple(tokens), chain(tokens, salt), slot, pages, anchor_behind(len(tokens)), len(tokens))
    cache.add(entry)
    return entry


def a_cache() -> PrefixCache:
    return PrefixCache(slot_bytes=1 << 20, page_bytes=1 << 12)


def found(cache: PrefixCache, tokens: list[int], salt: str = "") -> int:
    """How many tokens a prompt need not compute."""
    hit = cache.find(tokens, chain(tokens, salt)).hit
    return hit.tokens if hit else 0


@given(length=st.integers(1, 200), shared=st.integers(0, 220))
def test_a_prompt_goes_on_where_it_parts_from_a_kept_one_inside_its_tail(length: int, shared: int) -> None:
    cache, shared = a_cache(), min(shared, length)
    kept(cache, TEXT[:length])

    reused = found(cache, [*TEXT[:shared], 7, 7, 7])

    assert reused == (shared if shared >= anchor_behind(length) else 0)


def test_the_same_prompt_again_computes_its_last_token() -> None:
    cache = a_cache()
    kept(cache, TEXT[:100])

    assert found(cache, TEXT[:100]) == 99


def test_the_longest_of_several_is_found() -> None:
    cache = a_cache()
    for length in (20, 150, 90, 140):
        kept(cache, TEXT[:length])

    assert found(cache, TEXT[:145]) == 144
    assert found(cache, [*TEXT[:92], 7]) == 90
    assert found(cache, TEXT) == 150


def test_another_salt_finds_nothing() -> None:
    cache = a_cache()
    kept(cache, TEXT[:100], salt="a")

    assert (found(cache, TEXT, salt="a"), found(cache, TEXT, salt="b"), found(cache, TEXT)) == (100, 0, 0)


def test_equal_hashes_do_not_make_other_tokens_equal() -> None:
    cache, other = a_cache(), [*TEXT[:50], 7, *TEXT[51:100]]
    entry = kept(cache, TEXT[:100])

    assert cache.find(other, entry.chain).hit is None


@given(common=st.integers(0, 120))
def test_where_prompts_part_beyond_any_state_is_a_junction(common: int) -> None:
    cache = a_cache()
    kept(cache, TEXT[:200])
    prompt = [*TEXT[:common], *[7] * 50]

    assert cache.find(prompt, chain(prompt)).junction == common // BLOCK * BLOCK


def test_what_saves_least_per_byte_goes_first_and_use_counts() -> None:
    cache = a_cache()
    short, long = kept(cache, [1] * 20), kept(cache, [2] * 200)
    assert cache.cheapest(()) is short

    cache.remove(short)
    newer = kept(cache, [3] * 30)
    # the clock has moved on to what was thrown away, which the long one still outweighs
    assert cache.cheapest(()) is newer
    assert cache.cheapest({newer}) is long
    assert cache.cheapest({newer, long}) is None


def test_an_old_entry_goes_before_a_new_one_of_less_worth_in_the_end() -> None:
    cache = a_cache()
    old = kept(cache, [1] * 100)
    for number in range(2, 12):
        entry = kept(cache, [number] * 60)
        if cache.cheapest(()) is old:
            return
        cache.remove(entry)

    pytest.fail("an entry that nobody uses stays for ever")


def test_nothing_is_left_of_what_was_removed() -> None:
    cache = a_cache()
    entries = [kept(cache, TEXT[:length]) for length in (20, 100, 150)]

    for entry in entries:
        cache.remove(entry)

    assert (len(cache), list(cache)) == (0, [])
    assert (found(cache, TEXT), cache.find(TEXT, chain(TEXT)).junction) == (0, 0)


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
