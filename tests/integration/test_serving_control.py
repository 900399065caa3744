"""What a request may ask for beside tokens works through a real Triton server."""

from typing import Any

import numpy as np
import pytest

from nemotron_api.tensors import ANY, INPUTS
from tests.integration.client import RequestFailed, Response, generate, joined, text_of
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration

PROMPT = "This program is free software"
QUESTION = "<|im_start|>user\nWhat is free software?<|im_end|>\n<|im_start|>assistant\n<think>\n"
END_OF_THOUGHT = 13
CONTROLLED: dict[str, Any] = {
    "text_input": PROMPT,
    "max_tokens": 40,
    "min_tokens": 4,
    "temperature": 0.9,
    "top_p": 0.95,
    "seed": 11,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "bad_words": ["GNU"],
    "stop_words": ["~~"],
    "ignore_eos": True,
}


@pytest.mark.parametrize("cut", [1, 7, 39])
async def test_an_answer_goes_on_after_the_tokens_that_arrived(serving: Serving, cut: int) -> None:
    whole = await generate(serving.grpc, **CONTROLLED)
    tokens = joined(whole)

    rest = await generate(serving.grpc, **CONTROLLED, resume_ids=list(tokens[:cut]))

    assert joined(rest) == tokens[cut:]
    assert text_of(whole).endswith(text_of(rest))
    assert (rest[-1].prompt_tokens, rest[-1].completion_tokens) == (len(PROMPT), 40)


async def test_a_complete_answer_does_not_go_on(serving: Serving) -> None:
    tokens = joined(await generate(serving.grpc, **CONTROLLED))

    with pytest.raises(RequestFailed, match=r"^InvalidRequest: 40 tokens are resumed and max_tokens is 40"):
        await generate(serving.grpc, **CONTROLLED, resume_ids=list(tokens))


def of_answer(responses: list[Response], index: int) -> list[Response]:
    return [response for response in responses if response.more["sequence_index"] == [index]]


@pytest.mark.parametrize("streams", [True, False])
async def test_several_answers_are_those_of_the_next_seeds(serving: Serving, streams: bool) -> None:
    together = await generate(serving.grpc, **CONTROLLED, num_return_sequences=3, stream=streams)

    for index in range(3):
        alone = await generate(serving.grpc, **CONTROLLED | {"seed": 11 + index})
        assert joined(of_answer(together, index)) == joined(alone)
        assert [response.finish_reason for response in of_answer(together, index) if response.finish_reason] == [
            "length"
        ]
    assert streams or len(together) == 3


async def test_log_probabilities_come_with_the_tokens(serving: Serving) -> None:
    asked = {"text_input": PROMPT, "max_tokens": 12, "ignore_eos": True, "return_log_probs": True, "top_n_log_probs": 3}

    responses = await generate(serving.grpc, **asked)

    log_probs = np.concatenate([response.more["output_log_probs"] for response in responses])
    top_ids = np.concatenate([response.more["top_ids"] for response in responses])
    top_log_probs = np.concatenate([response.more["top_log_probs"] for response in responses])
    assert tuple(top_ids[:, 0]) == joined(responses)
    assert np.array_equal(top_log_probs[:, 0], log_probs)
    assert (np.diff(top_log_probs) <= 0).all()
    assert responses[-1].more["cum_log_probs"] == pytest.approx([log_probs.sum()], rel=1e-4)
    assert "sequence_index" not in responses[0].more


async def test_log_probabilities_of_the_prompt_come_once_and_are_those_of_an_answer(serving: Serving) -> None:
    # given an answer with its log-probabilities, which is then the end of a prompt
    answer = await generate(serving.grpc, text_input=PROMPT, max_tokens=12, ignore_eos=True, return_log_probs=True)
    log_probs = np.concatenate([response.more["output_log_probs"] for response in answer])
    prompt = tuple(16 + byte for byte in PROMPT.encode()) + joined(answer)

    responses = await generate(
        serving.grpc,
        input_ids=list(prompt),
        max_tokens=4,
        ignore_eos=True,
        return_prompt_log_probs=True,
        top_n_prompt_log_probs=2,
        temperature=1.0,
        num_return_sequences=2,
    )

    (first,) = [response for response in responses if "prompt_log_probs" in response.more]
    found = first.more["prompt_log_probs"]
    assert len(found) == len(prompt) - 1
    assert found[-12:] == pytest.approx(log_probs, abs=1e-3)
    assert np.array(first.more["prompt_top_ids"]).shape == (len(prompt) - 1, 2)
    assert {response.more["sequence_index"][0] for response in responses} == {0, 1}


async def test_thoughts_end_with_their_budget(serving: Serving) -> None:
    asked = {"text_input": QUESTION, "max_tokens": 24}

    none = await generate(serving.grpc, **asked, reasoning_budget=0)

    # The prompt ends with a newline, so thinking ends at once.
    assert joined(none)[0] == END_OF_THOUGHT
    assert joined(await generate(serving.grpc, **asked, reasoning_budget=24)) == joined(
        await generate(serving.grpc, **asked)
    )


async def test_settings_that_contradict_each_other_are_refused(serving: Serving) -> None:
    with pytest.raises(RequestFailed, match=r"^InvalidRequest: runtime_top_k is another name of top_k: give one"):
        await generate(serving.grpc, text_input=PROMPT, top_k=2, runtime_top_k=2)


async def test_a_client_that_sends_every_input_is_served(serving: Serving) -> None:
    """As perf_analyzer does, which knows no optional inputs."""
    neutral: dict[str, Any] = {
        "top_p": 1.0,
        "max_tokens": 16,
        "num_return_sequences": 1,
        "repetition_penalty": 1.0,
        "end_id": -1,
    }
    neutral |= {"reasoning_budget": -1, "exclude_input_in_output": True, "beam_width": 1, "stream": True}
    neutral |= {"guided_decoding_guide_type": "", "guided_decoding_guide": ""}
    every: dict[str, Any] = {
        tensor.name: neutral.get(tensor.name, [] if tensor.dims == (ANY,) else 0) for tensor in INPUTS
    }

    responses = await generate(serving.grpc, **every | {"text_input": PROMPT})

    assert joined(responses) == joined(await generate(serving.grpc, text_input=PROMPT))
