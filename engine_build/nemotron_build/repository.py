"""Render the Triton model repository of an engine."""

from pathlib import Path

from nemotron_api.tensors import INPUTS, OUTPUTS, Tensor

FOLDER = "model_repository"
VERSION = "1"

_CONFIG = """\
name: "{model}"
backend: "python"
max_batch_size: 0
model_transaction_policy {{ decoupled: true }}
instance_group [ {{ count: 1, kind: KIND_MODEL }} ]
input [
{inputs}
]
output [
{outputs}
]
"""
# Triton's own batching is off and there is one instance: the engine batches all running sequences itself.

MODEL = "from nemotron_backend.model import TritonPythonModel as TritonPythonModel\n"


def write(engine: Path, model: str) -> None:
    """Write `<engine>/model_repository/<model>/`: config.pbtxt and the module that Triton loads."""
    version = engine / FOLDER / model / VERSION
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(config(model))
    (version / "model.py").write_text(MODEL)


def config(model: str) -> str:
    """The text of config.pbtxt: every tensor of the table, all inputs optional."""
    return _CONFIG.format(
        model=model,
        inputs=",\n".join(_entry(tensor, ", optional: true") for tensor in INPUTS),
        outputs=",\n".join(_entry(tensor) for tensor in OUTPUTS),
    )


def _entry(tensor: Tensor, more: str = "") -> str:
    dims = ", ".join(map(str, tensor.dims))
    return f'  {{ name: "{tensor.name}", data_type: {tensor.config_type}, dims: [ {dims} ]{more} }}'
