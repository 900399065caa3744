"""Who computes is decided by device, mode and what is there; nothing else is taken silently."""

import pytest

from nemotron_kernels.choose import Choice, Implementation, Kernels, NoKernels, Situation, choose
from nemotron_kernels.launch import why_missing

pytestmark = pytest.mark.unit

NOTHING: dict[Implementation, str] = {"native": "no library", "triton": "no Triton"}


@pytest.mark.parametrize(
    ("wanted", "at", "expected"),
    [
        pytest.param("auto", Situation("cpu", exact=False), "native", id="the-library-on-a-cpu"),
        pytest.param("auto", Situation("cuda", exact=False), "triton", id="triton-on-cuda"),
        pytest.param("auto", Situation("mps", exact=False, missing=NOTHING), "torch", id="torch-on-others"),
        pytest.param("auto", Situation("cpu", exact=True, missing=NOTHING), "torch", id="torch-for-exact-mode"),
        pytest.param(
            "auto", Situation("cuda", exact=True, missing=NOTHING), "torch", id="torch-for-exact-mode-on-cuda"
        ),
        pytest.param("torch", Situation("cuda", exact=False, missing=NOTHING), "torch", id="torch-when-asked-for"),
        pytest.param("triton", Situation("cpu", exact=False), "triton", id="the-interpreter-when-asked-for"),
    ],
)
def test_the_choice(wanted: Kernels, at: Situation, expected: Implementation) -> None:
    assert choose(wanted, at).implementation == expected


@pytest.mark.parametrize(
    ("wanted", "at", "told"),
    [
        pytest.param(
            "auto", Situation("cpu", exact=False, missing=NOTHING), 'no library; kernels="torch" runs', id="cpu"
        ),
        pytest.param(
            "auto", Situation("cuda", exact=False, missing=NOTHING), 'no Triton; kernels="torch" runs', id="cuda"
        ),
        pytest.param("native", Situation("cuda", exact=False), "the library computes on CPUs", id="library-elsewhere"),
        pytest.param("triton", Situation("cuda", exact=True), "exact mode promises", id="exact"),
        pytest.param("fast", Situation("cpu", exact=False), "ask for one of auto, native, triton, torch", id="unknown"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_ask_for(wanted: Kernels, at: Situation, told: str) -> None:
    with pytest.raises(NoKernels, match=told):
        choose(wanted, at)


def test_every_choice_has_a_reason() -> None:
    reasons = {choose("auto", Situation(device, exact)).reason for device in ("cpu", "cuda") for exact in (True, False)}

    assert len(reasons) == 3
    assert choose("auto", Situation("mps", exact=False)) == Choice(
        "torch", "torch was asked for, or nothing else is there"
    )


def test_tritons_kernels_run_on_cuda_or_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert why_missing(is_cuda=True) is None
    assert "need a CUDA device" in str(why_missing(is_cuda=False))

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert why_missing(is_cuda=False) is None
