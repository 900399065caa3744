"""Show what a model takes on which GPUs, as tables for people and as JSON for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from nemotron_api.catalogue import MEMBERS, Member
from nemotron_api.errors import InvalidSpec
from nemotron_api.formats import elements
from nemotron_api.gpus import GPUS, Gpu
from nemotron_api.solver import Ask, Candidate, Verdict, capability, gigabytes, solve

NOTE = "Sizes are for each GPU; GB are 10⁹ bytes, MiB 2²⁰. Weights are by published recipes, workspace is estimated."

_NUMBERS = ("GPUs", "weights", "state", "KV/token", "left", "sequences", "longest")


def gpu(sku: str) -> Gpu:
    """The GPU of this name, in any case; raises InvalidSpec for another."""
    found = {known.lower(): each for known, each in GPUS.items()}.get(sku.lower())
    if found is None:
        raise InvalidSpec(f"{sku} is no GPU we know; known are {', '.join(GPUS)}")
    return found


def page(member: Member, on: Gpu, ask: Ask) -> str:
    """What was tried for a model on one kind of GPU, and the choice."""
    verdict = solve(member, on, ask)
    config = member.config
    head = (
        f"{member.title}: {elements(config):,} parameters, layers {_layers(config.pattern)}",
        f"{on.sku}: {on.memory_gb} GB at {on.bandwidth_gb_per_second:,} GB/s, compute capability {capability(on)}, "
        f"{f'{on.linked} by NVLink' if on.linked > 1 else 'no NVLink'}",
        f"asked: {ask.sequences} × {ask.context:,} tokens, state {ask.state}",
    )
    rows = [("precision", *_NUMBERS, ""), *(_row(verdict, each) for each in verdict.candidates)]
    return "\n".join((*head, "", *_aligned(rows), "", verdict.why, NOTE))


def overview(asked: Ask) -> str:
    """Which card holds which model: the fewest GPUs, and the precision."""
    names = [(each.aliases or (each.name,))[-1] for each in MEMBERS.values()]
    rows = [("GPU", *names)]
    rows += [(on.sku, *(_cell(member, on, asked) for member in MEMBERS.values())) for on in GPUS.values()]
    told = (
        f"The fewest GPUs for {asked.sequences} × {asked.context:,} tokens, or for a model's own limit if that is less"
    )
    return "\n".join((f"{told}; state {asked.state}", "", *_aligned(rows)))


def as_json(member: Member, on: Gpu, ask: Ask) -> str:
    """The same as `page`; all sizes in bytes for each GPU."""
    verdict = solve(member, on, ask)
    told: dict[str, Any] = {
        "model": member.name,
        "parameters": elements(member.config),
        "gpu": {**asdict(on), "memory_bytes": on.memory_bytes},
        "ask": asdict(ask),
        "candidates": [_as_dict(verdict, each) for each in verdict.candidates],
        "chosen": _as_dict(verdict, verdict.chosen) if verdict.chosen else None,
        "why": verdict.why,
    }
    return json.dumps(told, indent=2)


def _as_dict(verdict: Verdict, each: Candidate) -> dict[str, Any]:
    room = each.memory.room(verdict.gpu)
    return {
        **asdict(each.setting),
        **{f"{name}_bytes": value for name, value in asdict(each.memory).items()},
        "left_bytes": room,
        "sequences": each.sequences,
        "longest": each.longest,
        "fits": each.fits,
        "refusal": each.refusal,
    }


def _row(verdict: Verdict, each: Candidate) -> tuple[str, ...]:
    setting, memory = each.setting, each.memory
    verdict_of = "← chosen" if each is verdict.chosen else each.refusal
    return (
        setting.weights,
        str(setting.gpus),
        gigabytes(memory.weights),
        f"{memory.slot / 2**20:.1f} MiB",
        f"{memory.kv_token:,} B",
        gigabytes(memory.room(verdict.gpu)) if memory.room(verdict.gpu) > 0 else "none",
        f"{each.sequences:,}" if each.fits else "",
        f"{each.longest:,}" if each.fits else "",
        verdict_of,
    )


def _cell(member: Member, on: Gpu, ask: Ask) -> str:
    limited = Ask(min(ask.context, member.context), ask.sequences, ask.state)
    chosen = solve(member, on, limited).chosen
    return f"{chosen.setting.gpus} × {chosen.setting.weights}" if chosen else "-"


def _layers(pattern: str) -> str:
    kinds = (("M", "Mamba-2"), ("*", "attention"), ("E", "experts"), ("-", "MLP"))
    return ", ".join(f"{pattern.count(letter)} {name}" for letter, name in kinds if letter in pattern)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows with columns under each other, those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if title in _NUMBERS else cell.ljust(width)
            for cell, width, title in zip(row, widths, rows[0], strict=True)
        )
        yield "  ".join(cells).rstrip()
