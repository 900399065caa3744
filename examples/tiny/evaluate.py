"""Measure a checkpoint of the demo model: `python -m examples.tiny.evaluate [folder]`."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from transformers import (
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    NemotronHForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from examples.tiny import corpus, model, storage, tokenizer

PROMPTS = ("The ", "Free software ", "You may copy ", "If the program ")
QUESTION = "What is free software?"
DRAFTS = 4
TEMPERATURE = 0.7
POSITIONS = model.CONFIG["max_position_embeddings"]
HELD_OUT_PROMPT = 64  # bytes of each held-out paragraph that the model goes on from
HELD_OUT_TOKENS = 60


@dataclass(frozen=True, slots=True)
class Choice:
    """How a token is chosen: by noise made of seed and position, which model and drafts share; 0 is greedy."""

    temperature: float = 0.0
    seed: int = 0

    def adjust(self, logits: Tensor, position: int) -> Tensor:
        """(v) logits -> (v) numbers of which the chosen token has the largest (the Gumbel-max trick)."""
        if not self.temperature:
            return logits
        # The generator takes 32 bits, and no sequence of this model is longer than POSITIONS.
        draw = torch.Generator().manual_seed(self.seed * POSITIONS + position)
        uniform = torch.rand(logits.shape[-1], generator=draw, dtype=torch.float64)
        return logits.double() / self.temperature - (-uniform.log()).log()


GREEDY = Choice()


class Chooser(LogitsProcessor):  # type: ignore[misc]
    """A choice as transformers' generation takes it."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.choice.adjust(scores[0], input_ids.shape[1])[None]


@torch.no_grad()
def bits_per_byte(net: NemotronHForCausalLM, words: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Mean over every byte of `texts`, each read from its start after an end-of-text token."""
    nats, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([[tokenizer.EOS, *words.encode(text)]])
        nats += float(cross_entropy(net(ids[:, :-1], use_cache=False).logits[0], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return nats / count / math.log(2)


def complete(
    net: NemotronHForCausalLM, words: PreTrainedTokenizerFast, prompt: str, tokens: int, choice: Choice = GREEDY
) -> Tensor:
    """(prompt + generated) token ids of the continuation."""
    ids = torch.tensor([words.encode(prompt)])
    chooser = LogitsProcessorList([Chooser(choice)])
    both: Tensor = net.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, logits_processor=chooser
    )[0]
    return both


def ask(words: PreTrainedTokenizerFast, question: str, *, enable_thinking: bool) -> str:
    turns = [{"role": "user", "content": question}]
    text: str = words.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
    )
    return text


@torch.no_grad()
def accepted(
    net: NemotronHForCausalLM, mtp: model.MultiTokenPrediction, ids: Tensor, start: int, choice: Choice = GREEDY
) -> Tensor:
    """(positions,) how many of DRAFTS drafts in a row are the continuation `ids`[start:], at each position."""
    hidden = net.model(ids[None], use_cache=False).last_hidden_state
    lengths = []
    for known in range(start + 1, len(ids) - DRAFTS):  # tokens the backbone has already produced
        states, tokens = hidden[:, : known - 1], ids[None, 1:known]
        for depth in range(DRAFTS):
            state = mtp(states, net.model.embeddings(tokens))[:, -1:]
            states = torch.cat([states, state], dim=1)
            token = choice.adjust(net.lm_head(state)[0, 0], known + depth).argmax()
            tokens = torch.cat([tokens, token.view(1, 1)], dim=1)
        matches = tokens[0, known - 1 :] == ids[known : known + DRAFTS]
        lengths.append(int(matches.cumprod(0).sum()))
    return torch.tensor(lengths)


def report_drafts(
    name: str,
    net: NemotronHForCausalLM,
    mtp: model.MultiTokenPrediction,
    words: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    tokens: int,
    choice: Choice,
) -> None:
    """Print the share of positions at which the first 1 ... DRAFTS drafts are all right, and tokens per step."""
    lengths = []
    for prompt in prompts:
        ids = complete(net, words, prompt, tokens, choice)
        lengths.append(accepted(net, mtp, ids, len(words.encode(prompt)), choice))
    every = torch.cat(lengths)
    depths = range(1, DRAFTS + 1)
    shares = [f"{float((every >= depth).float().mean()):.2f}" for depth in depths]
    steps = [f"{1 + float(every.clamp(max=depth).float().mean()):.2f}" for depth in depths]
    print(f"{name}: {len(every)} positions, drafts accepted {' '.join(shares)}, tokens a step {' '.join(steps)}")


@torch.no_grad()
def smallest_time_steps(net: NemotronHForCausalLM, words: PreTrainedTokenizerFast, text: str) -> list[float]:
    """The smallest time step each Mamba layer takes on `text`."""
    smallest: list[float] = []
    for mixer in model.mamba_mixers(net):
        mixer.in_proj.register_forward_hook(
            lambda _, __, out, m=mixer: smallest.append(float(softplus(out[..., -m.num_heads :] + m.dt_bias).min()))
        )
    net(torch.tensor([words.encode(text)]), use_cache=False)
    return smallest


def main() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("checkpoint"))
    words, net, text = AutoTokenizer.from_pretrained(folder), model.load(folder), corpus.read()
    mtp = storage.load_mtp(net, folder)
    prompts = [*PROMPTS, *(ask(words, QUESTION, enable_thinking=thinking) for thinking in (True, False))]
    print(f"trained text {bits_per_byte(net, words, text.passages):.3f} bits/byte")
    print(f"held-out text {bits_per_byte(net, words, text.held_out):.3f} bits/byte")
    print(f"smallest time steps {smallest_time_steps(net, words, text.held_out[0])}")
    for prompt in prompts:
        print(repr(words.decode(complete(net, words, prompt, 200))))
    starts = [text[:HELD_OUT_PROMPT] for text in text.held_out]
    for name, choice in (("greedy", GREEDY), (f"temperature {TEMPERATURE}", Choice(TEMPERATURE))):
        report_drafts(f"{name}, after the prompts above", net, mtp, words, prompts, 200, choice)
        report_drafts(f"{name}, after held-out text", net, mtp, words, starts, HELD_OUT_TOKENS, choice)


if __name__ == "__main__":
    main()
