"""Measure what a long context costs: time per token with and without attention, and memory."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import Job, Length, Measured
from benchmarks.models import TINY, without
from benchmarks.options import read_options
from benchmarks.processes import OURS, TRANSFORMERS, EngineFailed, run_engine
from benchmarks.results_file import Row, write
from benchmarks.table import show
from nemotron_api.hybrid_config import ATTENTION, read_config

CONTEXTS = {1024: 5, 16384: 3, 131072: 1}
"""Tokens of context, and how often each is measured."""

QUICK_CONTEXTS = {1024: 1, 4096: 1}
OUTPUT = 64

PEER_SECONDS, PEER_BYTES = 900.0, 12 << 30
"""What `transformers` may take: it computes a prompt in one piece, which need not fit the machine."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one token."""

    prompt: float
    decode: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One context, with the whole model and without its attention blocks."""

    context: int
    whole: Cost
    without: Cost
    peak_bytes: int
    peer: Measured | None
    peer_failure: str | None

    def rows(self) -> Iterator[Row]:
        case = case_name(self.context)
        for name in ("prompt", "decode"):
            whole, without = getattr(self.whole, name), getattr(self.without, name)
            yield self._timed(case, name, whole)
            yield Row(case, f"{name}, without attention", 1e6 * without, "µs per token")
            yield Row(
                case, f"{name}, attention", 1e6 * (whole - without), "µs per token", step_share=1 - without / whole
            )
        yield self._memory(case)

    def _timed(self, case: str, name: str, seconds: float) -> Row:
        if self.peer is None:
            return Row(case, name, 1e6 * seconds, "µs per token", note=self.peer_failure)
        theirs = getattr(cost(self.peer, self.context), name)
        ratio = theirs / seconds
        return Row(case, name, 1e6 * seconds, "µs per token", TRANSFORMERS.name, 1e6 * theirs, ratio)

    def _memory(self, case: str) -> Row:
        peak = self.peak_bytes / MIB
        if self.peer is None:
            return Row(case, "peak memory", peak, "MiB", note=self.peer_failure)
        theirs = self.peer.peak_bytes / MIB
        return Row(case, "peak memory", peak, "MiB", TRANSFORMERS.name, theirs, theirs / peak)


def case_name(context: int) -> str:
    return f"tiny FP32, {context:,} tokens of context"


def cost(measured: Measured, context: int) -> Cost:
    """Seconds of one prompt token and of one decoded one, from an answer behind a prompt of `context` tokens."""
    first, decode = measured.median("first_token"), measured.median("decode")
    if first is None or decode is None:
        raise ValueError(f"no decoding was measured: ask for more than {OUTPUT} tokens")
    return Cost(first[0] / context, 1 / decode[0])


def measure(context: int, repeats: int, whole: Path, rest: Path) -> Outcome:
    """The whole model, what is `rest` of it without attention, and `transformers` on the whole."""
    job = _job(whole, context, repeats)
    ours = run_engine(OURS, job)
    peer, failure = _peer(job)
    return Outcome(
        context=context,
        whole=cost(ours, context),
        without=cost(run_engine(OURS, _job(rest, context, repeats)), context),
        peak_bytes=ours.peak_bytes,
        peer=peer,
        peer_failure=failure,
    )


def _peer(job: Job) -> tuple[Measured | None, str | None]:
    """What `transformers` measured, or why it did not."""
    try:
        return run_engine(TRANSFORMERS, job, limit_seconds=PEER_SECONDS, limit_bytes=PEER_BYTES), None
    except EngineFailed as failed:
        return None, f"{TRANSFORMERS.name}: {failed}"


def _job(checkpoint: Path, context: int, repeats: int) -> Job:
    vocab_size = read_config(checkpoint).vocab_size
    return Job(str(checkpoint), "FP32", 1, 1, (Length(context, OUTPUT),), repeats, vocab_size, with_prefill=False)


def main() -> None:
    options = read_options(__doc__)
    with tempfile.TemporaryDirectory(prefix="nemotron-bench-") as folder:
        # Drafts would make a token's time depend on the text: both models are measured without the module.
        whole, rest = without(TINY, "", Path(folder) / "whole"), without(TINY, ATTENTION, Path(folder) / "rest")
        for context, repeats in (QUICK_CONTEXTS if options.quick else CONTEXTS).items():
            if options.wants(case_name(context)):
                rows = list(measure(context, repeats, whole, rest).rows())
                print(show(rows), flush=True)
                if not options.quick:
                    write("long-context", rows, ("torch", "transformers"))


if __name__ == "__main__":
    main()
