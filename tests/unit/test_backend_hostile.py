"""Whatever a client sends that has the contract's types is answered, or refused as its own fault: nothing breaks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest
from nemotron_api.tensors import ANY, INPUTS, OUTPUTS, Tensor
from nemotron_backend import bounds, response, wishes
from nemotron_backend.request import GenerationRequest, parse
from nemotron_backend.service import Service
from nemotron_backend.stream import Call
from nemotron_backend.vocabulary import Vocabulary
from nemotron_runtime import SamplingParams, Sink, Terms, TokenEvent
from nemotron_runtime.check import check
from nemotron_runtime.request import Request
from nemotron_runtime.sampler import choose
from nemotron_runtime.types import DEFAULT_TERMS
from tests.builders.byte_level import byte_level
from tests.builders.choices import some_logits
from tests.builders.service import RecordedReply, ScriptedEngine

pytestmark = pytest.mark.unit

LIMIT = 40
TOKENIZER = byte_level("<think>", "</think>")
VOCABULARY = TOKENIZER.get_vocab_size()
NUMPY: Mapping[str, Any] = {
    "BYTES": np.object_,
    "BOOL": np.bool_,
    "INT32": np.int32,
    "UINT64": np.uint64,
    "FP32": np.float32,
}
HALF_A_CHARACTER, SURROGATE = "∎".encode()[:2], b"\xed\xa0\x80"
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "BYTES": st.sampled_from([b"a", b"", b"\x00", b"\xff", HALF_A_CHARACTER, SURROGATE, b" ", "é∎".encode()])
    | st.text(max_size=9).map(str.encode),
    "BOOL": st.booleans(),
    "INT32": st.sampled_from([0, 1, 2, 3, 5, -1, 255, 258, 2**31 - 1, -(2**31)]) | st.integers(0, 300),
    "UINT64": st.sampled_from([0, 1, 2**63, 2**64 - 1]),
    "FP32": st.sampled_from([0.0, 1.0, 0.5, -0.5, 2.0, 1e-45, 3.4e38, -3.4e38, float("nan"), float("inf"), -1e6]),
}
SHAPES = st.sampled_from([(1,)] * 9 + [(0,), (2,), (3,), (), (1, 1), (2, 2), (0, 3)])


def arrays(tensor: Tensor) -> st.SearchStrategy[NDArray[Any]]:
    kind = NUMPY[tensor.datatype]

    def filled(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[Any]]:
        size = int(np.prod(shape))
        values = st.lists(VALUES[tensor.datatype], min_size=size, max_size=size)
        # With something else behind them, as numpy would make one array of equally long bytes.
        return values.map(lambda found: np.array([*found, None], np.object_)[:-1].astype(kind).reshape(shape))

    return SHAPES.flatmap(filled)


BY_NAME = {tensor.name: tensor for tensor in INPUTS}
REQUESTS = st.lists(st.sampled_from(sorted(BY_NAME)), max_size=6, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: arrays(BY_NAME[name]) for name in names})
)
PROMPTS = st.sampled_from(
    [
        {"text_input": np.array([b"hi"], np.object_)},
        {"input_ids": np.array([104, 105], np.int32)},
        {"text_input": np.array(["né∎".encode()], np.object_), "max_tokens": np.array([12], np.int32)},
        {},
    ]
)
ANY_TEXT = st.text(st.characters(codec=None), max_size=8)
"""Lone surrogates, too, which JSON can spell and UTF-8 cannot."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)
PARAMETERS = st.dictionaries(st.sampled_from(sorted(wishes.RULES)) | ANY_TEXT, JSON, max_size=3)


class Bytes:
    """The tokenizer whose tokens are bytes."""

    vocabulary = Vocabulary(TOKENIZER)

    def encode(self, text: str, limit: int) -> list[int]:
        return list(TOKENIZER.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(TOKENIZER.decode(list(ids), skip_special_tokens=True))


@dataclass
class ChoosingEngine(ScriptedEngine):
    """Refuses as the engine does, and chooses each token from logits that say nothing."""

    requests: list[Request] = field(default_factory=list)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        sink: Sink,
        *,
        resumed: Sequence[int] = (),
        terms: Terms = DEFAULT_TERMS,
    ) -> int:
        sampling = sampling.ending_with([0])
        check(prompt, sampling, resumed=resumed, vocab_size=VOCABULARY, max_sequence_tokens=LIMIT)
        for text in (terms.salt, terms.client):
            text.encode()
        request = Request(len(self.requests) + 1, len(prompt), [*prompt, *resumed], sampling, sink, terms)
        self.requests.append(request)
        while request.finish_reason is None or request.generated == len(resumed):
            (chosen,) = choose(some_logits(1, request.generated, VOCABULARY), [request.choice()])
            request.tokens.append(chosen.token)
            sink(TokenEvent(request.id, chosen.token, request.finish_reason, logprobs=chosen.logprobs))
        return request.id

    def abort(self, request_id: int) -> None: ...


def asked(tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Callable[[], Call]:
    """What the server's side makes of a request of these."""

    def read() -> Call:
        wanted, rest = wishes.take(json.loads(json.dumps(parameters)))

        def generation() -> GenerationRequest:
            bounds.check(tensors, LIMIT)
            return parse(tensors, rest)

        return Call(generation, wanted)

    return read


def answered(tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> RecordedReply:
    reply = RecordedReply()
    service = Service(ChoosingEngine(), Bytes(), LIMIT, lambda: False)
    service.admit(asked(tensors, parameters), reply)
    assert reply.ended.wait(30)
    service.close()
    assert reply.lasts == 1
    return reply


def is_sound(reply: RecordedReply) -> None:
    """It has its answers, all of them finished and of the contract's types; or it is told what it did wrong."""
    for error in reply.errors:
        assert type(error) is InvalidRequest, f"{error.reason}: {error}"
        str(error).encode()
    kinds = {tensor.name: tensor.datatype for tensor in OUTPUTS}
    for chunk in reply.chunks:
        for name, array in response.tensors(chunk).items():
            assert array.dtype == NUMPY[kinds[name]]
    if not reply.errors:
        last = {chunk.sequence_index: chunk for chunk in reply.chunks}
        assert last
        assert all(chunk.finish_reason in ("stop", "length") for chunk in last.values())
        assert all(chunk.completion_tokens <= LIMIT for chunk in last.values())


@settings(max_examples=400, deadline=None)
@given(prompt=PROMPTS, tensors=REQUESTS, parameters=st.just({}) | PARAMETERS)
@example(prompt={}, tensors={"text_input": np.array([SURROGATE], np.object_)}, parameters={})
@example(prompt={"input_ids": np.array([9])}, tensors={"resume_ids": np.array([5, -1])}, parameters={})
@example(prompt={"input_ids": np.array([9])}, tensors={}, parameters={"salt": "\ud800"})
@example(prompt={"input_ids": np.array([9])}, tensors={}, parameters={"tracestate": "\udfff"})
def test_every_request_gets_one_answer_or_one_refusal(
    prompt: dict[str, NDArray[Any]], tensors: dict[str, NDArray[Any]], parameters: dict[str, Any]
) -> None:
    is_sound(answered(prompt | tensors, parameters))


def one(values: st.SearchStrategy[Any], kind: Any) -> st.SearchStrategy[NDArray[Any]]:
    return values.map(lambda value: np.array([value], kind))


COMMON = st.fixed_dictionaries(
    {"temperature": one(st.just(0.9), np.float32), "max_tokens": one(st.integers(1, 12), np.int32)},
    optional={
        "num_return_sequences": one(st.integers(1, 4), np.int32),
        "stream": one(st.booleans(), np.bool_),
        "stop_words": st.lists(st.text("aé∎ ", min_size=1, max_size=2).map(str.encode), min_size=1, max_size=3).map(
            lambda words: np.array(words, np.object_)
        ),
        "include_stop_str_in_output": one(st.booleans(), np.bool_),
        "resume_ids": st.lists(st.sampled_from([*"aé∎".encode(), 256]), max_size=8).map(
            lambda ids: np.array(ids, np.int32)
        ),
        "return_log_probs": one(st.booleans(), np.bool_),
        "top_n_log_probs": one(st.integers(0, 3), np.int32),
        "min_tokens": one(st.integers(0, 5), np.int32),
        "repetition_penalty": one(st.just(1.5), np.float32),
        "reasoning_budget": one(st.integers(-1, 4), np.int32),
        "exclude_input_in_output": one(st.booleans(), np.bool_),
        "seed": one(VALUES["UINT64"], np.uint64),
    },
)


@settings(max_examples=200, deadline=None)
@given(tensors=COMMON)
def test_what_is_asked_for_comes_in_every_combination(tensors: dict[str, NDArray[Any]]) -> None:
    reply = answered({"text_input": np.array(["né".encode()], np.object_)} | tensors, {})

    is_sound(reply)
    wants_logprobs = bool(tensors.get("return_log_probs", [False])[0])
    for chunk in reply.chunks:
        assert (chunk.logprobs is not None) == wants_logprobs
        assert len(chunk.logprobs or ()) == (len(chunk.token_ids) if wants_logprobs else 0)
    if not reply.errors:
        answers = int(tensors.get("num_return_sequences", [1])[0])
        assert {chunk.sequence_index for chunk in reply.chunks} == (set(range(answers)) if answers > 1 else {None})


@pytest.mark.parametrize(
    "name", [tensor.name for tensor in INPUTS if tensor.datatype == "BYTES" and tensor.dims == (ANY,)]
)
def test_a_million_words_are_refused_before_one_is_read(name: str) -> None:
    (error,) = answered({"input_ids": np.array([9]), name: np.full(10**6, b"\xff", np.object_)}, {}).errors

    assert str(error).startswith(f"{name} holds 1000000 texts, at most 64")
