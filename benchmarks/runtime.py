"""Measure decoding of the tiny model on one thread, beside `transformers` in the same run."""

import tempfile
import threading
import time
from pathlib import Path

import torch
import transformers

from benchmarks.results_file import Row, repeated, write
from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent, open_engine, pack

CHECKPOINT = Path(__file__).parents[1] / "examples/tiny/checkpoint"
PROMPT = list(range(40, 104))
TOKENS = 128
STREAMS = (1, 4, 16)


def ours(engine: HybridEngine, streams: int) -> float:
    """Tokens per second over all streams, prefill included."""
    done, sampling = threading.Semaphore(0), SamplingParams(max_tokens=TOKENS, ignore_eos=True)

    def sink(event: TokenEvent) -> None:
        if event.finish_reason:
            done.release()

    began = time.perf_counter()
    for stream in range(streams):
        engine.submit([40 + stream, *PROMPT[1:]], sampling, sink)
    for _ in range(streams):
        done.acquire()
    return streams * TOKENS / (time.perf_counter() - began)


def peer(model: transformers.PreTrainedModel, streams: int) -> float:
    """The same work as one padded-free batch of `generate`."""
    prompts = torch.tensor([[40 + stream, *PROMPT[1:]] for stream in range(streams)])
    began = time.perf_counter()
    with torch.no_grad():
        model.generate(prompts, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0)
    return streams * TOKENS / (time.perf_counter() - began)


def main() -> None:
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pack(CHECKPOINT, Path(folder), dtype="FP32", max_batch=max(STREAMS), max_sequence_tokens=512)
        engine = open_engine(Path(folder), threads=1)
        for streams in STREAMS:
            value, spread = repeated(lambda n=streams: ours(engine, n))  # type: ignore[misc]
            theirs, _ = repeated(lambda n=streams: peer(model, n))  # type: ignore[misc]
            case = f"tiny FP32, {streams} streams of {len(PROMPT)} + {TOKENS}"
            ratio = value / theirs
            rows.append(Row(case, "decode", value, "tokens/s", "transformers", theirs, ratio, spread=spread))
        engine.close()
    print(write("runtime", rows, ("torch", "transformers")))


if __name__ == "__main__":
    main()
