"""Let a finished engine generate, from text to text, before anybody relies on it."""

import queue
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from nemotron_api.errors import RequestError, SmokeFailed
from nemotron_build.checkpoint import TOKENIZER
from nemotron_runtime import Engine, SamplingParams, TokenEvent, open_engine

PROMPT = "Hello"
TOKENS = 8
SECONDS_PER_TOKEN = 600.0
"""Far beyond any step of a model that can serve; only an engine that hangs takes so long."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine answered: greedy, so anybody can repeat it."""

    prompt: str
    tokens: tuple[int, ...]
    text: str


def generate(directory: Path) -> Generation:
    """Open the engine in `directory` and let it go on from a short prompt; raises SmokeFailed."""
    tokenizer = _tokenizer(directory / TOKENIZER)
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False).ids
    if not prompt:
        raise SmokeFailed(f"{TOKENIZER} turns {PROMPT!r} into no tokens: it is not this model's tokenizer")
    engine = open_engine(directory)
    try:
        tokens = _tokens(engine, prompt)
    finally:
        engine.close()
    return Generation(PROMPT, tokens, tokenizer.decode(tokens, skip_special_tokens=False))


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise SmokeFailed(f"{path.name} cannot be read ({error}): replace it in the checkpoint") from error


def _tokens(engine: Engine, prompt: list[int]) -> tuple[int, ...]:
    events: queue.SimpleQueue[TokenEvent] = queue.SimpleQueue()
    tokens: list[int] = []
    try:
        engine.submit(prompt, SamplingParams(max_tokens=TOKENS, ignore_eos=True), events.put)
        while True:
            event = events.get(timeout=SECONDS_PER_TOKEN)
            if event.token is not None:
                tokens.append(event.token)
            if event.finish_reason == "length":
                return tuple(tokens)
            if event.finish_reason is not None:
                raise SmokeFailed(f"the engine ended with {event.finish_reason} after {len(tokens)}: {event.error}")
    except RequestError as error:
        raise SmokeFailed(f"the engine refused the prompt {PROMPT!r}: {error}") from error
    except queue.Empty:
        raise SmokeFailed(f"the engine gave {len(tokens)} tokens and then none for {SECONDS_PER_TOKEN:.0f} s") from None
