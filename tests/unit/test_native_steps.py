"""Steps that the library computes leave logits and memory as torch leaves them, and either goes on from the other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nemotron_kernels.paged_attention import raw
from nemotron_runtime import pack
from nemotron_runtime.executor import open_executor
from nemotron_runtime.request import Request
from nemotron_runtime.tails import WINDOW
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.members import Tensors, edit, rewrite
from tests.builders.native import HERE, native_opener
from tests.builders.numbers import error
from tests.builders.player import Opener, Player

pytestmark = pytest.mark.unit

TOKENS = [(7 * i * i + 3 * i + 5) % TINY["vocab_size"] for i in range(150)]
OTHERS = [(11 * i * i + i + 2) % TINY["vocab_size"] for i in range(150)]
CUTS = [20, 1, 1, 5, WINDOW, 1, 30, 1, 2, 7, *[1] * 34]
"""Windows of all sizes, with longer pieces, which torch computes, before and amid them."""

CLOSE = 2e-5

MEMBERS = [
    pytest.param({}, id="all-four-kinds-of-block"),
    pytest.param({"hybrid_override_pattern": "MEMEM*EME", "moe_latent_size": None}, id="nano"),
    pytest.param({"hybrid_override_pattern": "MEMEM*EME", "n_routed_experts": 16}, id="super-and-ultra"),
    pytest.param(
        {"hybrid_override_pattern": "M-M-M-MM-M*-M-", "mamba_head_dim": 80, "n_groups": 2, "head_dim": 64}, id="nano-4b"
    ),
    pytest.param(
        {"hybrid_override_pattern": "M-M*-M-", "num_key_value_heads": 3, "n_groups": 6, "head_dim": 128}, id="h-8b"
    ),
    pytest.param({"hybrid_override_pattern": "MMM", "ssm_state_size": 1, "mamba_head_dim": 3}, id="mamba-alone"),
    pytest.param({"hybrid_override_pattern": "*E*", "head_dim": 17}, id="attention-and-experts"),
    pytest.param({"use_bias": True, "mlp_bias": True, "n_group": 4, "topk_group": 2}, id="biases-and-groups"),
    pytest.param({"n_shared_experts": 0}, id="no-shared-expert"),
    pytest.param({"conv_kernel": 2, "use_conv_bias": False, "norm_topk_prob": False}, id="two-taps"),
    pytest.param({"dt_shift": -9.0}, id="steps-that-hardly-forget"),
]


def an_engine(directory: Path, dtype: Any = "FP32", *, state: Any = "FP32", kv: Any = None, **changes: Any) -> Path:
    shared = changes.pop("n_shared_experts", 1)
    checkpoint, out = a_checkpoint(directory / "checkpoint", **changes), directory / "engine"
    if not shared:
        edit(rewrite(checkpoint, without_shared_experts), n_shared_experts=0)
    pack(checkpoint, out, dtype=dtype, max_batch=4, max_sequence_tokens=160, state_dtype=state, kv_dtype=kv)
    return out


def without_shared_experts(tensors: Tensors) -> Tensors:
    """transformers makes them, whatever the config says."""
    return {name: tensor for name, tensor in tensors.items() if ".shared_experts." not in name}


def torch_opener(*arguments: Any, **options: Any) -> Any:
    return open_executor(*arguments, **options, kernels="torch")


def play(engine: Path, opener: Opener) -> tuple[Player, Tensor]:
    player = Player(engine, exact=False, opener=opener)
    return player, player.feed(player.begin(TOKENS), CUTS)


def differences(here: Player, there: Player) -> dict[str, float]:
    """How far each of two memories' tensors are apart; places that hold no token must be the same ones."""
    found = {}
    ours, theirs = here.memory, there.memory
    pairs = [*zip(ours.stacks, theirs.stacks, strict=True), (ours.keys, theirs.keys), (ours.values, theirs.values)]
    for number, (mine, other) in enumerate(pairs):
        mine, other = mine.double(), other.double()
        assert torch.equal(mine.isinf(), other.isinf())
        if mine.numel():
            found[str(number)] = error(mine.nan_to_num(posinf=0.0), other.nan_to_num(posinf=0.0))
    return found


@pytest.mark.parametrize("changes", MEMBERS)
def test_logits_and_memory_are_torchs(changes: dict[str, Any], tmp_path: Path) -> None:
    engine = an_engine(tmp_path, **changes)

    (native, logits), (plain, expected) = play(engine, native_opener()), play(engine, torch_opener)

    assert error(logits, expected) < CLOSE
    assert max(differences(native, plain).values()) < CLOSE


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
def test_every_set_of_instructions_computes_the_same_model(dtype: str, isa: int, tmp_path: Path) -> None:
    engine, wide = an_engine(tmp_path, dtype), an_engine(tmp_path / "wide")

    (_, logits), (_, plain), (_, expected) = (
        play(engine, native_opener(isa, threads=2)),
        play(engine, torch_opener),
        play(wide, torch_opener),
    )

    # Both are as near to FP32 as their type lets them be: the weights are what is rounded most.
    rms = [float((each - expected).square().mean().sqrt()) for each in (logits, plain)]
    assert error(logits, expected) < CLOSE if dtype == "FP32" else rms[0] < 1.25 * rms[1]


@pytest.mark.parametrize(
    ("options", "near"),
    [
        pytest.param({"state": "FP16"}, CLOSE, id="FP16-states"),
        pytest.param({"state": "INT8"}, CLOSE, id="INT8-states"),
        pytest.param({"kv": "FP8"}, 2e-2, id="FP8-keys-and-values"),
        pytest.param({"kv": "FP8", "dtype": "BF16", "state": "INT8"}, 5e-2, id="all-narrow"),
    ],
)
def test_what_is_kept_in_narrow_types_is_read_and_written_as_torch_does(
    options: dict[str, Any], near: float, tmp_path: Path
) -> None:
    engine = an_engine(tmp_path, **options)
    (native, logits), (plain, expected) = play(engine, native_opener()), play(engine, torch_opener)

    if "kv" in options:
        pages = [raw(each) for player in (native, plain) for each in (player.memory.keys, player.memory.values)]
        same = [float((mine == other).double().mean()) for mine, other in zip(pages[:2], pages[2:], strict=True)]
        assert min(same) > (0.95 if "dtype" in options else 0.99)
    # A last bit may decide which way a number is rounded; hardly any position is moved far by that.
    far = ((logits - expected).abs().amax(1) / expected.abs().max()).double()
    assert far.quantile(0.9) < near


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
def test_a_sequences_bits_are_its_own_in_any_company_on_any_number_of_threads(dtype: str, tmp_path: Path) -> None:
    engine = an_engine(tmp_path, dtype)
    alone = Player(engine, exact=False, opener=native_opener())
    crowd = Player(engine, exact=False, opener=native_opener(threads=3))

    one = alone.begin(TOKENS, slot=0)
    same, other, third = (crowd.begin(each, slot) for each, slot in ((TOKENS, 2), (OTHERS, 0), (OTHERS[9:], 3)))

    for step, count in enumerate([1, 1, 3, WINDOW, 2, *[1] * 30]):
        (expected,) = alone.compute((one, count, ()))
        parts = [(other, 1 + step % 4, ()), (same, count, ()), (third, 1, ())][: 3 if step % 3 else 2]
        found = crowd.compute(*parts)[1]
        assert torch.equal(found, expected)
    for mine, theirs in zip(alone.memory.stacks, crowd.memory.stacks, strict=True):
        assert torch.equal(mine[:, 0], theirs[:, 2])


def test_what_belongs_to_others_keeps_its_bits_even_where_it_is_no_number(tmp_path: Path) -> None:
    player = Player(an_engine(tmp_path), exact=False, opener=native_opener())
    memory, request = player.memory, player.begin(TOKENS, slot=1)
    player.feed(request, [20])
    own = set(request.held.pages)
    others = [page for page in range(1, memory.keys.shape[1]) if page not in own]
    for stack in memory.stacks:
        stack[:, [0, 2, 3]] = torch.nan
    memory.keys[:, others] = memory.values[:, others] = torch.nan

    logits = player.feed(request, [1, WINDOW, *[1] * 30])

    assert logits.isfinite().all()
    for stack in memory.stacks:
        assert stack[:, [0, 2, 3]].isnan().all()
    assert memory.keys[:, others].isnan().all()
    assert not memory.keys[:, 0].any()


def test_wrong_drafts_leave_no_trace(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    clean, tried = (Player(engine, exact=False, opener=native_opener()) for _ in range(2))
    plain, drafting = clean.begin(TOKENS), tried.begin(TOKENS)
    clean.feed(plain, [18])
    tried.feed(drafting, [18])

    for step in range(40):
        (expected,) = clean.compute((plain, 1, ()))
        (found,) = tried.compute((drafting, 1, tuple(OTHERS[step : step + step % WINDOW])))
        assert torch.equal(found[:1], expected)


def test_a_prefix_is_gone_on_from_in_another_slot(tmp_path: Path) -> None:
    player = Player(an_engine(tmp_path), exact=False, opener=native_opener())
    source = player.begin(TOKENS)
    whole = player.feed(source, [1] * 60)

    fork: Request = player.fork(source, 55, TOKENS, slot=2)

    assert error(player.feed(fork, [1] * 5), whole[55:]) < CLOSE
