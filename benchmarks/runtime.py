"""Measure the runtime beside `transformers` and llama.cpp, one engine per process, in turn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cases import Case, cases, target
from benchmarks.job import Job, Length, Measured
from benchmarks.options import read_options
from benchmarks.processes import LLAMA, OURS, TRANSFORMERS, Engine, EngineFailed, run_engine, run_rates
from benchmarks.rates import Rates
from benchmarks.results_file import Row, write
from benchmarks.table import show
from benchmarks.work import Work, decode_step, prompt_flops
from nemotron_api.hybrid_config import HybridConfig, read_config

PEERS = (TRANSFORMERS, LLAMA)
REPEATS = 5
ELEMENT_BYTES = {"FP32": 4, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of `Timing`, and how it is told."""

    name: str
    field: str
    unit: str
    is_smaller_better: bool = False

    def ratio(self, value: float, peer: float) -> float:
        """How many times better than the peer."""
        return peer / value if self.is_smaller_better else value / peer


DECODE = Metric("decode", "decode", "tokens/s")
PREFILL = Metric("prefill", "prefill", "tokens/s")
FIRST = Metric("first token", "first_token", "s", is_smaller_better=True)
TOTAL = Metric("useful tokens", "total", "tokens/s")

EQUAL_METRICS, MIXED_METRICS = (DECODE, PREFILL, FIRST), (TOTAL, FIRST)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case's engines measured; in `failed`, why one did not."""

    case: Case
    config: HybridConfig
    rates: Rates
    measured: Mapping[str, Measured]
    failed: Mapping[str, str]

    def rows(self) -> Iterator[Row]:
        for metric in MIXED_METRICS if self.case.is_mixed else EQUAL_METRICS:
            yield from (self._row(metric, peer.name) for peer in PEERS)
        if self.case.dtype == "FP32":
            yield from self._agreements()

    def _row(self, metric: Metric, peer: str) -> Row:
        value, spread = figure(self.measured[OURS.name], metric)
        bandwidth, gemm = self._shares(metric, value)
        row = Row(
            self.case.name,
            metric.name,
            value,
            metric.unit,
            spread=spread,
            bandwidth_share=bandwidth,
            gemm_share=gemm,
            note=self.failed.get(peer),
        )
        return self._beside(row, metric, peer) if peer in self.measured else row

    def _beside(self, row: Row, metric: Metric, peer: str) -> Row:
        """The row with its peer's figure, and with our target where the peer is the one we set it by."""
        theirs, spread = figure(self.measured[peer], metric)
        ratio = metric.ratio(row.value, theirs)
        is_ours = peer == TRANSFORMERS.name and metric in (DECODE, TOTAL)
        aim = target(self.case) if is_ours else None
        told = {name: getattr(row, name) for name in ("bandwidth_share", "gemm_share", "spread")}
        return Row(
            row.case,
            row.metric,
            row.value,
            row.unit,
            peer,
            theirs,
            ratio,
            aim,
            None if aim is None else ratio >= aim,
            peer_spread=spread,
            note=self._note(peer),
            **told,
        )

    def _note(self, peer: str) -> str | None:
        """How both engines were set up."""
        variants = {name: self.measured[name].variant for name in (OURS.name, peer)}
        return "; ".join(f"{name}: {variant}" for name, variant in variants.items() if variant) or None

    def _shares(self, metric: Metric, value: float) -> tuple[float | None, float | None]:
        """The parts of the machine's two rates that this figure comes to."""
        work = self._work(metric)
        if work is None:
            return None, None
        gemm = work.flops * value / self.rates.flops_per_second
        return work.bytes * value / self.rates.bytes_per_second or None, gemm

    def _work(self, metric: Metric) -> Work | None:
        """What one token of the figure costs at least."""
        lengths, streams = self.case.lengths, self.case.concurrent
        outputs, prompts = sum(each.output for each in lengths), sum(each.prompt for each in lengths)
        step = decode_step(self.config, streams, mean_context(lengths), ELEMENT_BYTES[self.case.dtype])
        if metric is DECODE:
            return Work(step.bytes / streams, step.flops / streams)
        if metric is PREFILL:
            return Work(0, prompt_flops(self.config, lengths) / prompts)
        if metric is TOTAL:
            return Work(step.bytes / streams, step.flops / streams + prompt_flops(self.config, lengths) / outputs)
        return None

    def _agreements(self) -> Iterator[Row]:
        """How far greedy tokens are the same in FP32: whoever differs computes another model."""
        names = [name for name in (OURS.name, TRANSFORMERS.name, LLAMA.name) if name in self.measured]
        for index, name in enumerate(names):
            for peer in names[index + 1 :]:
                share = agreement(self.measured[name].answers, self.measured[peer].answers)
                yield Row(self.case.name, f"same tokens, {name}", share, "share", peer)


def figure(measured: Measured, metric: Metric) -> tuple[float, tuple[float, float]]:
    """Raises ValueError where the case is too short for the figure."""
    found = measured.median(metric.field)
    if found is None:
        raise ValueError(f"no {metric.name} was measured: give the case's requests more tokens to generate")
    return found


def agreement(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """The share of tokens before an answer's first difference."""
    equal = sum(_common(one, other) for one, other in zip(ours, theirs, strict=True))
    return equal / sum(map(len, ours))


def mean_context(lengths: Sequence[Length]) -> float:
    """Tokens that a decoding sequence has on average, over all its steps."""
    steps = sum(each.output for each in lengths)
    return sum(each.output * (each.prompt + (each.output + 1) / 2) for each in lengths) / steps


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    differ = (index for index, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return next(differ, len(one))


def run_case(case: Case, repeats: int) -> Outcome:
    """Raises EngineFailed when our own engine fails; a peer that does has no figures."""
    checkpoint = case.shape.checkpoint()
    config = read_config(checkpoint)
    job = Job(
        checkpoint=str(checkpoint),
        dtype=case.dtype,
        threads=case.shape.threads,
        concurrent=case.concurrent,
        lengths=case.lengths,
        repeats=min(repeats, case.shape.mixed_repeats) if case.is_mixed else repeats,
        vocab_size=config.vocab_size,
        with_prefill=not case.is_mixed,
    )
    step = decode_step(config, case.concurrent, mean_context(case.lengths), ELEMENT_BYTES[case.dtype])
    rates = run_rates(case.dtype, job.threads, int(step.bytes))
    measured, failed = {OURS.name: run_engine(OURS, job)}, {}
    for peer in PEERS:
        try:
            measured[peer.name] = run_peer(peer, job)
        except EngineFailed as failure:
            failed[peer.name] = str(failure)
    return Outcome(case, config, rates, measured, failed)


def run_peer(peer: Engine, job: Job) -> Measured:
    if not peer.is_there:
        raise EngineFailed(peer.missing)
    return run_engine(peer, job)


def main() -> None:
    options = read_options(__doc__)
    for case in (case for case in cases() if options.wants(case.name)):
        outcome = run_case(case, 1 if options.quick else REPEATS)
        rows = list(outcome.rows())
        print(show(rows), flush=True)
        if not options.quick:
            # After each case: hours of measuring are not lost to an interrupt.
            write("runtime", rows, ("torch", "transformers"), _versions(outcome))


def _versions(outcome: Outcome) -> Mapping[str, str]:
    llama = outcome.measured.get(LLAMA.name)
    return {LLAMA.name: llama.variant} if llama else {}


if __name__ == "__main__":
    main()
