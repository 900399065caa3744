"""The demo's model learnt something, and an engine that forgets a part of it computes something else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from examples.tiny import evaluate, model, storage

pytestmark = pytest.mark.contract

CHECKPOINT = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
# Two paragraphs of licences that training held out; no run of twelve of their words was trained on.
HELD_OUT = (
    "To protect your rights, we need to prevent others from denying you these rights or asking you to surrender the "
    "rights. Therefore, you have certain responsibilities if you distribute copies of the software, or if you modify "
    "it: responsibilities to respect the freedom of others.",
    "It may happen that this requirement contradicts the license restrictions of other proprietary libraries that do "
    "not normally accompany the operating system. Such a contradiction means you cannot use both them and the Library "
    "together in an executable that you distribute.",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net() -> Any:
    return model.load(CHECKPOINT)


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@torch.no_grad()
def logits(net: Any, words: PreTrainedTokenizerFast) -> Tensor:
    found: Tensor = net(torch.tensor([words.encode(" ".join(HELD_OUT))]), use_cache=False).logits
    return found


def test_it_predicts_text_it_never_saw(net: Any, words: PreTrainedTokenizerFast) -> None:
    # 8 bits per byte is knowing nothing, about 4.2 the letters' frequencies alone.
    assert evaluate.bits_per_byte(net, words, HELD_OUT) < 2.0


def test_it_answers_a_question_with_a_sentence_of_the_text(net: Any, words: PreTrainedTokenizerFast) -> None:
    prompt = evaluate.ask(words, evaluate.QUESTION, enable_thinking=False)

    answer = words.decode(evaluate.complete(net, words, prompt, 200)).removeprefix(prompt)

    assert answer == "When we speak of free software, we are referring to freedom, not price.<|im_end|>"


def test_some_heads_step_through_time_more_finely_than_the_clamp_of_transformers(
    net: Any, words: PreTrainedTokenizerFast
) -> None:
    assert all(step < 1e-3 for step in evaluate.smallest_time_steps(net, words, HELD_OUT[0]))


def test_a_clamped_time_step_shows_in_the_logits(net: Any, words: PreTrainedTokenizerFast) -> None:
    true = logits(net, words)
    for mixer in model.mamba_mixers(net):
        mixer.time_step_limit = (1e-3, float("inf"))

    assert (logits(net, words) - true).abs().max() > 1e-2


def test_a_forgotten_selection_bias_shows_in_the_logits(net: Any, words: PreTrainedTokenizerFast) -> None:
    true = logits(net, words)
    for router in model.routers(net):
        router.e_score_correction_bias.zero_()

    assert (logits(net, words) - true).abs().max() > 1e-2


def test_the_draft_module_is_often_right_and_sometimes_wrong(net: Any, words: PreTrainedTokenizerFast) -> None:
    prompt = "You may copy "
    ids = evaluate.complete(net, words, prompt, 60)

    accepted = evaluate.accepted(net, storage.load_mtp(net, CHECKPOINT), ids, len(words.encode(prompt)))

    assert (accepted >= 1).float().mean() > 0.4
    assert (accepted == 0).any()
    assert (accepted >= 2).any()


def test_drafts_that_share_the_models_noise_are_right_at_a_temperature_too(
    net: Any, words: PreTrainedTokenizerFast
) -> None:
    prompt, choice = "You may copy ", evaluate.Choice(temperature=0.7, seed=1)
    ids = evaluate.complete(net, words, prompt, 60, choice)
    mtp, start = storage.load_mtp(net, CHECKPOINT), len(words.encode(prompt))

    accepted = evaluate.accepted(net, mtp, ids, start, choice)

    # other noise guesses worse: it is not the text alone that makes drafts right
    others = evaluate.accepted(net, mtp, ids, start, evaluate.Choice(temperature=0.7, seed=2))
    assert ids.tolist() != evaluate.complete(net, words, prompt, 60).tolist()
    assert (accepted >= 1).float().mean() > 0.4
    assert accepted.float().mean() > others.float().mean()
