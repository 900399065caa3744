"""Pick the precision and the number of GPUs that a model is served with, and say why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nemotron_api.catalogue import Member
from nemotron_api.formats import WeightFormat
from nemotron_api.gpus import Gpu
from nemotron_api.sizing import Memory, Setting, StateFormat, memory, problem

SHARED_BY = (1, 2, 4, 8)
"""Numbers of GPUs that are tried, as far as NVLink joins so many."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model shall be able to do."""

    context: int
    """Tokens of a sequence."""
    sequences: int = 1
    """Such sequences at once."""
    state: StateFormat = "FP32"
    weights: WeightFormat | None = None
    """None: whatever suits."""
    gpus: int | None = None
    """None: as few as suffice."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a model, with what it comes to on each GPU."""

    setting: Setting
    memory: Memory
    sequences: int
    """That fit at once at the context asked for."""
    longest: int
    """Tokens of the longest sequence that fits alone, at most what the model is made for."""
    refusal: str
    """Why it will not do; empty if it will."""

    @property
    def fits(self) -> bool:
        return not self.refusal


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was tried on one GPU, and the best of it."""

    member: Member
    gpu: Gpu
    ask: Ask
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None

    @property
    def why(self) -> str:
        """A sentence on the choice, with the arithmetic."""
        if self.chosen is None:
            tried = "; ".join(_nearest(self)) or f"it is not published in {self.ask.weights}"
            return f"{self.member.title} does not fit: {tried}."
        setting, each = self.chosen.setting, self.chosen.memory
        return (
            f"{setting.weights} on {setting.gpus} × {self.gpu.sku}: {gigabytes(each.weights)} of weights and "
            f"{gigabytes(each.workspace)} of workspace leave {gigabytes(each.room(self.gpu))} of "
            f"{self.gpu.memory_gb} GB on each GPU for sequences, {self.chosen.sequences} of {self.ask.context:,} "
            f"tokens; {_preferred(self)}."
        )


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def solve(member: Member, gpu: Gpu, ask: Ask) -> Verdict:
    """The best way to serve a model on GPUs of one kind: the fewest that do, then the format that suits them most."""
    candidates = tuple(_candidates(member, gpu, ask))
    # Of equally few GPUs the first stays: candidates come in the order of preference.
    chosen = min((each for each in candidates if each.fits), key=lambda each: each.setting.gpus, default=None)
    return Verdict(member, gpu, ask, candidates, chosen)


def preference(gpu: Gpu) -> Sequence[WeightFormat]:
    """Formats in the order they suit a GPU.

    What its tensor cores multiply comes first; then fewer bytes to read, as long as the recipe was made for weights
    decoded on the way; then the others.
    """
    if gpu.has_fp4:
        return ("NVFP4", "W4A16", "FP8", "BF16")
    if gpu.has_fp8:
        return ("FP8", "W4A16", "BF16", "NVFP4")
    return ("BF16", "W4A16", "NVFP4", "FP8")


def _candidates(member: Member, gpu: Gpu, ask: Ask) -> Iterator[Candidate]:
    for form in preference(gpu):
        if form in member.formats and ask.weights in (None, form):
            for count in (ask.gpus,) if ask.gpus else (each for each in SHARED_BY if each <= gpu.linked):
                yield _candidate(member, gpu, ask, Setting(form, count, ask.state))


def _candidate(member: Member, gpu: Gpu, ask: Ask, setting: Setting) -> Candidate:
    config = member.config
    setting = replace(setting, kv="FP8" if setting.weights != "BF16" and gpu.has_fp8 else "BF16")
    each = memory(config, setting)
    refusal = _refusal(member, gpu, ask, setting, each)
    longest = min(each.longest(gpu), member.context)
    return Candidate(setting, each, 0 if refusal else each.sequences(gpu, ask.context), longest, refusal)


def _refusal(member: Member, gpu: Gpu, ask: Ask, setting: Setting, each: Memory) -> str:
    """The first rule that a candidate breaks."""
    needed = ask.sequences * each.of_sequence(ask.context)
    rules = (
        (ask.context > member.context, f"the model is made for {member.context:,} tokens"),
        (
            setting.weights == "FP8" and not gpu.has_fp8,
            f"FP8 needs compute capability 8.9; {gpu.sku} has {capability(gpu)}",
        ),
        (setting.gpus > gpu.linked, f"NVLink joins {gpu.linked} of {gpu.sku}"),
        (bool(split := problem(member.config, setting.gpus)), split),
        (
            each.room(gpu) < 0,
            f"{gigabytes(each.weights)} of weights and {gigabytes(each.workspace)} of workspace exceed "
            f"{gigabytes(each.room(gpu) + each.weights + each.workspace)}",
        ),
        (
            each.room(gpu) < needed,
            f"{ask.sequences} × {ask.context:,} tokens take {gigabytes(needed)}, and "
            f"{gigabytes(each.room(gpu))} are left",
        ),
    )
    return next((text for broken, text in rules if broken), "")


def capability(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.capability))


def _preferred(verdict: Verdict) -> str:
    """What made the chosen one the best."""
    assert verdict.chosen
    count = verdict.chosen.setting.gpus
    if verdict.ask.gpus and verdict.ask.weights:
        return "as asked"
    rivals = [each for each in verdict.candidates if each.fits and each is not verdict.chosen]
    alike = [each.setting.weights for each in rivals if each.setting.gpus == count]
    if alike:
        return f"chosen before {', '.join(alike)}, which cost {verdict.gpu.sku} more bytes or slower products"
    return "no format fits on fewer" if count > 1 else "no other format fits on one"


def _nearest(verdict: Verdict) -> Iterator[str]:
    """The refusal of each format on the most GPUs that were tried."""
    nearest = {each.setting.weights: each for each in verdict.candidates}
    for form, each in nearest.items():
        yield f"{form} on {each.setting.gpus} × {verdict.gpu.sku}: {each.refusal}"
