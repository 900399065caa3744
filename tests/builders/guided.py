"""Generate answers under guides, with a model that is a function of the tokens before."""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
import torch
from hypothesis import strategies as st
from torch import Tensor

from nemotron_runtime import Guide, SamplingParams
from nemotron_runtime.grammar import Grammar
from nemotron_runtime.guides import LibraryGuides
from nemotron_runtime.sampler import Choice, choose
from tests.builders.byte_level import byte_level

THINK, UNTHINK, EOS = 256, 257, 258
VOCABULARY = 261
"""Of the model: two tokens more than the tokenizer has."""
PROMPT = (*b"Q:",)
LIKED = b'{}[]",:abc019 true'


def some_guides() -> LibraryGuides:
    return LibraryGuides(byte_level("<think>", "</think>", "<end>").to_str(), VOCABULARY, frozenset({EOS}))


def the_logits(tokens: Sequence[int]) -> Tensor:
    """(1, v): likes what JSON is made of, and an end."""
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(zlib.crc32(str(tokens).encode())))
    logits[0, list(LIKED)] += 2
    logits[0, EOS] += 5
    return logits


@dataclass(frozen=True, slots=True)
class Made:
    """An answer: its tokens and why it ended."""

    tokens: tuple[int, ...]
    reason: str

    @property
    def text(self) -> str:
        return bytes(token for token in self.tokens if token < 256).decode(errors="replace")


def answer(
    guides: LibraryGuides,
    sampling: SamplingParams,
    prompt: Sequence[int] = PROMPT,
    resumed: Sequence[int] = (),
    watch: Callable[[Grammar], None] = lambda grammar: None,
) -> Made:
    """What an engine makes of it: the whole answer, `resumed` tokens included."""
    sampling = sampling.ending_with([EOS])
    grammar = guides.grammar(sampling, prompt, resumed)
    watch(grammar)
    tokens = [*prompt, *resumed]
    while True:
        (chosen,) = choose(the_logits(tokens), [Choice(sampling, tuple(tokens), len(prompt), grammar=grammar)])
        if chosen.failure:
            return Made(tuple(tokens[len(prompt) :]), chosen.failure)
        tokens.append(chosen.token)
        made = tuple(tokens[len(prompt) :])
        if chosen.token in sampling.stop_ids or grammar.is_complete(tokens):
            return Made(made, "stop")
        if len(made) == sampling.max_tokens:
            return Made(made, "length")


def schemas(depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Small JSON schemas, each with answers that end."""
    leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-20, 20),
            st.integers(0, 99),
        ),
        st.builds(
            lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
            st.integers(0, 2),
            st.integers(0, 4),
        ),
        st.builds(
            lambda values: {"enum": values},
            st.lists(st.sampled_from([1, "é", None, True, "ab"]), min_size=1, max_size=3, unique_by=repr),
        ),
        st.builds(lambda pattern: {"type": "string", "pattern": f"^{pattern}$"}, st.sampled_from(["a+b?", "[0-9]{2}"])),
    )
    return leaves if depth == 0 else st.one_of(leaves, _objects(depth), _arrays(depth))


def _objects(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    def built(properties: dict[str, Any], needed: int) -> dict[str, Any]:
        required = sorted(properties)[:needed]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    keys = st.sampled_from(["a", "b", "né"])
    return st.builds(built, st.dictionaries(keys, schemas(depth - 1), max_size=3), st.integers(0, 3))


def _arrays(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, most: {"type": "array", "items": items, "maxItems": most}, schemas(depth - 1), st.integers(0, 3)
    )


def regexes() -> st.SearchStrategy[str]:
    """Small expressions that Python and the library read alike."""
    atoms = st.sampled_from(["a", "[bc]", "(?:ab|c)", "[0-9]", "é", r"\.", "[^x]"])
    pieces = st.builds(str.__add__, atoms, st.sampled_from(["", "", "?", "+", "*", "{1,3}"]))
    sequences = st.lists(pieces, min_size=1, max_size=4).map("".join)
    return st.lists(sequences, min_size=1, max_size=2).map("|".join)


def follows(guide: Guide, text: str) -> bool:
    """Whether a whole answer has its form, by others than the library that was to hold it to that."""
    if guide.kind == "regex":
        return re.fullmatch(guide.text, text) is not None
    if guide.kind == "choice":
        return text in json.loads(guide.text)
    schema = json.loads(guide.text) if guide.kind == "json_schema" else {"type": "object"}
    jsonschema.validate(json.loads(text), schema)
    return True


def guides_of_all_kinds() -> st.SearchStrategy[Guide]:
    return st.one_of(
        st.builds(lambda schema: Guide("json_schema", json.dumps(schema)), schemas()),
        st.builds(lambda text: Guide("regex", text), regexes()),
        st.builds(
            lambda texts: Guide("choice", json.dumps(texts)),
            st.lists(st.text('abé\n"', min_size=1, max_size=4), min_size=1, max_size=4),
        ),
        st.just(Guide("json")),
    )
