"""`nemotron-build size` shows the choice with its arithmetic, to people and to programs."""

import json

import pytest

from nemotron_build.cli import main

pytestmark = pytest.mark.unit


def test_a_table_shows_what_was_tried_and_what_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", "nemotron-3-super", "--gpu", "H100-SXM", "--context", "131072"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Nemotron 3 Super 120B-A12B: 123,611,033,088 parameters")
    (chosen,) = [line for line in lines if line.endswith("← chosen")]
    assert chosen.split()[:2] == ["FP8", "2"]
    assert max(map(len, lines[4:-3])) <= 160


def test_programs_read_the_same_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", "super", "--gpu", "b200", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["chosen"]["weights"] == "NVFP4"
    assert told["chosen"]["weights_bytes"] == pytest.approx(79.0e9, rel=0.001)
    assert told["chosen"] in told["candidates"]


def test_every_model_has_a_column_and_every_gpu_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", "--all", "--context", "1048576"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (h200,) = [row for row in rows if row and row[0] == "H200-SXM"]
    assert h200[1:4] == ["1", "×", "FP8"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["size"], "takes a model and --gpu"),
        (["size", "nano"], "takes a model and --gpu"),
        (["size", "llama", "--gpu", "L4"], "no model of the family"),
        (["size", "nano", "--gpu", "H900"], "no GPU we know"),
    ],
)
def test_what_is_not_known_is_told_with_what_is(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in json.loads(capsys.readouterr().out)["message"]


def test_a_number_that_makes_no_sense_is_refused_at_once() -> None:
    with pytest.raises(SystemExit):
        main(["size", "nano", "--gpu", "L4", "--context", "0"])
