"""Open an engine: put together what `pack` wrote, the books of its pools, and who drafts."""

from pathlib import Path

from nemotron_api.hybrid_config import MOE, HybridConfig
from nemotron_kernels.choose import Kernels
from nemotron_runtime.config import RuntimeConfig, load_config
from nemotron_runtime.draft_length import DraftLengths
from nemotron_runtime.engine import HybridEngine
from nemotron_runtime.executor import Executor, open_executor
from nemotron_runtime.governor import Governor
from nemotron_runtime.guides import open_guides
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.memory import Memory
from nemotron_runtime.prefix_cache import PrefixCache
from nemotron_runtime.scheduler import Budget
from nemotron_runtime.speculation import MOST_DRAFTS, LookUp, Module, Speculation
from nemotron_runtime.step_cost import StepTimes

PREFILL_TOKENS = 256
"""Prompt tokens of one step: enough to keep matrix products busy, few enough that streams beside them go on."""


def open_engine(
    directory: Path,
    *,
    threads: int | None = None,
    max_waiting: int = 256,
    exact: bool = False,
    drafts: bool = False,
    device: str | None = None,
    park_bytes: int | None = None,
    park_directory: Path | None = None,
    kernels: Kernels = "auto",
) -> HybridEngine:
    """Load what `pack` wrote and start the step thread.

    `threads` is how many threads compute a step; None chooses by weights and cores. `exact` computes every token to
    the same bits whatever else runs (tier E1), which is slower. `drafts` lets streams guess ahead where it pays, with
    the model's own module or, where it has none, from their own text; it changes tokens no more than other company
    does, and is off by default, as on small models on a CPU it costs more than it gains. `device` is one of torch's;
    None takes CUDA where there is any. Sessions that lose their place to others are kept in `park_bytes` of the host's
    memory, an eighth of what the process may use where it is None, then in files in `park_directory`, this engine's
    alone, where there is one; what nobody has room for is computed again, to the same tokens. `kernels` says who
    computes steps of a few tokens: "auto" is the compiled library on a CPU and Triton's fused kernels on CUDA, but for
    `exact`; "torch" needs neither. Raises EngineMismatch for a directory that this runtime did not pack, and for a
    device that is not there; InvalidModel for a model that it does not compute; KernelUnavailable where kernels are
    wanted and cannot be had.
    """
    runtime = load_config(directory)
    config, executor = open_executor(
        directory,
        runtime,
        threads=threads,
        exact=exact,
        drafts=drafts,
        device=device,
        park_bytes=park_bytes,
        park_directory=park_directory,
        kernels=kernels,
    )
    uses_module = executor.has_module
    ends = frozenset(token for token in runtime.eos_token_ids if token < config.vocab_size)
    return HybridEngine(
        executor,
        open_ledger(config, runtime, uses_module=uses_module),
        runtime,
        vocab_size=config.vocab_size,
        max_waiting=max_waiting,
        speculation=open_speculation(config, executor, uses_module=uses_module) if drafts else None,
        guides=open_guides(directory, config.vocab_size, ends),
    )


def open_ledger(
    config: HybridConfig, runtime: RuntimeConfig, *, prefill_tokens: int = PREFILL_TOKENS, uses_module: bool = False
) -> Ledger:
    """Empty books of an engine's pools."""
    memory = Memory(config, runtime, device="meta")
    cache = PrefixCache(memory.slot_bytes, memory.page_bytes)
    ahead = MOST_DRAFTS if uses_module else 0
    budget = Budget(prefill_tokens, runtime.page_tokens, running=runtime.max_batch, ahead=ahead)
    return Ledger(runtime.slots, runtime.pages, budget, cache, by_seed=runtime.state_dtype != "FP32")


def open_speculation(config: HybridConfig, executor: Executor, *, uses_module: bool) -> Speculation:
    """Drafts by the model's module, or by look-up."""
    times, plain = (StepTimes(config.experts if config.blocks(MOE) else 0, config.experts_per_token) for _ in range(2))
    lengths = DraftLengths(times, most=MOST_DRAFTS, is_module=uses_module)
    return Speculation(Module(executor) if uses_module else LookUp(), lengths, Governor(plain))
