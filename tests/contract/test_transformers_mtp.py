"""The reference of the multi-token-prediction module, the runtime's, and one built of transformers' blocks agree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from examples.tiny import evaluate, model, storage
from tests.builders.drafting import Drafter, an_engine
from tests.builders.mtp_oracle import MtpOracle
from tests.builders.numbers import error

pytestmark = pytest.mark.contract

CHECKPOINT = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
TEXT = "You may copy and distribute such modifications or work."


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: Any) -> Drafter:
    return Drafter(an_engine(CHECKPOINT, tmp_path_factory.mktemp("mtp"), sequences=1))


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    encoded: list[int] = AutoTokenizer.from_pretrained(CHECKPOINT).encode(TEXT)
    return encoded


def test_a_trained_module_computes_the_same_in_all_three(drafter: Drafter, tokens: list[int]) -> None:
    net, oracle = model.load(CHECKPOINT), MtpOracle(CHECKPOINT)
    hidden = oracle.hidden(tokens[:-1])
    with torch.no_grad():
        trained = storage.load_mtp(net, CHECKPOINT)
        states = net.model(torch.tensor([tokens[:-1]]), use_cache=False).last_hidden_state
        theirs = trained(states, net.model.embeddings(torch.tensor([tokens[1:]])))[0]

    ours = drafter.run(hidden, tokens[1:], (0, 0, len(tokens) - 1))

    expected = oracle.run(hidden, tokens[1:])
    assert error(states[0], hidden) < 1e-4
    assert error(theirs, expected) < 1e-4
    assert error(ours, expected) < 1e-5


def test_a_trained_module_drafts_what_it_was_measured_with(drafter: Drafter, tokens: list[int]) -> None:
    net = model.load(CHECKPOINT)
    trained, known = storage.load_mtp(net, CHECKPOINT), 20
    oracle = MtpOracle(CHECKPOINT)
    output = drafter.run(oracle.hidden(tokens[:known]), tokens[1 : known + 1], (0, 0, known))

    (drafts,) = drafter.draft(output[-1:], [4], [known - 1])

    expected = oracle.draft(tokens[: known + 1], 4)
    assert list(drafts) == expected
    # a continuation that the drafts are is accepted in full, one that they are not is rejected from there on
    for wrong in range(4):
        text = [*tokens[: known + 1], *expected, 0]
        text[known + 1 + wrong] += 1
        (accepted,) = evaluate.accepted(net, trained, torch.tensor(text), known)
        assert accepted == wrong


def test_speculation_accepts_at_every_step_what_was_measured_for_its_position(drafter: Drafter) -> None:
    net, words, prompt = model.load(CHECKPOINT), AutoTokenizer.from_pretrained(CHECKPOINT), "You may copy "
    text = evaluate.complete(net, words, prompt, 60)
    ids, known = text.tolist(), len(words.encode(prompt)) + 1
    measured = evaluate.accepted(net, storage.load_mtp(net, CHECKPOINT), text, known - 1).tolist()
    hidden, first, steps = MtpOracle(CHECKPOINT).hidden(ids), known, []

    # the module follows the model over what was accepted, then drafts from there
    computed = 0
    while known - first < len(measured):
        output = drafter.run(
            hidden[computed : known - 1], ids[computed + 1 : known], (0, computed, known - 1 - computed)
        )
        (drafts,) = drafter.draft(output[-1:], [evaluate.DRAFTS], [known - 2])
        accepted = next((n for n, draft in enumerate(drafts) if draft != ids[known + n]), len(drafts))
        steps.append((accepted, measured[known - first]))
        computed, known = known - 1, known + accepted + 1

    assert [accepted for accepted, _ in steps] == [expected for _, expected in steps]
    assert {0, evaluate.DRAFTS} <= {accepted for accepted, _ in steps}
