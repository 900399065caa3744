"""Read a generation request out of its tensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import SamplingParams

Tensors = Mapping[str, NDArray[Any]]

RULES: Final[tuple[tuple[str, Callable[[float], bool], str], ...]] = (
    ("max_tokens", lambda value: value >= 1, "at least 1"),
    ("temperature", lambda value: math.isfinite(value) and value >= 0, "a finite number, 0 or more"),
    ("top_k", lambda value: value >= 0, "0 for all tokens, or more"),
    ("top_p", lambda value: 0 < value <= 1, "more than 0 and at most 1"),
)
"""What a sampling tensor must satisfy; a NaN satisfies nothing."""

SAMPLING: Final = ("max_tokens", "temperature", "top_k", "top_p", "seed", "ignore_eos")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What one client asks for. `prompt` is text still to be tokenized, or token ids."""

    prompt: str | tuple[int, ...]
    sampling: SamplingParams
    stream: bool = False
    stop_words: tuple[str, ...] = ()
    echo_prompt: bool = False


def parse(tensors: Tensors, parameters: Mapping[str, object]) -> GenerationRequest:
    """Read `tensors` (see nemotron_api.tensors). Raises InvalidRequest with what to change."""
    if parameters:
        raise InvalidRequest(
            f"unknown request parameter {', '.join(map(repr, sorted(parameters)))}: "
            "every setting is an input tensor; the model's metadata lists them"
        )
    return GenerationRequest(
        prompt=_prompt(tensors),
        sampling=_sampling(tensors),
        stream=bool(_scalar(tensors, "stream", False)),
        stop_words=_stop_words(tensors),
        echo_prompt=not _scalar(tensors, "exclude_input_in_output", True),
    )


def _prompt(tensors: Tensors) -> str | tuple[int, ...]:
    given = [name for name in ("text_input", "input_ids") if name in tensors]
    if len(given) != 1:
        found = "both are" if given else "neither is"
        raise InvalidRequest(f"give the prompt as text_input or as input_ids; {found} there")
    if given == ["input_ids"]:
        prompt: str | tuple[int, ...] = tuple(tensors["input_ids"].ravel().tolist())
    else:
        prompt = _text("text_input", _scalar(tensors, "text_input", b""))
    if not prompt:
        raise InvalidRequest(f"the prompt is empty: {given[0]} must hold at least one token")
    return prompt


def _sampling(tensors: Tensors) -> SamplingParams:
    given = {name: _scalar(tensors, name, None) for name in SAMPLING if name in tensors}
    for name, holds, demand in RULES:
        if name in given and not holds(given[name]):
            raise InvalidRequest(f"{name} must be {demand}; it is {given[name]}")
    return SamplingParams(**given)


def _stop_words(tensors: Tensors) -> tuple[str, ...]:
    words = tuple(_text("stop_words", word) for word in tensors.get("stop_words", np.empty(0)).ravel())
    if "" in words:
        raise InvalidRequest("stop_words holds an empty text, which would end every answer at once: leave it out")
    return words


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
