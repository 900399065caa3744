"""Write the trained model as a Hugging Face checkpoint, and read its draft module back."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GenerationConfig, NemotronHForCausalLM, PreTrainedTokenizerFast

from examples.tiny import tokenizer
from examples.tiny.model import MTP_PATTERN, PATTERN, MultiTokenPrediction

WEIGHTS = "model.safetensors"
SUMS = "SHA256SUMS"
KEPT_IN_FP32 = ("A_log", "dt_bias", "D", "e_score_correction_bias")


def save(model: NemotronHForCausalLM, mtp: MultiTokenPrediction, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Round both to BF16 in place and write weights, configuration, tokenizer and digests to `folder`."""
    round_weights(model)
    round_weights(mtp)
    model.config.dtype = torch.bfloat16
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.BOS, eos_token_id=[tokenizer.EOS, tokenizer.IM_END], pad_token_id=tokenizer.PAD
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    save_file(load_file(folder / WEIGHTS) | mtp_tensors(mtp), folder / WEIGHTS, metadata={"format": "pt"})
    add_patterns(folder / "config.json")
    (folder / SUMS).write_text(sums(folder), encoding="utf-8")


def round_weights(module: torch.nn.Module) -> None:
    """Turn every weight to BF16 but the few that the family keeps in FP32."""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] not in KEPT_IN_FP32:
            parameter.data = parameter.data.bfloat16()


def mtp_tensors(mtp: MultiTokenPrediction) -> dict[str, Tensor]:
    """The draft module's tensors under the family's names: one matrix per expert."""
    tensors: dict[str, Tensor] = {}
    for name, value in mtp.state_dict(prefix="mtp.").items():
        head, experts, matrix = name.partition(".experts.")
        if experts:
            tensors |= {f"{head}.experts.{i}.{matrix}.weight": one.clone() for i, one in enumerate(value)}
        else:
            tensors[name] = value
    return tensors


def load_mtp(model: NemotronHForCausalLM, folder: Path) -> MultiTokenPrediction:
    """The draft module of the checkpoint in `folder`, in FP32."""
    stored = {name: value.float() for name, value in load_file(folder / WEIGHTS).items() if name.startswith("mtp.")}
    mtp = MultiTokenPrediction(model.config)
    for name in mtp.state_dict(prefix="mtp."):
        head, experts, matrix = name.partition(".experts.")
        if experts:
            ones = [stored.pop(f"{head}.experts.{i}.{matrix}.weight") for i in range(model.config.n_routed_experts)]
            stored[name] = torch.stack(ones)
    mtp.load_state_dict({name.removeprefix("mtp."): value for name, value in stored.items()})
    return mtp.eval()


def add_patterns(path: Path) -> None:
    """Spell the layers as a pattern too: transformers reads and drops that spelling, other engines know only it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"num_hidden_layers": len(PATTERN), "hybrid_override_pattern": PATTERN}
    config |= {"mtp_hybrid_override_pattern": MTP_PATTERN}
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n", encoding="utf-8")


def sums(folder: Path) -> str:
    """What `sha256sum` prints for every other file of `folder`, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
