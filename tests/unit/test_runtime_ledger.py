"""The books balance under any order of arrivals, steps, ends and aborts: nothing leaks, nothing is lent twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nemotron_runtime import SamplingParams
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.pools import Pool
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Budget

pytestmark = pytest.mark.unit

SLOTS, PAGES = 3, 20
BUDGET = Budget(prefill_tokens=8, page_tokens=4)


class LedgerMachine(RuleBasedStateMachine):
    """Plays the engine, with the executor left out."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(SLOTS, PAGES, BUDGET)
        self.submitted = 0

    @rule(prompt=st.integers(1, 30), max_tokens=st.integers(1, 30))
    def submit(self, prompt: int, max_tokens: int) -> None:
        self.submitted += 1
        sampling = SamplingParams(max_tokens=max_tokens)
        self.ledger.add(Request(self.submitted, prompt, [7] * prompt, sampling, frozenset(), lambda event: None))

    @rule(tokens=st.integers(1, 5))
    def step(self, tokens: int) -> None:
        for _ in range(tokens):
            step = self.ledger.next_step()
            self.ledger.advance(step)
            for piece in step.slices:
                if piece.is_last:
                    self.ledger.append(piece.request, 7)
                    if piece.request.finish_reason:
                        self.ledger.release([piece.request])

    @precondition(lambda self: self.ledger.all())
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.ledger.release(data.draw(st.lists(st.sampled_from(self.ledger.all()), unique_by=id)))

    @invariant()
    def units_are_lent_once(self) -> None:
        leases = [request.held for request in self.ledger.running]
        slots, pages = [lease.slot for lease in leases], [page for lease in leases for page in lease.pages]
        stats = self.ledger.stats(0.0)
        assert len(set(slots)) == len(slots) == stats.state_slots_used == stats.running
        assert len(set(pages)) == len(pages) == stats.kv_pages_used
        assert set(slots) <= set(range(SLOTS))
        assert set(pages) <= set(range(1, PAGES + 1)), "page 0 is nobody's"

    @invariant()
    def a_running_request_has_pages_for_every_token_it_may_have(self) -> None:
        for request in self.ledger.running:
            assert len(request.tokens) <= request.most_tokens <= len(request.held.pages) * BUDGET.page_tokens

    @invariant()
    def those_who_wait_hold_nothing(self) -> None:
        assert all(request.lease is None for request in self.ledger.waiting)

    def teardown(self) -> None:
        """Whatever happened, everyone who is left can be served to the end, and then all units are free."""
        for _ in range(1000):
            if not self.ledger.all():
                break
            self.step(1)
        stats = self.ledger.stats(0.0)
        assert (stats.running, stats.waiting, stats.state_slots_used, stats.kv_pages_used) == (0, 0, 0, 0)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_pool_lends_each_unit_once() -> None:
    pool = Pool(3, first=1)

    taken = pool.take(2)

    assert taken == (1, 2)
    assert (pool.free, pool.used) == (1, 2)
    with pytest.raises(ValueError, match="asked for 2 units, but only 1 of 3 are free"):
        pool.take(2)


def test_a_pool_takes_back_only_what_it_lent() -> None:
    pool = Pool(3)
    taken = pool.take(1)
    pool.give_back(taken)

    with pytest.raises(KeyError):
        pool.give_back(taken)
    assert pool.free == 3
