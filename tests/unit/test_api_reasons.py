"""The reason catalogue: complete, spelled as Kubernetes wants it, and the only source of reasons."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_api import errors, names
from nemotron_api.errors import NemotronError, RequestError
from nemotron_api.reasons import catalogue, is_known
from nemotron_operator import artifact_plan, checks, status

pytestmark = pytest.mark.unit

OPERATOR = Path(status.__file__).parent
CONDITION_TYPES = {getattr(names, name) for name in ("ACCEPTED", "WEIGHTS_READY", "ENGINE_READY", "CAPACITY_AVAILABLE")}
CONDITION_TYPES |= {getattr(names, name) for name in ("AVAILABLE", "PROGRESSING", "SCALING_ACTIVE", "READY")}


@pytest.mark.parametrize("reason", catalogue(), ids=lambda r: f"{r.type}-{r.status}-{r.name}")
def test_each_entry_is_well_formed(reason: object) -> None:
    entry = reason
    assert isinstance(entry, type(catalogue()[0]))
    assert re.fullmatch(r"[A-Z][A-Za-z]{2,39}", entry.name)
    assert entry.type in CONDITION_TYPES
    assert entry.status in ("True", "False")
    assert entry.when.endswith(".")


def test_no_entry_stands_twice() -> None:
    keys = [(r.type, r.status, r.name) for r in catalogue()]
    assert sorted(keys) == sorted(set(keys))


def reasons_in(path: Path) -> Iterator[str]:
    """Texts that stand where a condition's or a finding's reason goes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            position = {"true": 1, "false": 1, "unknown": 1, "Finding": 0, "hindered": 1}.get(node.func.id)
            if position is not None and len(node.args) > position:
                yield from texts(node.args[position])
            yield from (t for k in node.keywords if k.arg == "reason" for t in texts(k.value))


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


@pytest.mark.parametrize("path", sorted(OPERATOR.glob("*.py")), ids=lambda p: p.stem)
def test_every_reason_in_the_code_is_in_the_catalogue(path: Path) -> None:
    known = {reason.name for reason in catalogue()}
    assert set(reasons_in(path)) <= known


def test_the_search_for_reasons_finds_them() -> None:
    assert "Queued" in set(reasons_in(Path(artifact_plan.__file__)))
    assert "NameTaken" in set(reasons_in(Path(checks.__file__)))


def leaves(root: type[NemotronError]) -> Iterator[type[NemotronError]]:
    yield root
    for child in root.__subclasses__():
        yield from leaves(child)


@pytest.mark.parametrize(
    "error",
    [e for e in leaves(NemotronError) if not issubclass(e, RequestError) and e.__module__ == errors.__name__],
    ids=lambda e: e.__name__,
)
def test_every_error_a_job_can_end_with_is_in_the_catalogue(error: type[NemotronError]) -> None:
    assert is_known(names.WEIGHTS_READY, "False", error.reason)
    assert is_known(names.ENGINE_READY, "False", error.reason)
    assert error.__doc__


def test_errors_have_reasons_of_their_own() -> None:
    reasons = [error.reason for error in leaves(NemotronError) if error.__module__ == errors.__name__]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize(
    ("type_", "condition_status", "reason", "expected"),
    [
        (names.READY, "True", "Serving", True),
        (names.READY, "True", "Complete", False),
        (names.READY, "False", "NewRevision", True),
        (names.READY, "False", "NoSuchThing", False),
        (names.AVAILABLE, "False", "ScaledToZero", True),
        (names.AVAILABLE, "True", "ScaledToZero", False),
        (names.WEIGHTS_READY, "True", "ChecksumMismatch", False),
        (names.ACCEPTED, "False", "Building", False),
    ],
)
def test_what_is_known(type_: str, condition_status: str, reason: str, *, expected: bool) -> None:
    assert is_known(type_, condition_status, reason) is expected
