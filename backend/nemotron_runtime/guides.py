"""Make grammars of the guides that requests bring."""

from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np

from nemotron_api.errors import InvalidRequest
from nemotron_runtime.grammar import Ends, Grammar, Words
from nemotron_runtime.guide_check import KINDS, sentence, wrong
from nemotron_runtime.guide_checker import Checker
from nemotron_runtime.types import Guide, SamplingParams

TOKENIZER: Final = "tokenizer.json"
MOST_BYTES: Final = 64 << 10
"""Of a guide: one of this size compiles in half a second, and its nesting overflows no stack."""
REMEMBERED: Final = 32
"""Compiled guides that are kept for the next request with the same one."""


class Guides(Protocol):
    """Who knows what guides mean."""

    def grammar(self, sampling: SamplingParams, prompt: Sequence[int], resumed: Sequence[int]) -> Grammar:
        """What holds an answer to its guide, after `resumed` tokens of it. Raises InvalidRequest."""

    def close(self) -> None: ...


class NoGuides:
    """Says why there are none."""

    def __init__(self, why: str) -> None:
        self._why = why

    def grammar(self, sampling: SamplingParams, prompt: Sequence[int], resumed: Sequence[int]) -> Grammar:
        raise InvalidRequest(f"this engine cannot follow a guide, for {self._why}: leave the guide out")

    def close(self) -> None:
        """Nothing is open."""


NO_GUIDES: Final = NoGuides("it was opened without a tokenizer")


def open_guides(directory: Path, vocab_size: int, end_ids: frozenset[int]) -> Guides:
    """Guides for the tokenizer that was sealed into an engine, if both it and the library are there.

    The tokenizer is read now: the interpreter stands still for the half second that this takes with 131,072 tokens,
    and so would every stream.
    """
    if not (directory / TOKENIZER).is_file():
        return NoGuides(f"it has no {TOKENIZER}")
    if find_spec("llguidance") is None:
        return NoGuides("the package llguidance is not installed")
    if not end_ids:
        return NoGuides("its model has no token that ends a text")
    return LibraryGuides((directory / TOKENIZER).read_text(encoding="utf-8"), vocab_size, end_ids)


class LibraryGuides:
    """llguidance's. Safe for threads."""

    def __init__(self, tokenizer: str, vocab_size: int, end_ids: frozenset[int]) -> None:
        """`tokenizer` is the JSON of the tokenizers library; the model's vocabulary may be larger than its own."""
        import llguidance

        self._library: Any = llguidance
        self._tokenizer = llguidance.LLTokenizer(tokenizer, n_vocab=vocab_size, eos_token=sorted(end_ids))
        self._ends = _words(end_ids, vocab_size)
        self._checker = Checker()
        self._lock = Lock()
        self._compiled: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def grammar(self, sampling: SamplingParams, prompt: Sequence[int], resumed: Sequence[int]) -> Grammar:
        if (guide := sampling.guide) is None:
            raise ValueError("the request has no guide")
        matcher = self._matcher(guide)
        ends = Ends(self._ends, sampling.ignore_eos)
        grammar = Grammar(matcher.deep_copy, ends, prompt, guide.start_id, guide.end_id)
        tokens = [*prompt, *resumed]
        if (place := grammar.first_wrong(tokens)) is not None:
            raise InvalidRequest(
                f"resumed token {tokens[place]} at position {place - len(prompt)} is not what the guide allows there: "
                "resume with the guide that the answer began with"
            )
        if resumed and grammar.is_complete(tokens):
            raise InvalidRequest("the resumed tokens are a whole answer by the guide: there is nothing to go on with")
        return grammar

    def close(self) -> None:
        self._checker.close()

    def _matcher(self, guide: Guide) -> Any:
        """A compiled guide at its start, to be copied."""
        key = guide.kind, guide.text
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
        matcher = self._compile(guide)
        with self._lock:
            self._compiled[key] = matcher
            while len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        return matcher

    def _compile(self, guide: Guide) -> Any:
        if guide.kind not in KINDS:
            raise InvalidRequest(f"guide type {guide.kind!r:.40} is unknown: use {', '.join(KINDS)}")
        if (size := len(guide.text.encode())) > MOST_BYTES:
            raise InvalidRequest(f"the guide has {size} bytes, at most {MOST_BYTES} may be: shorten it")
        grammar = self._checker.grammar(guide.kind, guide.text)
        limits = self._library.LLParserLimits(verbose_errors=False)
        matcher = self._library.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if not wrong(matcher):
            # Some guides turn out to be too much with this vocabulary, or to leave no token, only here.
            matcher.compute_bitmask()
        if error := wrong(matcher):
            raise InvalidRequest(f"the guide is no {guide.kind} that can be followed: {sentence(error)}")
        return matcher


def _words(ids: frozenset[int], vocab_size: int) -> Words:
    """The tokens as a mask."""
    bits = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    bits[sorted(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)
