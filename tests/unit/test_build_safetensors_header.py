"""A safetensors file is judged by its header, and what is wrong with it is said with the file's name."""

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.errors import WeightsInvalid
from nemotron_build.safetensors_header import TensorInfo, read_header
from tests.builders.checkpoint_files import a_tensor_file

pytestmark = pytest.mark.unit

FILE = "model-00001-of-00002.safetensors"
SHAPES = {"a": (3, 4), "b": (), "c": (0, 7)}


def read(content: bytes) -> dict[str, TensorInfo]:
    return dict(read_header(FILE, io.BytesIO(content), len(content)))


def with_header(header: Any, data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def test_every_tensor_is_described() -> None:
    found = read(a_tensor_file(SHAPES))

    assert {name: tensor.shape for name, tensor in found.items()} == SHAPES
    assert {tensor.file for tensor in found.values()} == {FILE}
    assert [tensor.elements for tensor in found.values()] == [12, 1, 0]


@given(st.data())
def test_a_file_cut_anywhere_is_refused_by_name(data: st.DataObject) -> None:
    whole = a_tensor_file(SHAPES)
    kept = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(WeightsInvalid, match=FILE):
        read(whole[:kept])


def test_a_truncated_file_is_told_with_both_numbers() -> None:
    whole = a_tensor_file(SHAPES)

    with pytest.raises(WeightsInvalid, match=f"asks for {len(whole)} bytes, the file has {len(whole) - 5}"):
        read(whole[:-5])


def test_bytes_that_no_tensor_owns_are_refused() -> None:
    with pytest.raises(WeightsInvalid, match=FILE):
        read(a_tensor_file(SHAPES) + b"x")


@given(st.binary(max_size=200))
def test_no_content_ends_in_anything_but_tensors_or_a_sentence(content: bytes) -> None:
    try:
        read(content)
    except WeightsInvalid as error:
        assert FILE in str(error)  # noqa: PT017 - both outcomes are right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.text(max_size=3), JSON | st.fixed_dictionaries({"dtype": JSON, "shape": JSON, "data_offsets": JSON})
    )
)
def test_no_header_ends_in_anything_but_tensors_or_a_sentence(header: dict[str, Any]) -> None:
    try:
        read(with_header(header))
    except WeightsInvalid as error:
        assert FILE in str(error)  # noqa: PT017 - both outcomes are right


def an_entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "0 bytes, too few", id="empty"),
        pytest.param(struct.pack("<Q", 1 << 62) + b"{}", "at most 100000000", id="insane-header-size"),
        pytest.param(struct.pack("<Q", 1000) + b"{}", "truncated", id="header-beyond-the-end"),
        pytest.param(with_header(b"<html>not found"), "not JSON", id="an-error-page"),
        pytest.param(with_header(b"\xff\xfe\xfd"), "not JSON", id="not-utf-8"),
        pytest.param(with_header(b"[" * 100_000), "not JSON", id="nested-too-deep"),
        pytest.param(with_header([1]), "not a JSON object", id="not-an-object"),
        pytest.param(with_header({"t": [1]}), "tensor 't'", id="entry-is-no-object"),
        pytest.param(with_header({"t": an_entry(shape=[-2])}), "tensor 't'", id="negative-size"),
        pytest.param(with_header({"t": an_entry(shape=[True])}), "tensor 't'", id="boolean-size"),
        pytest.param(with_header({"t": an_entry(dtype="F4_X")}), "as F4_X", id="unknown-type"),
        pytest.param(with_header({"t": an_entry(shape=[3])}, bytes(8)), "takes 12", id="size-and-shape-differ"),
        pytest.param(with_header({"t": an_entry(data_offsets=[8, 0])}), "tensor 't'", id="ends-before-it-begins"),
        pytest.param(with_header({"t": an_entry(data_offsets=[4, 12])}, bytes(12)), "not at 0", id="hole"),
        pytest.param(
            with_header({"t": an_entry(), "u": an_entry(data_offsets=[4, 12])}, bytes(12)), "not at 8", id="overlap"
        ),
    ],
)
def test_what_is_wrong_is_said(content: bytes, says: str) -> None:
    with pytest.raises(WeightsInvalid, match=FILE) as failure:
        read(content)

    assert says in str(failure.value)
