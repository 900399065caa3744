"""The books balance under any order of arrivals, steps, ends and aborts: nothing leaks, nothing is lent twice."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nemotron_runtime import SamplingParams, Terms
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.moves import ClearPages, ClearSlot, CopyPage, CopySlot, Move, Park, Resume
from nemotron_runtime.pools import Pool
from nemotron_runtime.prefix_cache import Chain, Found, PrefixCache
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Budget, Slice

pytestmark = pytest.mark.unit

SLOTS, PAGES, PAGE_TOKENS, LONGEST = 4, 7, 16, 100
BUDGET = Budget(prefill_tokens=24, page_tokens=PAGE_TOKENS, running=3)


class Contents:
    """Stands for the memory: what was written where, token by token, as an executor would have it."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[int, ...]] = {}
        self.pages: dict[int, dict[int, tuple[int, ...]]] = {}

    def move(self, move: Move) -> None:
        match move:
            case ClearSlot(slot):
                self.slots[slot] = ()
            case ClearPages(pages):
                self.pages.update({page: {} for page in pages})
            case CopySlot(source, target):
                self.slots[target] = self.slots[source]
            case CopyPage(source, target, tokens):
                self.pages[target] = {place: self.pages[source][place] for place in range(tokens)}
            case Park(request, slot, pages) if request.parked:
                request.parked.content = self.slots[slot], [dict(self.pages[page]) for page in pages]
            case Resume(request) if request.parked:
                self.slots[request.held.slot], pages = request.parked.content
                for page, content in zip(request.held.pages, pages, strict=False):
                    self.pages[page] = dict(content)
                request.parked = None

    def compute(self, piece: Slice) -> None:
        """Every token must find all tokens before it: in the slot, from the anchor on at least, and in the pages."""
        request, lease = piece.request, piece.lease
        before = tuple(request.tokens[: piece.start])
        assert self.slots[lease.slot][: piece.start] == before, "the state is of other tokens"
        for position in range(piece.start):
            kept = self.pages[lease.pages[position // PAGE_TOKENS]][position % PAGE_TOKENS]
            assert kept == before[: position + 1], "a page holds another sequence's tokens"
        after = (*before, *piece.ids)
        self.slots[lease.slot] = after
        for position in range(piece.start, piece.stop):
            self.pages[lease.pages[position // PAGE_TOKENS]][position % PAGE_TOKENS] = after[: position + 1]


class LedgerMachine(RuleBasedStateMachine):
    """Plays the engine; the model chooses 7 or 8, and drafts are right now and then."""

    budget = BUDGET

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(SLOTS, PAGES, self.budget, PrefixCache(1000, 100))
        self.contents = Contents()
        self.dice = random.Random(0)
        self.submitted = 0

    @rule(
        stem=st.sampled_from([0, 16, 33, 48]),
        prompt=st.integers(1, 30),
        max_tokens=st.integers(1, 22),
        priority=st.integers(0, 2),
        client=st.sampled_from("ab"),
        salt=st.sampled_from(["", "s"]),
        resumed=st.integers(0, 5),
    )
    def submit(
        self, stem: int, prompt: int, max_tokens: int, priority: int, client: str, salt: str, resumed: int
    ) -> None:
        self.submitted += 1
        tokens = [*[5] * stem, *(self.dice.randrange(3) for _ in range(prompt))]
        sampling = SamplingParams(max_tokens=max_tokens)
        terms = Terms(client=client, priority=priority, salt=salt)
        more = [7] * min(resumed, max_tokens - 1)
        request = Request(
            self.submitted, len(tokens), [*tokens, *more], sampling, lambda event: None, terms, stops=[len(tokens)]
        )
        self.ledger.add(request)

    @rule(steps=st.integers(1, 8))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            for request in self.ledger.running:
                most = request.sampling.max_tokens - request.generated - 1
                if request.pending == 1:
                    request.drafts = tuple(self.dice.choices([7, 8], k=self.dice.randint(0, min(4, most))))
            step, moves = self.ledger.next_step()
            self.play(moves)
            for piece in step.slices:
                assert len(piece.lease.pages) >= self.budget.pages(self.budget.reach(piece))
                self.contents.compute(piece)
                chosen = self.chosen(piece)
                self.play(self.ledger.advance(piece, chosen))
                if chosen and piece.request.finish_reason:
                    self.ledger.finish(piece.request)

    def chosen(self, piece: Slice) -> list[int]:
        tokens: list[int] = []
        for draft in (*piece.drafts, None) if piece.is_last else ():
            tokens.append(self.dice.choice([7, 8]))
            if tokens[-1] != draft:
                break
        return tokens

    def play(self, moves: list[Move]) -> None:
        for move in moves:
            self.contents.move(move)

    @precondition(lambda self: self.ledger.all())
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.ledger.release(data.draw(st.lists(st.sampled_from(self.ledger.all()), unique_by=id)))

    @invariant()
    def units_are_lent_to_those_who_hold_them(self) -> None:
        holdings, leases = self.ledger.holdings, [request.held for request in self.ledger.running]
        entries = list(holdings.cache)
        slots = [*(lease.slot for lease in leases), *(entry.slot for entry in entries)]
        pages = Counter(page for lease in leases for page in lease.pages)
        pages.update(page for entry in entries for page in entry.pages)
        assert len(set(slots)) == len(slots) == holdings.slots.used <= SLOTS
        assert len(pages) == holdings.pages.used <= PAGES
        assert all(holdings.pages.holders(page) == count for page, count in pages.items())
        assert 0 not in pages, "page 0 is nobody's"
        assert len(leases) <= BUDGET.running

    @invariant()
    def only_kept_pages_are_those_no_lease_has(self) -> None:
        leased = {page for request in self.ledger.running for page in request.held.pages}
        kept = {page for entry in self.ledger.holdings.cache for page in entry.pages}
        assert self.ledger.holdings.kept_pages == len(kept - leased)
        assert self.ledger.stats(0.0).kv_pages_used == len(leased)

    @invariant()
    def those_who_wait_hold_nothing(self) -> None:
        assert all(request.lease is None for request in self.ledger.waiting)

    def teardown(self) -> None:
        """Whatever happened, everyone who is left can be served to the end, and then all units are free or kept."""
        for _ in range(2000):
            if not self.ledger.all():
                break
            self.step(1)
        stats = self.ledger.stats(0.0)
        assert (stats.running, stats.waiting, stats.state_slots_used, stats.kv_pages_used) == (0, 0, 0, 0)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40)


class DraftingLedgerMachine(LedgerMachine):
    """The same with a draft module, which writes keys and values ahead of what is known."""

    budget = replace(BUDGET, ahead=5)


TestDraftingLedger = DraftingLedgerMachine.TestCase
TestDraftingLedger.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_pool_lends_each_unit_once() -> None:
    pool = Pool(3, first=1)

    taken = pool.take(2)

    assert taken == [1, 2]
    assert (pool.free, pool.used) == (1, 2)
    with pytest.raises(ValueError, match="asked for 2 units, but only 1 of 3 are free"):
        pool.take(2)


@given(st.data())
def test_the_lowest_free_units_are_lent_first_whoever_gave_them_back(data: st.DataObject) -> None:
    pool, lent = Pool(12, first=1), set[int]()

    for count in data.draw(st.lists(st.integers(0, 5), max_size=9)):
        given_back = data.draw(st.permutations(sorted(lent)))[:count]
        pool.give_back(given_back)
        lent -= set(given_back)
        free = sorted(set(range(1, 13)) - lent)
        taken = pool.take(min(count, len(free)))
        assert taken == free[: len(taken)]
        lent |= set(taken)


def test_a_shared_unit_is_free_when_its_last_holder_gave_it_back() -> None:
    pool = Pool(3)
    taken = pool.take(1)
    pool.share(taken)

    pool.give_back(taken)
    assert (pool.free, pool.holders(taken[0])) == (2, 1)
    pool.give_back(taken)

    assert pool.free == 3
    with pytest.raises(ValueError, match="unit 0 is not lent"):
        pool.give_back(taken)
    with pytest.raises(ValueError, match="unit 0 is free"):
        pool.share(taken)


def test_an_engine_is_full_when_as_many_run_as_may() -> None:
    # given slots beside those of running requests, which only kept prefixes may have
    ledger = Ledger(SLOTS, PAGES, BUDGET, PrefixCache(1000, 100))
    for number in range(5):
        ledger.add(Request(number, 1, [number], SamplingParams(max_tokens=4), lambda event: None))

    ledger.next_step()

    stats = ledger.stats(0.0)
    assert (stats.state_slots_used, stats.state_slots_total, stats.waiting) == (BUDGET.running, BUDGET.running, 2)


class Counting(PrefixCache):
    """Counts who is looked up."""

    looked_up = 0

    def find(self, tokens: Sequence[int], chain: Chain, *, short: int = 0) -> Found:
        self.looked_up += 1
        return super().find(tokens, chain, short=short)


def test_a_full_engine_looks_nobody_up() -> None:
    cache = Counting(1000, 100)
    ledger = Ledger(SLOTS, PAGES, BUDGET, cache)
    for number in range(BUDGET.running + 2):
        ledger.add(Request(number, 1, [number], SamplingParams(max_tokens=9), lambda event: None))
    ledger.next_step()
    before = cache.looked_up

    for _ in range(5):
        for piece in ledger.next_step()[0].slices:
            ledger.advance(piece, [7])

    assert before > 0
    assert cache.looked_up == before


def test_prefixes_that_candidates_want_keep_no_place_empty() -> None:
    # given two slots beside those of two running requests, both with a prefix that somebody who waits wants
    ledger = Ledger(3, 40, Budget(24, PAGE_TOKENS, running=2), PrefixCache(1000, 100))
    texts = [[number] * 20 for number in range(3)]
    for number, text in enumerate(texts):
        request = Request(number, 20, list(text), SamplingParams(max_tokens=1), lambda event: None, stops=[20])
        ledger.add(request)
        for piece in ledger.next_step()[0].slices:
            ledger.advance(piece, [7])
        ledger.finish(request)
    for number, text in enumerate(texts):
        ledger.add(Request(10 + number, 22, [*text, 7, 7], SamplingParams(max_tokens=9), lambda event: None))

    ledger.next_step()

    assert ledger.stats(0.0).running > 0
    ledger.next_step()
    assert ledger.stats(0.0).running == 2


def test_pages_that_the_winner_of_a_place_shares_with_the_loser_are_not_counted_as_free() -> None:
    # given a prompt of low priority whose prefix is kept, beside one of high priority, and four pages more
    ledger = Ledger(4, 12, Budget(400, PAGE_TOKENS, running=2), PrefixCache(1000, 100))

    def ask(number: int, tokens: list[int], max_tokens: int, priority: int) -> Request:
        sampling, terms = SamplingParams(max_tokens=max_tokens), Terms(priority=priority)
        request = Request(number, len(tokens), tokens, sampling, lambda event: None, terms, stops=[len(tokens)])
        ledger.add(request)
        return request

    def step() -> None:
        for piece in ledger.next_step()[0].slices:
            ledger.advance(piece, [9] if piece.is_last else [])
            if piece.is_last and piece.request.finish_reason:
                ledger.finish(piece.request)

    ask(1, [5] * 96, 9, priority=0)
    ask(2, [6] * 20, 9, priority=1)
    step()

    # when one of high priority goes on from the kept prefix, with more than four pages hold
    last = ask(3, [*[5] * 96, *[8] * 80], 1, priority=1)
    for _ in range(20):
        step()

    assert last.generated == 1
    assert ledger.all() == ()
