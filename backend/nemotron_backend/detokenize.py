"""Turn token ids into text as they come, in whole characters."""

from collections.abc import Callable, Sequence
from typing import Final

UNDECIDED: Final = "\N{REPLACEMENT CHARACTER}"
"""What a decoder shows for bytes that are no character, perhaps because the rest of it is still to come."""

# A UTF-8 character has at most four bytes, so at most three of them can wait for the last one.
UNDECIDED_MAX: Final = 3
CONTEXT_TOKENS: Final = 4
WINDOW_TOKENS: Final = 32


class Detokenizer:
    """The text of a growing list of token ids; with a byte-level tokenizer the pieces joined are `decode` of all ids.

    Only a window of the latest tokens is decoded again, so the cost of a token does not grow with the answer.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._emitted = 0
        """Characters of the window's text already returned."""

    def push(self, ids: Sequence[int]) -> str:
        """The text that became certain with `ids`."""
        self._window.extend(ids)
        text = self._decode(self._window)
        undecided = _undecided(text)
        certain = len(text) - undecided
        piece = text[self._emitted : certain]
        self._emitted = max(self._emitted, certain)
        if len(self._window) > WINDOW_TOKENS:
            self._forget(undecided)
        return piece

    def _forget(self, undecided: int) -> None:
        """Keep the tokens that a next one can still change, and one before them."""
        context = self._window[-CONTEXT_TOKENS:]
        shown = len(self._decode(context))
        if shown >= undecided:
            self._window, self._emitted = context, shown - undecided

    def flush(self) -> str:
        """What is left when no token follows: bytes that never became a character, shown as U+FFFD."""
        piece = self._decode(self._window)[self._emitted :]
        self._emitted += len(piece)
        return piece


def _undecided(text: str) -> int:
    """How many characters at the end of `text` the next token may still change."""
    tail = text[-UNDECIDED_MAX:]
    return len(tail) - len(tail.rstrip(UNDECIDED))
