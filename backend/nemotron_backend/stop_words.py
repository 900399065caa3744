"""Find the text that ends an answer, also where it spans several pieces."""

from collections.abc import Sequence


class StopWords:
    """Passes text on until one of `words` begins, or with `included` ends; holds back what may yet become one."""

    def __init__(self, words: Sequence[str], *, included: bool = False) -> None:
        self._words = tuple(words)
        self._included = included
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The part of all text so far, not yet returned, that certainly stands before the end."""
        if self.found:
            return ""
        text = self._held + text
        places = [(start, len(word)) for word in self._words if (start := text.find(word)) >= 0]
        self.found = bool(places)
        if places:
            start, size = min(places)
            self._held = ""
            return text[: start + size * self._included]
        end = len(text) - self._overlap(text)
        self._held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """What was held back, once no text follows."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, text: str) -> int:
        """Length of the longest end of `text` that a stop word begins with."""
        return max((_overlap(text, word) for word in self._words), default=0)


def _overlap(text: str, word: str) -> int:
    longest = min(len(text), len(word) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(word[:size])), 0)
