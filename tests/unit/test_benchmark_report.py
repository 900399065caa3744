"""Results become files, and files become a page."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import results_file
from benchmarks.report import UnknownResults, filled, newest, section
from benchmarks.results_file import Row, merged, read_rows, write
from benchmarks.table import number, show

pytestmark = pytest.mark.unit

PAGE = "before\n<!-- results: runtime -->\nold\n<!-- end -->\nafter\n"


def a_row(**changes: object) -> Row:
    row = Row("tiny FP32, 1 × (64 + 128)", "decode", 1234.5, "tokens/s", "transformers", 300.0, 4.115, 4.0, True)
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


rows = st.lists(
    st.builds(
        Row,
        case=st.sampled_from(["a", "b"]),
        metric=st.sampled_from(["decode", "prefill"]),
        value=st.floats(0, 10),
        unit=st.just("s"),
        peer=st.sampled_from(["x", None]),
    ),
    unique_by=lambda row: row.key,
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results_file, "RESULTS", tmp_path)
    monkeypatch.setattr(results_file, "measured_commit", lambda: "abc1234")
    return tmp_path


@given(rows, rows)
def test_what_is_measured_anew_replaces_what_was_and_the_rest_stays(earlier: list[Row], later: list[Row]) -> None:
    by_key = {row.key: row for row in merged(earlier, later)}
    assert by_key == {row.key: row for row in [*earlier, *later]}


def test_rows_come_back_from_the_file_as_they_were_written(results: Path) -> None:
    measured = [a_row(), a_row(metric="prefill", spread=(1.0, 2.0), bandwidth_share=0.5, note="eager")]
    assert read_rows(write("runtime", measured, ("torch",))) == measured


def test_a_second_run_of_the_same_commit_adds_to_the_file(results: Path) -> None:
    write("runtime", [a_row()], ())
    path = write("runtime", [a_row(metric="prefill")], ())
    assert [row.metric for row in read_rows(path)] == ["decode", "prefill"]


def test_a_run_of_another_commit_begins_a_new_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("runtime", [a_row()], ())
    monkeypatch.setattr(results_file, "measured_commit", lambda: "def5678")
    path = write("runtime", [a_row(metric="prefill")], ())
    assert [row.metric for row in read_rows(path)] == ["prefill"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean repository that results are written into."""
    for name in ("benchmarks/results/runtime-20260101.json", "docs/performance.md", "engine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(results_file, "RESULTS", tmp_path / "benchmarks/results")
    return tmp_path


@pytest.mark.parametrize("name", ["benchmarks/results/runtime-20260101.json", "docs/performance.md"])
def test_what_measuring_writes_leaves_the_commit_what_it_is(repository: Path, name: str) -> None:
    (repository / name).write_text("new")
    assert not results_file.measured_commit().endswith("+")


def test_a_changed_program_is_no_longer_the_commit(repository: Path) -> None:
    (repository / "engine.py").write_text("new")
    assert results_file.measured_commit().endswith("+")


def test_what_was_not_measured_is_absent_from_the_file(results: Path) -> None:
    path = write("runtime", [Row("case", "decode", 1.0, "tokens/s")], ())
    assert json.loads(path.read_text())["rows"] == [
        {"case": "case", "metric": "decode", "value": 1.0, "unit": "tokens/s"}
    ]


def test_only_the_newest_file_of_each_benchmark_is_told(tmp_path: Path) -> None:
    for name in ("runtime-20260101", "runtime-20261231", "long-context-20260601"):
        (tmp_path / f"{name}.json").touch()
    assert {name: path.stem for name, path in newest(tmp_path).items()} == {
        "runtime": "runtime-20261231",
        "long-context": "long-context-20260601",
    }


def test_a_section_replaces_what_stood_between_its_markers() -> None:
    assert filled(PAGE, {"runtime": "new\n"}) == PAGE.replace("old", "new")


@given(st.text(alphabet="ab\\1g<>\n", max_size=20))
def test_filling_a_page_twice_changes_nothing_more(text: str) -> None:
    once = filled(PAGE, {"runtime": text + "\n"})
    assert filled(once, {"runtime": text + "\n"}) == once


def test_a_benchmark_without_results_says_how_to_get_them() -> None:
    assert "make bench-runtime" in filled(PAGE, {})
    assert "make gpu" in filled(PAGE.replace("runtime", "gpu"), {})


def test_results_without_a_place_say_what_to_write() -> None:
    with pytest.raises(UnknownResults, match=r"results: NAME"):
        filled(PAGE, {"soak": "text\n"})


def test_a_section_names_commit_machine_and_versions_and_has_a_table_per_shape(results: Path) -> None:
    text = section(write("runtime", [a_row(), a_row(case="wide FP32, 1 × (16 + 24)")], ("torch",)))
    assert "`abc1234`" in text
    assert "torch 2" in text
    assert text.count("| figure") == 2


def test_the_committed_page_has_a_place_for_every_committed_result() -> None:
    page = Path(__file__).parents[2] / "docs/performance.md"
    filled(page.read_text(), dict.fromkeys(newest(results_file.RESULTS), "\n"))


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    table = show([Row("case", "decode", 1.0, "tokens/s")])
    assert table.splitlines()[0].split() == ["|", "case", "|", "figure", "|", "ours", "|"]


def test_a_missed_target_is_shown_as_missed() -> None:
    assert "≥ 4× ✗" in show([a_row(met=False)])
    assert "≥ 4× ✓" in show([a_row(met=True)])


@pytest.mark.parametrize(
    ("value", "met", "text"),
    [
        pytest.param(20.0, True, "≤ 30 µs ✓", id="below-and-met"),
        pytest.param(40.0, False, "≤ 30 µs ✗", id="above-and-missed"),
        pytest.param(40.0, True, "≥ 30 µs ✓", id="above-and-met"),
        pytest.param(20.0, False, "≥ 30 µs ✗", id="below-and-missed"),
    ],
)
def test_a_target_without_a_peer_is_a_figure_of_its_own(value: float, met: bool, text: str) -> None:
    assert text in show([Row("case", "CPU/token", value, "µs", target=30.0, met=met)])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00554, "0.00554"),
        (1.0, "1"),
        (12.345, "12.3"),
        (999.9, "1,000"),
        (12345.6, "12,300"),
        (-2.15, "-2.15"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text
