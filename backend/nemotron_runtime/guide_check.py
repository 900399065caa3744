"""Compile guides in a process of its own, for some of them crash or hang the library that does it.

One JSON object a line: {"kind", "text"} in, {"grammar"} or {"error"} out. It ends with its input. Run as a script.
"""

import json
import re
import resource
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

STACK_BYTES: Final = 2 << 20
"""Of whoever compiles here. A server's threads have more: what passes here overflows none of their stacks."""

MEMORY_BYTES: Final = 1 << 30
"""That this process may map: a guide that takes more ends it, not the server."""

NO_WAY_ON: Final = ("NoExtension", "NoExtensionBias")

QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*"|/(?![/*])(?:\\.|[^/\\\n])+/|//[^\n]*|#[^\n]*')


def _grammar(text: str) -> str:
    # Intersections and complements are the one thing that the library's limits per step do not bound.
    if found := re.search("[&~]", QUOTED.sub("", text)):
        raise ValueError(f"{found.group()} (intersection or complement of terminals) is not served: write it out")
    return str(_library().grammar_from("grammar", text))


def _choice(text: str) -> str:
    found = json.loads(text)
    if not isinstance(found, list) or not found or not all(isinstance(each, str) and each for each in found):
        raise ValueError('a choice is a JSON list of texts, as ["yes", "no"]')
    return str(_library().grammar_from("choice", text))


def _schema(text: str) -> str:
    # Blanks are free, but not without end: a model that likes them would never come to the next word.
    spaced = {"whitespace_flexible": True, "whitespace_pattern": r"[ \n\r\t]{1,20}"}
    return str(_library().LLMatcher.grammar_from_json_schema(text, defaults=spaced))


KINDS: Final[Mapping[str, Callable[[str], str]]] = {
    "json": lambda text: _schema('{"type": "object"}'),
    "json_schema": _schema,
    "regex": lambda text: str(_library().grammar_from("regex", text)),
    "ebnf_grammar": _grammar,
    "choice": _choice,
}
"""How a guide of each kind becomes a grammar of the library's. Each may raise ValueError."""


def _library() -> Any:
    import llguidance

    return llguidance


def _limits() -> Any:
    return _library().LLParserLimits(verbose_errors=False)


def checked(kind: str, text: str) -> dict[str, str]:
    """{"grammar"}, or {"error"} with the library's sentence."""
    try:
        grammar = KINDS[kind](text)
    except (ValueError, RecursionError) as error:
        return {"error": sentence(str(error))}
    library = _library()
    matcher = library.LLMatcher(library.LLTokenizer("byte"), grammar, log_level=0, limits=_limits())
    found = wrong(matcher)
    if not found:
        matcher.compute_bitmask()
        found = wrong(matcher)
    return {"error": found} if found else {"grammar": grammar}


def wrong(matcher: Any) -> str:
    """Why a matcher cannot go on although its text is not complete; empty where it can."""
    error = sentence(str(matcher.get_error())) if matcher.is_error() else ""
    is_dead = matcher.stop_reason() in NO_WAY_ON and not matcher.is_accepting()
    return "no text goes on from here and follows it" if is_dead or error in NO_WAY_ON else error


def sentence(text: str) -> str:
    """The library's message in one line, without what its authors look for in it."""
    return " ".join(text.removesuffix("<non-verbose/>").split())[:300]


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(checked(asked["kind"], asked["text"])), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
