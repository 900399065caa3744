"""Keep what transformers computes on the trained model, for machines that don't have it.

`python -m tests.builders.golden` writes tests/fixtures/golden.safetensors anew.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.builders.checkpoints import an_oracle, oracle_logits
from tests.builders.exactness import CLEAR_MARGIN_SIGMAS

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
FILE = Path(__file__).parents[1] / "fixtures" / "golden.safetensors"

PLACES = ((0, 1), (7, 5), (90, 16), (200, 17), (350, 48), (30, 270))
"""Where in a text the prompts begin, and how long they are."""
NEW_TOKENS = 25


@dataclass(frozen=True, slots=True)
class Golden:
    """A prompt, the greedy answer of transformers in FP32, its dt clamp corrected, and the logits it came from."""

    prompt: tuple[int, ...]
    answer: list[int]
    logits: Tensor
    """FP32 (NEW_TOKENS, vocabulary)."""


def prompts() -> list[tuple[int, ...]]:
    """Pieces of a text, as bytes after the 16 special tokens."""
    text = (TRAINED / "chat_template.jinja").read_bytes()
    return [tuple(16 + byte for byte in text[start : start + length]) for start, length in PLACES]


def goldens() -> list[Golden]:
    """What is kept."""
    kept = load_file(FILE)
    return [Golden(prompt, kept[f"{i}"].argmax(-1).tolist(), kept[f"{i}"]) for i, prompt in enumerate(prompts())]


def computed() -> list[Golden]:
    """The same, computed by transformers. Raises ValueError where a choice is too close to be the same elsewhere."""
    oracle = an_oracle(TRAINED)
    found = []
    for prompt in prompts():
        answer: list[int] = []
        for _ in range(NEW_TOKENS):
            answer.append(int(oracle_logits(oracle, [*prompt, *answer])[-1].argmax()))
        logits = oracle_logits(oracle, [*prompt, *answer])[len(prompt) - 1 : -1]
        _refuse_close_calls(prompt, logits)
        found.append(Golden(prompt, answer, logits))
    return found


def _refuse_close_calls(prompt: tuple[int, ...], logits: Tensor) -> None:
    best = logits.topk(2, dim=-1).values
    if bool((best[:, 0] - best[:, 1] <= 10 * CLEAR_MARGIN_SIGMAS * logits.std(-1)).any()):
        raise ValueError(f"the answer to the prompt of {len(prompt)} tokens is a close call: take another piece")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_file({f"{i}": golden.logits.contiguous() for i, golden in enumerate(computed())}, FILE)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")
