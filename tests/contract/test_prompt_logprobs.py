"""What the model thinks of a prompt is what transformers computes, however the prompt was cut and whoever was there."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nemotron_runtime import HybridEngine, SamplingParams, Terms, TokenLogprobs, open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.opening import open_ledger
from nemotron_runtime.prompt_scores import ROWS
from tests.builders.checkpoints import a_checkpoint, an_oracle, oracle_logits
from tests.builders.streams import Stream, start

pytestmark = pytest.mark.contract

PROMPT = [(7 * place + place // 5) % 58 + 3 for place in range(75)]
ASKING = SamplingParams(max_tokens=3, ignore_eos=True, prompt_logprobs=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def directory(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = tmp_path_factory.mktemp("engine")
    pack(checkpoint, engine, dtype="FP32", max_batch=4, max_sequence_tokens=240)
    return engine


def an_engine(
    directory: Path, *, prefill_tokens: int = 64, max_batch: int = 4, calls: list[int] | None = None
) -> HybridEngine:
    """An exact engine; `calls` gets the rows of each call for logits."""
    runtime = replace(load_config(directory), max_batch=max_batch)
    config, executor = open_executor(directory, runtime, threads=1, exact=True)
    if calls is not None:
        head = executor._network.head

        def counted(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            calls.append(len(rows))
            return head.product(rows, weight, bias)

        executor._network = replace(executor._network, head=replace(head, product=counted))
    ledger = open_ledger(config, runtime, prefill_tokens=prefill_tokens)
    return HybridEngine(executor, ledger, runtime, vocab_size=config.vocab_size, max_waiting=20)


def told(stream: Stream) -> tuple[TokenLogprobs, ...]:
    """What came of the prompt: with the first event, and with no other."""
    stream.finish()
    first, *others = stream.events
    assert all(event.prompt_logprobs is None for event in others)
    assert first.prompt_logprobs is not None
    return first.prompt_logprobs


def test_they_are_those_of_transformers(checkpoint: Path, directory: Path) -> None:
    engine = open_engine(directory, threads=1)
    found = told(start(engine, PROMPT, ASKING))
    engine.close()

    expected = oracle_logits(an_oracle(checkpoint), PROMPT)[:-1].double().log_softmax(-1)
    chosen = expected.gather(-1, torch.tensor(PROMPT[1:])[:, None]).squeeze(-1)
    best = expected.topk(2, dim=-1).values
    assert len(found) == len(PROMPT) - 1
    torch.testing.assert_close(torch.tensor([each.chosen for each in found]).double(), chosen, atol=2e-4, rtol=0)
    likeliest = torch.tensor([[number for _, number in each.likeliest] for each in found]).double()
    torch.testing.assert_close(likeliest, best, atol=2e-4, rtol=0)


@pytest.mark.parametrize("prefill_tokens", [1, 7, 13, 14, 64, 500])
def test_they_are_the_same_bits_however_the_prompt_is_cut(directory: Path, prefill_tokens: int) -> None:
    expected = told(start(whole := an_engine(directory, prefill_tokens=500), PROMPT, ASKING))
    whole.close()
    engine = an_engine(directory, prefill_tokens=prefill_tokens)

    streams = [start(engine, PROMPT, ASKING) for _ in range(3)]

    assert [told(stream) for stream in streams] == [expected] * 3
    engine.close()


def test_they_are_told_in_full_although_the_prefix_was_kept(directory: Path) -> None:
    expected = told(start(whole := an_engine(directory), PROMPT, ASKING))
    whole.close()
    engine = an_engine(directory, prefill_tokens=10)
    plain = replace(ASKING, prompt_logprobs=None, max_tokens=60)
    start(engine, PROMPT, plain).finish()

    streams = [start(engine, PROMPT, sampling) for sampling in (plain, plain, ASKING, ASKING)]
    found = [told(stream) for stream in streams[2:]]

    assert found == [expected] * 2
    assert all(event.prompt_logprobs is None for stream in streams[:2] for event in (stream.finish(), *stream.events))
    assert engine.stats().prefix_hit_tokens > 0
    engine.close()


def test_they_are_told_in_full_by_who_lost_its_place_half_way(directory: Path) -> None:
    expected = told(start(whole := an_engine(directory), PROMPT, ASKING))
    whole.close()
    # given a place for one, and another request of higher priority that comes while the prompt is read
    engine = an_engine(directory, prefill_tokens=1, max_batch=1)
    asking = start(engine, PROMPT, ASKING)
    while engine.stats().prompt_tokens < 9:
        time.sleep(0.001)
    other = start(engine, PROMPT[::-1], replace(ASKING, prompt_logprobs=None), Terms(priority=1))

    assert told(asking) == expected
    assert other.finish().finish_reason == "length"
    assert engine.stats().preemptions > 0
    engine.close()


def test_no_more_than_a_few_rows_of_logits_exist_at_once(directory: Path) -> None:
    calls: list[int] = []
    engine = an_engine(directory, prefill_tokens=500, calls=calls)

    told(start(engine, PROMPT, ASKING))
    engine.close()

    # then the prompt's rows come in blocks, beside the one row of each new token
    assert sorted(calls, reverse=True) == [16, 16, 16, 16, 10, 1, 1, 1]
    assert ROWS == 16


def test_a_prompt_of_one_token_has_none(directory: Path) -> None:
    engine = an_engine(directory)

    assert told(start(engine, [5], ASKING)) == ()
    engine.close()
