"""The multi-token-prediction module drafts what the FP64 reference drafts, however its rows are cut and mixed."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_api.hybrid_config import read_config
from nemotron_runtime import mtp
from nemotron_runtime.arithmetic import EXACT
from nemotron_runtime.experts import Experts
from tests.builders.checkpoints import a_checkpoint
from tests.builders.drafting import Drafter, a_drafting_checkpoint, an_engine, engine_tensors
from tests.builders.mtp_oracle import MtpOracle
from tests.builders.numbers import error

pytestmark = pytest.mark.unit

# FP32 with the paths of the model between; the reference is FP64.
ROUNDING = 2e-5
TOKENS = [int(token) for token in torch.randint(3, 61, (40,), generator=torch.Generator().manual_seed(3))]
PATTERNS = ["*E", "*-", "E*", "*", "**E"]


@dataclass(frozen=True, slots=True)
class Case:
    """A random model with a module: as a checkpoint for the reference, as an engine for the runtime."""

    oracle: MtpOracle
    engine: Path


def a_case(root: Path, pattern: str = "*E") -> Case:
    checkpoint = a_drafting_checkpoint(root / "checkpoint", pattern)
    return Case(MtpOracle(checkpoint), an_engine(checkpoint, root / "engine"))


@pytest.fixture(scope="module", params=PATTERNS)
def case(request: Any, tmp_path_factory: Any) -> Case:
    return a_case(tmp_path_factory.mktemp("mtp"), request.param)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: Any) -> Case:
    return a_case(tmp_path_factory.mktemp("mtp"))


def test_one_pass_over_a_sequence_gives_what_the_reference_gives(case: Case) -> None:
    oracle, drafter = case.oracle, Drafter(case.engine)
    hidden = oracle.hidden(TOKENS[:-1])
    expected = oracle.run(hidden, TOKENS[1:])

    given = drafter.run(hidden, TOKENS[1:], (0, 0, 39))

    assert error(given, expected) < ROUNDING
    assert error(drafter.module.logits(given), oracle.logits(expected)) < ROUNDING


def test_exact_arithmetic_gives_it_too(usual: Case) -> None:
    hidden = usual.oracle.hidden(TOKENS[:-1])

    given = Drafter(usual.engine, EXACT).run(hidden, TOKENS[1:], (0, 0, 39))

    assert error(given, usual.oracle.run(hidden, TOKENS[1:])) < ROUNDING


@pytest.mark.parametrize("known", [1, 2, 16, 17, 33])
def test_drafts_are_those_of_a_reference_that_starts_afresh_for_each(case: Case, known: int) -> None:
    oracle, drafter = case.oracle, Drafter(case.engine)
    hidden = oracle.hidden(TOKENS[:known])

    output = drafter.run(hidden, TOKENS[1 : known + 1], (0, 0, known))
    (drafts,) = drafter.draft(output[-1:], [6], [known - 1])

    assert list(drafts) == oracle.draft(TOKENS[: known + 1], 6)


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 38), max_size=6))
def test_a_sequence_may_come_in_any_pieces(usual: Case, cuts: set[int]) -> None:
    oracle, drafter = usual.oracle, Drafter(usual.engine)
    hidden = oracle.hidden(TOKENS[:-1])
    edges = [0, *sorted(cuts), 39]

    outputs = [
        drafter.run(hidden[start:stop], TOKENS[start + 1 : stop + 1], (0, start, stop - start))
        for start, stop in pairwise(edges)
    ]

    assert error(torch.cat(outputs), oracle.run(hidden, TOKENS[1:])) < ROUNDING


@settings(max_examples=20, deadline=None)
@given(
    known=st.lists(st.integers(1, 30), min_size=3, max_size=3),
    lengths=st.lists(st.integers(0, 5), min_size=3, max_size=3),
)
def test_sequences_drafted_together_get_what_each_gets_alone(usual: Case, known: list[int], lengths: list[int]) -> None:
    oracle, drafter = usual.oracle, Drafter(usual.engine)
    texts = [TOKENS[row : row + count + 1] for row, count in enumerate(known)]
    last = [
        drafter.run(oracle.hidden(text[:-1]), text[1:], (row, 0, len(text) - 1))[-1] for row, text in enumerate(texts)
    ]

    drafts = drafter.draft(torch.stack(last), lengths, [count - 1 for count in known])

    assert drafts == [tuple(oracle.draft(text, length)) for text, length in zip(texts, lengths, strict=True)]


@pytest.mark.parametrize("accepted", [0, 1, 3])
def test_drafts_that_were_wrong_leave_no_trace(case: Case, accepted: int) -> None:
    oracle, drafter = case.oracle, Drafter(case.engine)
    hidden = oracle.hidden(TOKENS[:-1])
    last = drafter.run(hidden[:20], TOKENS[1:21], (0, 0, 20))[-1:]
    drafter.draft(last, [4], [19])

    # when the model finds `accepted` of the four right, and the sequence goes on with its own tokens
    stop = 21 + accepted
    drafter.run(hidden[20:stop], TOKENS[21 : stop + 1], (0, 20, stop - 20))
    rest = drafter.run(hidden[stop:], TOKENS[stop + 1 :], (0, stop, 39 - stop))

    assert error(rest, oracle.run(hidden, TOKENS[1:])[stop:]) < ROUNDING


def test_remembering_alone_leaves_the_same_keys_and_values(case: Case) -> None:
    oracle = case.oracle
    hidden, following = oracle.hidden(TOKENS[:-1]).float(), torch.tensor(TOKENS[1:])
    whole, cheap = Drafter(case.engine), Drafter(case.engine)

    with torch.inference_mode():
        whole.module(hidden, following, whole.batch((0, 0, 39)), whole.memory)
        cheap.module.remember(hidden, following, cheap.batch((0, 0, 39)), cheap.memory)

    assert whole.memory.keys.any()
    assert torch.equal(whole.memory.keys, cheap.memory.keys)
    assert torch.equal(whole.memory.values, cheap.memory.values)


def test_the_usual_module_remembers_without_its_experts(usual: Case) -> None:
    # given a module whose experts would be noticed
    drafter = Drafter(usual.engine)
    _, experts = drafter.module.blocks
    assert isinstance(experts.mixer, Experts)
    experts.mixer.up.fill_(torch.nan)
    hidden, following = usual.oracle.hidden(TOKENS[:-1]).float(), torch.tensor(TOKENS[1:])

    with torch.inference_mode():
        drafter.module.remember(hidden, following, drafter.batch((0, 0, 39)), drafter.memory)
        attended = drafter.module(hidden, following, drafter.batch((0, 0, 39)), drafter.memory)

    assert drafter.memory.keys.any()
    assert drafter.memory.keys.isfinite().all()
    assert not attended.isfinite().all()


def test_the_models_own_keys_and_values_are_not_touched(case: Case) -> None:
    drafter = Drafter(case.engine)
    of_model = drafter.config.blocks("*")

    drafter.run(case.oracle.hidden(TOKENS[:-1]), TOKENS[1:], (0, 0, 39))

    assert not drafter.memory.keys[:of_model].any()
    assert not drafter.memory.values[:of_model].any()
    assert drafter.memory.keys[of_model:].flatten(1).any(1).all()


def test_a_model_without_a_module_has_none(tmp_path: Path, usual: Case) -> None:
    config, tensors = read_config(usual.engine), engine_tensors(usual.engine)
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("mtp.")}

    assert mtp.build(config, without) is None
    assert mtp.build(read_config(a_checkpoint(tmp_path / "plain")), tensors) is None
