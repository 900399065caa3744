"""Read a generation request out of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest
from nemotron_api.tensors import ALIASES
from nemotron_runtime import Guide, SamplingParams

Tensors = Mapping[str, NDArray[Any]]
Named = TypeVar("Named")

SAMPLING: Final = (
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "ignore_eos",
)
"""Tensors that are fields of SamplingParams under their own names; the engine checks them."""

PROMPTS: Final = ("text_input", "input_ids")
GUIDE: Final = ("guided_decoding_guide_type", "guided_decoding_guide")
GUIDES_WITHOUT_TEXT: Final = ("json",)
MOST_ANSWERS: Final = 16


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What one client asks for. `prompt` is text still to be tokenized, or token ids."""

    prompt: str | tuple[int, ...]
    sampling: SamplingParams
    """All of it that needs no tokenizer."""
    stream: bool = False
    stop_words: tuple[str, ...] = ()
    include_stop_words: bool = False
    echo_prompt: bool = False
    answers: int = 1
    resumed: tuple[int, ...] = ()
    """Tokens of the answer that the client has already."""
    bad_words: tuple[str, ...] = ()
    bias_words: tuple[tuple[str, float], ...] = ()
    reasoning_budget: int | None = None
    """Tokens to think."""


def parse(tensors: Tensors, parameters: Mapping[str, object]) -> GenerationRequest:
    """Read `tensors` (see nemotron_api.tensors). Raises InvalidRequest with what to change."""
    if parameters:
        raise InvalidRequest(
            f"unknown request parameter {', '.join(map(repr, sorted(parameters)))}: "
            "every setting is an input tensor; the model's metadata lists them"
        )
    tensors = _by_one_name(tensors)
    _refuse_beams(tensors)
    budget = int(_scalar(tensors, "reasoning_budget", -1))
    sampling = _sampling(tensors)
    return GenerationRequest(
        prompt=_prompt(tensors),
        sampling=sampling,
        stream=bool(_scalar(tensors, "stream", False)),
        stop_words=_words(tensors, "stop_words"),
        include_stop_words=bool(_scalar(tensors, "include_stop_str_in_output", False)),
        echo_prompt=not _scalar(tensors, "exclude_input_in_output", True),
        answers=_answers(tensors, sampling),
        resumed=_resumed(tensors),
        bad_words=_words(tensors, "bad_words"),
        bias_words=_pairs(tensors, _words(tensors, "embedding_bias_words"), "embedding_bias_weights"),
        reasoning_budget=None if budget < 0 else budget,
    )


def _by_one_name(tensors: Tensors) -> Tensors:
    """`tensors` without aliases; an empty alias is absent, for clients that must send every input."""
    named = {name: array for name, array in tensors.items() if name not in ALIASES}
    for alias, name in ALIASES.items():
        if alias in tensors and tensors[alias].size:
            if name in named:
                raise InvalidRequest(f"{alias} is another name of {name}: give one of them")
            named[name] = tensors[alias]
    return named


def _refuse_beams(tensors: Tensors) -> None:
    if (width := _scalar(tensors, "beam_width", 1)) != 1:
        raise InvalidRequest(f"beam_width must be 1, for there is no beam search; it is {width}")


def _prompt(tensors: Tensors) -> str | tuple[int, ...]:
    prompts: dict[str, str | tuple[int, ...]] = {
        "text_input": _text("text_input", _scalar(tensors, "text_input", b"")),
        "input_ids": _ids(tensors, "input_ids"),
    }
    given = [name for name in PROMPTS if name in tensors]
    filled = [name for name in given if prompts[name]]
    if len(filled) == 1:
        return prompts[filled[0]]
    if not filled and given:
        raise InvalidRequest(f"the prompt is empty: {given[0]} must hold at least one token")
    found = "both are" if filled else "neither is"
    raise InvalidRequest(f"give the prompt as text_input or as input_ids; {found} there")


def _sampling(tensors: Tensors) -> SamplingParams:
    given = {name: _scalar(tensors, name, None) for name in SAMPLING if name in tensors}
    return SamplingParams(
        **given,
        # Clients that must send something for every input send a negative id for none.
        stop_ids=frozenset(token for token in _ids(tensors, "end_id") if token >= 0),
        logit_bias=_pairs(tensors, _ids(tensors, "logit_bias_ids"), "logit_bias_values"),
        guide=_guide(tensors),
        logprobs=_logprobs(tensors, "return_log_probs", "top_n_log_probs"),
        prompt_logprobs=_logprobs(tensors, "return_prompt_log_probs", "top_n_prompt_log_probs"),
    )


def _guide(tensors: Tensors) -> Guide | None:
    kind, text = (_text(name, _scalar(tensors, name, b"")) for name in GUIDE)
    if text and not kind:
        raise InvalidRequest(f"{GUIDE[1]} is there and {GUIDE[0]} is not: say what kind of guide it is")
    if kind and not text and kind not in GUIDES_WITHOUT_TEXT:
        raise InvalidRequest(f"{GUIDE[0]} is {kind!r:.40} and {GUIDE[1]} empty: send the guide, too")
    # Clients that must send every input send empty ones for none.
    return Guide(kind, text) if kind else None


def _logprobs(tensors: Tensors, asked: str, likeliest: str) -> int | None:
    """How many of the likeliest tokens to tell; None where no log-probabilities are asked for."""
    count = int(_scalar(tensors, likeliest, 0))
    if _scalar(tensors, asked, False):
        return count
    if count:
        raise InvalidRequest(f"{likeliest} is {count} and {asked} false: set it, or leave both out")
    return None


def _answers(tensors: Tensors, sampling: SamplingParams) -> int:
    count = int(_scalar(tensors, "num_return_sequences", 1))
    if not 1 <= count <= MOST_ANSWERS:
        raise InvalidRequest(f"num_return_sequences must be from 1 to {MOST_ANSWERS}; it is {count}")
    if count > 1 and sampling.temperature == 0:
        raise InvalidRequest(f"{count} answers at temperature 0 would be {count} times the same: set a temperature")
    if count > 1 and _ids(tensors, "resume_ids"):
        raise InvalidRequest("one answer is resumed at a time: give its own seed, and num_return_sequences 1")
    return count


def _resumed(tensors: Tensors) -> tuple[int, ...]:
    """They are read as text before the engine looks at them, and no tokenizer takes what is negative."""
    ids = _ids(tensors, "resume_ids")
    for position, token in enumerate(ids):
        if token < 0:
            raise InvalidRequest(f"resume_ids holds {token} at position {position}: give output_ids as they came")
    return ids


def _ids(tensors: Tensors, name: str) -> tuple[int, ...]:
    return tuple(tensors[name].ravel().tolist()) if name in tensors else ()


def _words(tensors: Tensors, name: str) -> tuple[str, ...]:
    words = tuple(_text(name, word) for word in tensors.get(name, np.empty(0)).ravel())
    if "" in words:
        raise InvalidRequest(f"{name} holds an empty text, which is everywhere: leave it out")
    return words


def _pairs(tensors: Tensors, named: tuple[Named, ...], numbers: str) -> tuple[tuple[Named, float], ...]:
    values = tensors[numbers].ravel().tolist() if numbers in tensors else []
    if len(values) != len(named):
        raise InvalidRequest(f"{numbers} holds {len(values)} numbers for {len(named)} biases: give one for each")
    return tuple(zip(named, values, strict=True))


def _scalar(tensors: Tensors, name: str, default: Any) -> Any:
    if name not in tensors:
        return default
    if tensors[name].size != 1:
        raise InvalidRequest(f"{name} must hold exactly one value; it holds {tensors[name].size}")
    return tensors[name].item()


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{name} is not valid UTF-8: byte 0x{value[error.start]:02x} at offset {error.start}"
        ) from error
