"""Drive `transformers`, with whichever of its experts implementations is fastest at each phase."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria

from benchmarks.engines.child import main
from benchmarks.job import Answer, Job, Request, requests
from nemotron_api.hybrid_config import HybridConfig, read_config

DTYPES = {"FP32": torch.float32, "BF16": torch.bfloat16}

IMPLEMENTATIONS = ("eager", "grouped_mm", "batched_mm")

GATHERED_BYTES = 2 << 30
"""`batched_mm` copies the weights of every expert of every token: beyond this it is not tried."""

PROBE_TOKENS = 5


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest experts implementation of each phase."""

    prefill: str
    decode: str


class Clock(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Note when each token arrives, and change the experts' implementation once prompts are computed."""

    def __init__(self, model: Any, best: Best, began: float) -> None:
        self._model, self._best, self._began = model, best, began
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        if not self.times:
            self._model.set_experts_implementation(self._best.decode)
        self.times.append(time.perf_counter() - self._began)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


class HuggingFace:
    """`generate` over static batches in the order of arrival, shorter prompts padded on the left."""

    def __init__(self, model: Any, job: Job) -> None:
        self._model = model
        self._concurrent = job.concurrent
        self._best = self._choose(job)

    @property
    def variant(self) -> str:
        return f"experts {self._best.prefill} for prompts, {self._best.decode} for decoding"

    def run(self, asked: Sequence[Request]) -> list[Answer]:
        began = time.perf_counter()
        answers: list[Answer] = []
        for start in range(0, len(asked), self._concurrent):
            answers += self._batch(asked[start : start + self._concurrent], self._best, began)
        return answers

    def close(self) -> None:
        """Nothing runs between calls."""

    @torch.inference_mode()
    def _batch(self, asked: Sequence[Request], best: Best, began: float) -> list[Answer]:
        width, output = max(len(request.prompt) for request in asked), max(request.output for request in asked)
        padding = [width - len(request.prompt) for request in asked]
        prompts = torch.tensor([[0] * pad + request.prompt for pad, request in zip(padding, asked, strict=True)])
        seen = torch.arange(width) >= torch.tensor(padding)[:, None] if any(padding) else None
        clock = Clock(self._model, best, began)
        self._model.set_experts_implementation(best.prefill)
        tokens = self._model.generate(
            prompts,
            attention_mask=None if seen is None else seen.long(),
            max_new_tokens=output,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=[clock],
        )
        generated = tokens[:, width:].tolist()
        return [
            Answer(row[: request.output], clock.times[: request.output])
            for row, request in zip(generated, asked, strict=True)
        ]

    def _choose(self, job: Job) -> Best:
        """The implementation that computes prompts fastest, and the one that decodes fastest, by a short trial."""
        lengths = job.lengths[: job.concurrent]
        asked = [Request(r.prompt, PROBE_TOKENS) for r in requests(lengths, job.vocab_size, seed=-2)]
        tokens = len(asked) * max(len(request.prompt) for request in asked)
        fits = [name for name in IMPLEMENTATIONS if name != "batched_mm" or self._gathered(job, tokens)]
        first = min(fits, key=lambda name: self._trial(asked, Best(name, name))[0])
        fits = [name for name in IMPLEMENTATIONS if name != "batched_mm" or self._gathered(job, len(asked))]
        return Best(first, min(fits, key=lambda name: self._trial(asked, Best(first, name))[1]))

    def _trial(self, asked: Sequence[Request], best: Best) -> tuple[float, float]:
        """Seconds to the first token and from there to the last one, in the better of two runs."""
        runs = [self._batch(asked, best, time.perf_counter())[0].times for _ in range(2)]
        return min(times[0] for times in runs), min(times[-1] - times[0] for times in runs)

    def _gathered(self, job: Job, tokens: int) -> bool:
        """Whether the weights that `batched_mm` would copy for this many tokens are few enough."""
        return tokens * gathered_bytes(read_config(Path(job.checkpoint)), DTYPES[job.dtype].itemsize) <= GATHERED_BYTES


def gathered_bytes(config: HybridConfig, element_bytes: int) -> int:
    """Bytes of weights that `batched_mm` copies for one token of one block."""
    return config.experts_per_token * config.expert_size * config.expert_width * element_bytes


def build(job: Job) -> HuggingFace:
    torch.set_num_threads(job.threads)
    model = AutoModelForCausalLM.from_pretrained(job.checkpoint, dtype=DTYPES[job.dtype]).eval()
    for layer in model.model.layers:
        if layer.block_type == "linear_attention":
            # transformers clamps dt from below in prompts only; the models were trained without that.
            layer.mixer.time_step_limit = (0.0, float("inf"))
    return HuggingFace(model, job)


if __name__ == "__main__":
    main(build)
