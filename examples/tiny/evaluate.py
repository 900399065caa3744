"""Measure a checkpoint of the demo model: `python -m examples.tiny.evaluate [folder]`."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from transformers import AutoTokenizer, NemotronHForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from examples.tiny import corpus, model, storage, tokenizer

PROMPTS = ("The ", "Free software ", "You may copy ", "If the program ")
QUESTION = "What is free software?"
DRAFTS = 4


@torch.no_grad()
def bits_per_byte(net: NemotronHForCausalLM, words: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Mean over every byte of `texts`, each read from its start after an end-of-text token."""
    nats, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([[tokenizer.EOS, *words.encode(text)]])
        nats += float(cross_entropy(net(ids[:, :-1], use_cache=False).logits[0], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return nats / count / math.log(2)


def complete(net: NemotronHForCausalLM, words: PreTrainedTokenizerFast, prompt: str, tokens: int) -> Tensor:
    """(prompt + generated) token ids of the greedy continuation."""
    ids = torch.tensor([words.encode(prompt)])
    both: Tensor = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0]
    return both


def ask(words: PreTrainedTokenizerFast, question: str, *, enable_thinking: bool) -> str:
    turns = [{"role": "user", "content": question}]
    text: str = words.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
    )
    return text


@torch.no_grad()
def accepted(net: NemotronHForCausalLM, mtp: model.MultiTokenPrediction, ids: Tensor, start: int) -> Tensor:
    """(positions,) how many of DRAFTS drafts in a row are the greedy continuation `ids`[start:], at each position."""
    hidden = net.model(ids[None], use_cache=False).last_hidden_state
    lengths = []
    for known in range(start + 1, len(ids) - DRAFTS):  # tokens the backbone has already produced
        states, tokens = hidden[:, : known - 1], ids[None, 1:known]
        for _ in range(DRAFTS):
            state = mtp(states, net.model.embeddings(tokens))[:, -1:]
            states = torch.cat([states, state], dim=1)
            tokens = torch.cat([tokens, net.lm_head(state).argmax(-1)], dim=1)
        matches = tokens[0, known - 1 :] == ids[known : known + DRAFTS]
        lengths.append(int(matches.cumprod(0).sum()))
    return torch.tensor(lengths)


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
    lengths = []
    for prompt in prompts:
        ids = complete(net, words, prompt, 200)
        print(repr(words.decode(ids)))
        lengths.append(accepted(net, mtp, ids, len(words.encode(prompt))))
    every = torch.cat(lengths)
    rates = [float((every >= depth).float().mean()) for depth in range(1, DRAFTS + 1)]
    print(f"drafts accepted {[round(rate, 2) for rate in rates]}, {1 + float(every.float().mean()):.2f} tokens a step")


if __name__ == "__main__":
    main()
