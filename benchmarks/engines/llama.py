"""Drive llama.cpp with continuous batching over its C interface, in its own environment."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp as llama
import numpy as np

from benchmarks.engines.child import main
from benchmarks.gguf_file import write_gguf
from benchmarks.job import Answer, Job, Request

PROMPT_TOKENS = 512
"""Prompt tokens of one call, llama.cpp's own default of a micro-batch."""

ERROR_LEVEL = 4
"""Of `enum ggml_log_level`."""

CACHE_TYPES = {"FP32": 0, "BF16": 30}
"""Numbers of `enum ggml_type`, which the Python package names only in part."""


@dataclass(slots=True)
class Running:
    """A request in one of llama.cpp's sequences."""

    request: Request
    slot: int
    answer: Answer = field(default_factory=lambda: Answer([], []))
    computed: int = 0

    @property
    def pending(self) -> list[int]:
        return (self.request.prompt + self.answer.tokens)[self.computed :]

    @property
    def is_done(self) -> bool:
        return len(self.answer.tokens) == self.request.output


class Llama:
    """One context; its batch is filled anew for every call."""

    variant = f"llama-cpp-python {llama.__version__}"

    def __init__(self, model: llama.llama_model_p, job: Job) -> None:
        self._model = model
        self._slots = job.concurrent
        self._vocab_size = job.vocab_size
        self._context = llama.llama_init_from_model(model, _context_params(job))
        if not self._context:
            raise RuntimeError("llama.cpp made no context: its reasons stand above")
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(PROMPT_TOKENS + job.concurrent, 0, 1)

    def run(self, asked: Sequence[Request]) -> list[Answer]:
        waiting = [Running(request, slot=-1) for request in asked]
        everyone, free = list(waiting), list(range(self._slots))
        running: list[Running] = []
        began = time.perf_counter()
        while waiting or running:
            while waiting and free:
                running.append(waiting.pop(0))
                running[-1].slot = free.pop()
            for sequence, token in self._step(running):
                sequence.answer.tokens.append(token)
                sequence.answer.times.append(time.perf_counter() - began)
            for sequence in [each for each in running if each.is_done]:
                llama.llama_memory_seq_rm(self._memory, sequence.slot, -1, -1)
                running.remove(sequence)
                free.append(sequence.slot)
        return [sequence.answer for sequence in everyone]

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    def _step(self, running: Sequence[Running]) -> list[tuple[Running, int]]:
        """Every decode, then prompts up to the limit; the sequences that got a token, with it."""
        left, yields, rows = PROMPT_TOKENS, [], 0
        for sequence in sorted(running, key=lambda each: len(each.pending) > 1):
            pending = sequence.pending
            tokens = pending if len(pending) == 1 else pending[:left]
            left -= len(tokens) if len(pending) > 1 else 0
            rows = self._add(rows, sequence, tokens, is_last=len(tokens) == len(pending))
            sequence.computed += len(tokens)
            if tokens and len(tokens) == len(pending):
                yields.append(sequence)
        self._batch.n_tokens = rows
        if code := llama.llama_decode(self._context, self._batch):
            raise RuntimeError(f"llama_decode returned {code} on {rows} tokens of {len(running)} sequences")
        return list(zip(yields, self._choose(len(yields)), strict=True))

    def _add(self, row: int, sequence: Running, tokens: Sequence[int], *, is_last: bool) -> int:
        """Put tokens behind row `row` of the batch; the row after them."""
        for position, token in enumerate(tokens, sequence.computed):
            self._batch.token[row] = token
            self._batch.pos[row] = position
            self._batch.n_seq_id[row] = 1
            self._batch.seq_id[row][0] = sequence.slot
            self._batch.logits[row] = False
            row += 1
        if tokens:
            self._batch.logits[row - 1] = is_last
        return row

    def _choose(self, rows: int) -> list[int]:
        """The likeliest token of each row whose logits were asked for."""
        if not rows:
            return []
        logits = np.ctypeslib.as_array(llama.llama_get_logits(self._context), (rows, self._vocab_size))
        tokens: list[int] = logits.argmax(1).tolist()
        return tokens


def _context_params(job: Job) -> llama.llama_context_params:
    params = llama.llama_context_default_params()
    params.n_ctx = job.concurrent * (job.longest + 1)
    params.n_batch = PROMPT_TOKENS + job.concurrent
    params.n_ubatch = PROMPT_TOKENS
    params.n_seq_max = job.concurrent
    params.n_threads = params.n_threads_batch = job.threads
    params.type_k = params.type_v = CACHE_TYPES[job.dtype]
    params.kv_unified = False
    return params


def build(job: Job) -> Llama:
    """Raises RuntimeError with what llama.cpp refuses."""
    llama.llama_log_set(_log, None)
    with tempfile.TemporaryDirectory(prefix="nemotron-bench-") as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(Path(job.checkpoint), path, job.dtype)
        model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        raise RuntimeError("llama.cpp cannot load the model: its reasons stand above")
    return Llama(model, job)


@llama.llama_log_callback  # type: ignore[untyped-decorator]  # llama_cpp has no types
def _log(level: int, text: bytes, _: object) -> None:
    """Errors only: llama.cpp prints hundreds of lines about a model that is in order."""
    if level == ERROR_LEVEL:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


if __name__ == "__main__":
    main(build)
