"""Lend slots and pages to sequences, and to the prefixes that are kept for as long as nobody else needs the room."""

from array import array
from collections import Counter
from collections.abc import Collection, Sequence

from nemotron_runtime.moves import ClearPages, ClearSlot, CopyPage, CopySlot, Move
from nemotron_runtime.pools import Pool
from nemotron_runtime.prefix_cache import Chain, Entry, Hit, PrefixCache
from nemotron_runtime.request import Lease
from nemotron_runtime.tails import BLOCK


class Holdings:
    """Both pools and the prefix cache. Whoever takes asked first; kept prefixes make room, `spared` ones last."""

    def __init__(self, slots: int, pages: int, page_tokens: int, cache: PrefixCache) -> None:
        self.slots = Pool(slots)
        # Page 0 is nobody's, see `Memory`.
        self.pages = Pool(pages, first=1)
        self.cache = cache
        self._page_tokens = page_tokens
        self._entries_of: Counter[int] = Counter()
        self._only_kept: set[int] = set()

    def free_slots(self, spared: Collection[Entry]) -> int:
        return self.slots.free + len(self.cache) - len(spared)

    @property
    def kept_pages(self) -> int:
        """Pages that only kept prefixes hold."""
        return len(self._only_kept)

    def free_pages(self, spared: Collection[Entry]) -> tuple[int, int]:
        """Pages that are free or would be without the entries that are not spared, and without those that are."""
        wanted = {page for entry in spared for page in entry.pages} & self._only_kept
        return self.pages.free + len(self._only_kept) - len(wanted), len(wanted)

    def pages_freed_by(self, lease: Lease, spared: Collection[Entry]) -> int:
        """At least how many pages are free, or kept by entries that are not spared, once the lease ends."""
        kept = {page for entry in spared for page in entry.pages}
        return sum(page not in kept and self.pages.holders(page) - self._entries_of[page] == 1 for page in lease.pages)

    def lend(self, hit: Hit | None, spared: Collection[Entry]) -> tuple[Lease, list[Move]]:
        """A slot for a new sequence, with what the hit knows already."""
        slot = self._take_slot(spared)
        if hit is None:
            return Lease(slot, array("q")), [ClearSlot(slot)]
        entry, shared = hit.entry, hit.tokens // self._page_tokens
        pages = array("q", entry.pages[:shared])
        self.pages.share(pages)
        self._recount(pages)
        moves: list[Move] = [CopySlot(entry.slot, slot)]
        if hit.tokens % self._page_tokens:
            pages.extend(self._take_pages(1, spared))
            moves.append(CopyPage(entry.pages[shared], pages[-1], hit.tokens % self._page_tokens))
        self.cache.touch(entry)
        return Lease(slot, pages, entry.anchor, entry.written), moves

    def grow(self, lease: Lease, tokens: int, spared: Collection[Entry] = ()) -> list[Move]:
        """Pages for this many tokens in all."""
        missing = -(-tokens // self._page_tokens) - len(lease.pages)
        if missing <= 0:
            return []
        pages = self._take_pages(missing, spared)
        lease.pages.extend(pages)
        return [ClearPages(pages)]

    def end(self, lease: Lease) -> None:
        self.slots.give_back([lease.slot])
        self.pages.give_back(lease.pages)
        self._recount(lease.pages)

    def keep(self, lease: Lease, tokens: Sequence[int], hashes: Chain) -> list[Move]:
        """Keep what a running sequence knows after `tokens`, if that is worth more than what has to go for it."""
        pages = lease.pages[: -(-len(tokens) // self._page_tokens)]
        if self.cache.covers(tokens, hashes):
            return []
        if not self.slots.free:
            cheapest = self.cache.cheapest(())
            if cheapest is None or cheapest.value >= self.cache.value(len(tokens), len(pages)):
                return []
            self._evict(cheapest)
        (slot,) = self.slots.take(1)
        self.pages.share(pages)
        self._add(Entry(tuple(tokens), hashes, slot, tuple(pages), lease.anchor, lease.written))
        return [CopySlot(lease.slot, slot)]

    def donate(self, lease: Lease, tokens: Sequence[int], hashes: Chain) -> None:
        """End a lease, and keep what it knows after `tokens` where it lies."""
        used = -(-len(tokens) // self._page_tokens)
        if len(tokens) < BLOCK or self.cache.covers(tokens, hashes):
            self.end(lease)
            return
        self.pages.give_back(lease.pages[used:])
        self._add(Entry(tuple(tokens), hashes, lease.slot, tuple(lease.pages[:used]), lease.anchor, lease.written))

    def _take_slot(self, spared: Collection[Entry]) -> int:
        while not self.slots.free:
            self._evict_cheapest(spared)
        return self.slots.take(1)[0]

    def _take_pages(self, count: int, spared: Collection[Entry]) -> list[int]:
        while self.pages.free < count:
            self._evict_cheapest(spared)
        return self.pages.take(count)

    def _evict_cheapest(self, spared: Collection[Entry]) -> None:
        entry = self.cache.cheapest(spared) or self.cache.cheapest(())
        if entry is None:
            raise ValueError("a unit was promised that is not there: the scheduler and the pools disagree")
        self._evict(entry)

    def _add(self, entry: Entry) -> None:
        self.cache.add(entry)
        self._entries_of.update(entry.pages)
        self._recount(entry.pages)

    def _evict(self, entry: Entry) -> None:
        self.cache.remove(entry)
        self.slots.give_back([entry.slot])
        self.pages.give_back(entry.pages)
        self._entries_of.subtract(entry.pages)
        self._recount(entry.pages)

    def _recount(self, pages: Sequence[int]) -> None:
        """See again which of the pages only entries hold."""
        for page in pages:
            if self._entries_of[page] and self._entries_of[page] == self.pages.holders(page):
                self._only_kept.add(page)
            else:
                self._only_kept.discard(page)
