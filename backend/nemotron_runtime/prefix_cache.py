"""Remember computed prefixes: which tokens, and the slot and pages that hold what is known after them.

A state says all about a whole prefix and nothing about a part of it, so it is kept at chosen places: where prompts
end, where an answer ends, and where conversations were seen to part. Any cut between its anchor and its end is one
more prefix it serves (see `tails`). Which entry goes first when room is short: GreedyDual-Size (Cao and Irani, 1997)
with the tokens saved per byte held, so that the clock moves on with what is thrown away.
"""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from nemotron_runtime.tails import BLOCK, RING

WORTH_A_STATE = 4 * BLOCK
"""Tokens that a state of its own, or waiting for one that another request is about to keep, should save at least."""

Chain = Sequence[bytes]
"""One digest for each whole block of tokens and all before it; the first stands for no tokens at all.

Nobody finds two texts of one digest, so that equal digests are equal tokens, however long, without a look at them.
"""

DIGEST_BYTES = 16


@dataclass(slots=True, eq=False)
class Entry:
    """A kept prefix; it holds its slot and pages until it is evicted."""

    tokens: tuple[int, ...]
    chain: Chain
    slot: int
    pages: tuple[int, ...]
    anchor: int
    written: int
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """The longest usable part of an entry: its first `tokens` tokens."""

    entry: Entry
    tokens: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a prompt."""

    hit: Hit | None
    junction: int
    """Where it parts from prompts seen before, in whole blocks, if no state is kept there yet; else 0."""


def extend(chain: list[bytes], tokens: Sequence[int], salt: str) -> None:
    """Add the digests of the blocks of `tokens` that the chain does not reach yet; another salt gives others."""
    if not chain:
        chain.append(_digest(salt.encode("utf-8", "surrogatepass")))
    for start in range((len(chain) - 1) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
        chain.append(_digest(chain[-1] + array("I", tokens[start : start + BLOCK]).tobytes()))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def common_tokens(one: Sequence[int], other: Sequence[int], chains: tuple[Chain, Chain]) -> int:
    """How many first tokens two sequences share; none if their salts differ."""
    if chains[0][0] != chains[1][0]:
        return 0
    known = common_blocks(*chains) * BLOCK
    most = min(len(one), len(other))
    return next((place for place in range(known, most) if one[place] != other[place]), most)


def common_blocks(one: Chain, other: Chain) -> int:
    """How many first blocks two sequences share: they are equal up to somewhere, and nowhere after."""
    shorter = range(1, min(len(one), len(other)))
    return bisect_left(shorter, True, key=lambda depth: one[depth] != other[depth])


def worth_keeping(prompt: Sequence[int], message_ends: Collection[int]) -> list[int]:
    """Where to keep a prompt's state when it is seen first, in falling order.

    At its end, which is near the end of its last message; and at the end of its first one, which is the system's and
    begins many conversations, if both that and what follows are worth a state. `message_ends` are token ids.
    """
    end = len(prompt)
    first = next((place for place, token in enumerate(prompt, 1) if token in message_ends), end)
    return [end, first] if WORTH_A_STATE <= first <= end - WORTH_A_STATE else [end]


class PrefixCache:
    """The entries, by the digest of the blocks before their anchors. It decides; whoever calls moves the memory."""

    def __init__(self, slot_bytes: int, page_bytes: int) -> None:
        self._slot_bytes = slot_bytes
        self._page_bytes = page_bytes
        self._count = 0
        self._entries: dict[bytes, list[Entry]] = defaultdict(list)
        self._blocks: Counter[bytes] = Counter()
        self._clock = 0.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entries in self._entries.values() for entry in entries)

    def find(self, tokens: Sequence[int], chain: Chain, *, short: int = 0) -> Found:
        """What helps to compute `tokens`, of which at least the last one is computed in any case.

        `short`: how many tokens before a cut must be computed again by whoever goes on from it.
        """
        best: Hit | None = None
        known = self._known(chain)
        for depth in range(known, -1, -1):
            for entry in self._entries.get(chain[depth], ()):
                cut = _common(entry.tokens, tokens, entry.anchor) - short
                if cut >= max(1, entry.anchor) and (best is None or cut > best.tokens):
                    best = Hit(entry, cut)
            if best and best.tokens + short >= depth * BLOCK + RING:
                break
        junction = known * BLOCK
        return Found(
            best, junction if junction > (best.tokens + short if best else 0) and junction < len(tokens) else 0
        )

    def _known(self, chain: Chain) -> int:
        """How many blocks some entry has, too: what has a block has all before it."""
        return bisect_left(range(1, len(chain)), True, key=lambda depth: chain[depth] not in self._blocks)

    def add(self, entry: Entry) -> None:
        self._count += 1
        self._entries[entry.chain[entry.anchor // BLOCK]].append(entry)
        self._blocks.update(entry.chain[1:])
        self.touch(entry)

    def touch(self, entry: Entry) -> None:
        """Note that an entry was of use."""
        entry.value = self.value(len(entry.tokens), len(entry.pages))

    def value(self, tokens: int, pages: int) -> float:
        """What an entry is worth if it is used now: tokens saved per mebibyte held, on top of the clock."""
        return self._clock + tokens / (self._slot_bytes + pages * self._page_bytes + 1) * 2**20

    def covers(self, tokens: Sequence[int], chain: Chain) -> bool:
        """Whether an entry already ends just here."""
        near = chain[-1 - RING // BLOCK :]
        entries = (entry for block in near for entry in self._entries.get(block, ()))
        return any(len(entry.tokens) == len(tokens) and entry.tokens == tuple(tokens) for entry in entries)

    def cheapest(self, spared: Collection[Entry]) -> Entry | None:
        """The entry that is missed least among those not spared."""
        return min((entry for entry in self if entry not in spared), key=lambda entry: entry.value, default=None)

    def remove(self, entry: Entry) -> None:
        self._count -= 1
        self._clock = max(self._clock, entry.value)
        key = entry.chain[entry.anchor // BLOCK]
        self._entries[key].remove(entry)
        if not self._entries[key]:
            del self._entries[key]
        for block in entry.chain[1:]:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]


def _common(kept: Sequence[int], tokens: Sequence[int], anchor: int) -> int:
    """How many first tokens agree, all but the last at most, given that those before the anchor do."""
    most = min(len(kept), len(tokens) - 1)
    return next((place for place in range(anchor, most) if kept[place] != tokens[place]), most)
