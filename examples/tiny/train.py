"""Train the demo model: `python -m examples.tiny.train`, one core, no download, a fixed seed.

The backbone is trained first, then the draft module on the frozen backbone.
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import NemotronHForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from examples.tiny import corpus, evaluate, model, storage, tokenizer

WARMUP_STEPS = 50
DECAY_SHARE = 0.6  # the last part of the steps, over which the learning rate falls to nothing
CONVERSATION_SHARE = 0.3
FROM_THE_START = 0.25  # of the passages; the others begin anywhere
BALANCE_RATE = 2e-3
MTP_DEPTH = 2
REPORT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Run:
    """What one training run is made of; equal runs on equal text and libraries give equal weights."""

    steps: int = 3600
    mtp_steps: int = 600
    rows: int = 4
    tokens: int = 256
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Documents:
    """Token sequences to draw from, each closed by the end-of-text token."""

    passages: list[Tensor]
    conversations: list[Tensor]

    def batch(self, draw: random.Random, rows: int, tokens: int) -> Tensor:
        """(rows, tokens) token ids; every row begins with a fresh document, as a request does."""
        return torch.stack([self._row(draw, tokens) for _ in range(rows)])

    def _row(self, draw: random.Random, tokens: int) -> Tensor:
        parts: list[Tensor] = []
        while sum(map(len, parts)) < tokens:
            parts.append(self._document(draw))
        return torch.cat(parts)[:tokens]

    def _document(self, draw: random.Random) -> Tensor:
        if draw.random() < CONVERSATION_SHARE:
            return draw.choice(self.conversations)
        passage = draw.choice(self.passages)
        return passage if draw.random() < FROM_THE_START else passage[draw.randrange(len(passage)) :]


def documents(text: corpus.Corpus, words: PreTrainedTokenizerFast) -> Documents:
    """Passages as they are; each conversation once with reasoning and once without."""

    def encode(string: str) -> Tensor:
        return torch.tensor([*words.encode(string), tokenizer.EOS])

    def chat(question: str, answer: str, reasoning: str) -> Tensor:
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, "reasoning_content": reasoning},
        ]
        return encode(words.apply_chat_template(turns, tokenize=False))

    thoughts = ("", "The user asks about {}.")
    talks = [chat(q, a, thought.format(subject)) for subject, q, a in text.conversations for thought in thoughts]
    return Documents([encode(passage) for passage in text.passages], talks)


class Balancer:
    """Keep the experts evenly used by moving the routers' selection bias, without a loss term.

    After each step the bias of an expert that got less than the mean rises by `rate`, that of one that got more
    falls (Wang et al., "Auxiliary-Loss-Free Load Balancing", 2024).
    """

    def __init__(self, rate: float, *modules: nn.Module) -> None:
        self.rate = rate
        self.chosen: dict[Any, Tensor] = {}
        for router in model.routers(*modules):
            router.register_forward_hook(lambda router, _, output: self.chosen.update({router: output[2]}))

    @torch.no_grad()
    def update(self) -> None:
        for router, experts in self.chosen.items():
            load = torch.bincount(experts.flatten(), minlength=router.num_experts).float()
            router.e_score_correction_bias += self.rate * torch.sign(load.mean() - load)


def optimise(
    name: str, module: nn.Module, steps: int, learning_rate: float, loss: Callable[[], Tensor], note: Callable[[], str]
) -> None:
    """Take `steps` steps on `loss`, printing its running mean in bits per byte, and `note`."""
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))
    )
    balancer = Balancer(BALANCE_RATE, module)
    began, mean = time.monotonic(), None
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        balancer.update()
        bits = value.item() / math.log(2)
        mean = bits if mean is None else 0.95 * mean + 0.05 * bits
        if step % REPORT_EVERY == 0 or step == steps:
            print(f"{name} {step}/{steps} {time.monotonic() - began:.0f} s: {mean:.3f} bits/byte {note()}", flush=True)


def train_backbone(run: Run, text: corpus.Corpus, words: PreTrainedTokenizerFast) -> NemotronHForCausalLM:
    net, source, draw = model.build().train(), documents(text, words), random.Random(run.seed)

    def loss() -> Tensor:
        ids = source.batch(draw, run.rows, run.tokens + 1)
        return cross_entropy(net(ids[:, :-1], use_cache=False).logits.flatten(0, 1), ids[:, 1:].flatten())

    def note() -> str:
        return f"(held out {evaluate.bits_per_byte(net, words, text.held_out):.3f})"

    optimise("backbone", net, run.steps, run.learning_rate, loss, note)
    return net.eval()


def train_mtp(
    run: Run, net: NemotronHForCausalLM, text: corpus.Corpus, words: PreTrainedTokenizerFast
) -> model.MultiTokenPrediction:
    mtp, source, draw = model.MultiTokenPrediction(net.config).train(), documents(text, words), random.Random(run.seed)

    def loss() -> Tensor:
        ids = source.batch(draw, run.rows, run.tokens + 1)
        with torch.no_grad():
            hidden = net.model(ids, use_cache=False).last_hidden_state
            embedded = net.model.embeddings(ids)
        losses = []
        for depth in range(1, MTP_DEPTH + 1):  # each deeper draft starts from the one before it
            hidden = mtp(hidden[:, :-1], embedded[:, depth:])
            logits = net.lm_head(hidden[:, :-1])
            losses.append(cross_entropy(logits.flatten(0, 1), ids[:, depth + 1 :].flatten()))
        return torch.stack(losses).mean()

    optimise("draft", mtp, run.mtp_steps, run.learning_rate, loss, lambda: "")
    return mtp.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("checkpoint"))
    parser.add_argument("--steps", type=int, default=Run().steps)
    parser.add_argument("--mtp-steps", type=int, default=Run().mtp_steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()  # says at every start that no Mamba kernel is installed for the CPU
    run = Run(steps=options.steps, mtp_steps=options.mtp_steps)
    torch.manual_seed(run.seed)
    text, words = corpus.read(), tokenizer.build()
    print(f"{run}\ntext {text.digest}")
    net = train_backbone(run, text, words)
    mtp = train_mtp(run, net, text, words)
    storage.save(net, mtp, words, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
