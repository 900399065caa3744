"""From `kubectl apply` to tokens: the whole path, and what it costs the API server."""

import asyncio
import collections
import time

import pytest

from examples.client import GenerationError, Patience, connect, stream
from tests.cluster.kit import CHECKPOINT, Kube, a_deployment, generate, names, traffic, url, wait_for
from tests.cluster.live import LiveCluster

pytestmark = pytest.mark.cluster

PROMPTS = ("The license ", "You may copy and distribute ", "What is free software? ", "Ünïcödé ")


def greedy_transformers(prompt: str, tokens: int) -> list[int]:
    """The truth: `transformers` in FP32 with its dt clamp corrected (huggingface/transformers PR 48989)."""
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    for layer in model.model.layers:
        if hasattr(layer.mixer, "time_step_limit"):
            layer.mixer.time_step_limit = (0.0, float("inf"))
    ids = tokenizers.Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")).encode(prompt).ids
    options = {"max_new_tokens": tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        made = model.generate(torch.tensor([ids]), **options)
    found: list[int] = made[0, len(ids) :].tolist()
    return found


def test_tokens_through_the_cluster_equal_those_of_transformers(served: Kube) -> None:
    for prompt in PROMPTS:
        _, tokens = generate(
            served.namespace, "tiny", text_input=prompt, max_tokens=48, temperature=0.0, ignore_eos=True
        )
        assert tokens == greedy_transformers(prompt, 48)


def test_a_second_deployment_of_the_same_model_reuses_the_artifacts(served: Kube) -> None:
    artifacts, jobs = names(served.items("na")), names(served.items("job"))

    served.apply(a_deployment("twin"))
    served.wait_ready("twin")

    assert names(served.items("na")) == artifacts
    assert names(served.items("job")) == jobs
    resolved = served.get("nd", "twin")["status"]["resolved"]
    assert {resolved["weights"], resolved["engine"]} == artifacts
    served.run("delete", "nd", "twin")


def test_writes_stay_within_the_promise(served: Kube, cluster: LiveCluster) -> None:
    since = time.time()
    served.apply(a_deployment("frugal"))
    served.wait_ready("frugal")
    took = time.time() - since
    served.run("annotate", "nd", "frugal", "example.com/note=nothing-that-matters")
    time.sleep(3)

    verbs = collections.Counter(
        (entry["verb"], entry["objectRef"]["resource"] + "/" + entry["objectRef"].get("subresource", ""))
        for entry in cluster.audit(since)
        if entry["user"]["username"].endswith("nemotron-operator")
        and entry["objectRef"].get("namespace") == served.namespace
        and entry["verb"] in ("create", "update", "patch", "delete")
        and entry["objectRef"]["resource"] != "events"
        and entry["objectRef"].get("name", "frugal").startswith("frugal")
    )

    status = verbs.pop(("patch", "nemotrondeployments/status"), 0)
    children = 6  # ServiceAccount, two Services, ConfigMap, ControllerRevision, Deployment
    assert sum(verbs.values()) == children, verbs
    # Two for created and Ready; progress in between at most once per ten seconds.
    assert 2 <= status <= 2 + took // 10, (status, took)
    served.run("delete", "nd", "frugal")


def test_a_killed_stub_fails_its_streams_at_once_and_the_next_request_works(served: Kube) -> None:
    with traffic(served.namespace, "tiny", clients=2, tokens=400, retries=0) as flowing:
        wait_for(lambda: flowing.outcome.completed > 0, 60)
        pod = served.items("pod", "serving.nemotron.dev/name=tiny")[0]["metadata"]["name"]
        served.run("exec", pod, "--", "python3", "-c", KILL_STUB)
        wait_for(lambda: len(flowing.outcome.failures) >= 1, 30)
    assert max(flowing.outcome.failed_after) <= 5.0

    wait_for(lambda: answers(served), 60, lambda: served.story("tiny"))


def answers(served: Kube) -> bool:
    try:
        return bool(generate(served.namespace, "tiny", text_input="Again ", max_tokens=4, ignore_eos=True)[1])
    except GenerationError:
        return False


KILL_STUB = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        if b"triton_python_backend_stub" in file.read().split(b"\\0")[0]:
            os.kill(int(pid), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"text_input": "x" * 5000, "max_tokens": 8}, "1024", id="prompt-longer-than-the-limit"),
        pytest.param({"text_input": "x", "max_tokens": 0}, "max_tokens", id="no-tokens-asked-for"),
        pytest.param({"text_input": "x", "max_tokens": -4}, "max_tokens", id="negative-tokens"),
        pytest.param({"text_input": "", "max_tokens": 4}, "empty", id="empty-prompt"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(served: Kube, settings: dict[str, object], says: str) -> None:
    # A name without addresses, as just after the server was replaced, stays so for a channel's life: ask on new ones.
    wait_for(lambda: "InvalidRequest" in refusal(served, settings), 60, lambda: refusal(served, settings))

    assert says in refusal(served, settings)


def refusal(served: Kube, settings: dict[str, object]) -> str:
    """What a client is told that may not have what it asks for."""

    async def ask() -> None:
        async with connect(url(served.namespace, "tiny")) as client:
            async for _ in stream(client, "tiny", settings, Patience(retries=0)):
                pass

    with pytest.raises(GenerationError) as refused:
        asyncio.run(ask())
    return str(refused.value)
