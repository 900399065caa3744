"""The multi-token-prediction module in FP64 over whole sequences: no cache, every draft computed from the beginning.

It shares the formulas of the blocks with `oracle`, and nothing with the runtime. On the tiny model's module, over a
text and three drafts that feed on one another, llama.cpp (`src/models/nemotron-h-moe.cpp`, in llama-cpp-python 0.3.36)
computes the same to 4e-7 of the largest number, but for one thing: it takes the final norm for a LayerNorm. It is
alone with that: Megatron-LM, which trains the family, and TensorRT-LLM, vLLM and SGLang have an RMSNorm.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from tests.builders.oracle import Part, blocks, fp64_hidden, fp64_tensors, norm, under


class MtpOracle:
    """The module of an unsharded checkpoint, beside the model it belongs to."""

    def __init__(self, checkpoint: Path) -> None:
        self.config: HybridConfig = read_config(checkpoint)
        self.tensors: Part = fp64_tensors(checkpoint)

    @torch.inference_mode()
    def hidden(self, tokens: list[int]) -> Tensor:
        """(l, d) the model's hidden states after its final norm."""
        return fp64_hidden(self.config, self.tensors, tokens)

    @torch.inference_mode()
    def run(self, hidden: Tensor, following: list[int]) -> Tensor:
        """(l, d) hidden states and the l tokens after each → (l, d) the module's output."""
        layers, eps = under(self.tensors, "mtp.layers."), self.config.norm_eps
        last = len(self.config.mtp_pattern) - 1
        embedded = norm(self.tensors["embeddings.weight"][following], layers["0.enorm.weight"], eps)
        both = torch.cat([embedded, norm(hidden, layers["0.hnorm.weight"], eps)], -1)
        h = blocks(self.config, self.config.mtp_pattern, layers, F.linear(both, layers["0.eh_proj.weight"]))
        return norm(h, layers[f"{last}.final_layernorm.weight"], eps)

    @torch.inference_mode()
    def logits(self, output: Tensor) -> Tensor:
        return F.linear(output, self.tensors["lm_head.weight"])

    @torch.inference_mode()
    def draft(self, tokens: list[int], count: int) -> list[int]:
        """Greedy drafts after the tokens, of which the model has computed all but the last.

        Each draft runs the module over the whole sequence, with its own outputs for the hidden states of drafts.
        """
        hidden, following = self.hidden(tokens[:-1]), tokens[1:]
        for _ in range(count):
            output = self.run(hidden, following)[-1:]
            hidden = torch.cat([hidden, output])
            following = [*following, int(self.logits(output).argmax())]
        return following[len(tokens) - 1 :]
