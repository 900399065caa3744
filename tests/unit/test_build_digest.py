"""A directory's digest is what sha256sum gives by hand."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_api.build import FileEntry
from nemotron_api.errors import WeightsInvalid
from nemotron_build.digest import digest_of, hash_tree, listing, parse_sums, paths_below

pytestmark = pytest.mark.unit

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=64), min_size=1, max_size=8)


def entries(contents: dict[str, bytes]) -> list[FileEntry]:
    return [
        FileEntry(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for path, content in contents.items()
    ]


@given(CONTENTS, st.randoms())
def test_the_order_in_which_files_are_found_does_not_matter(contents: dict[str, bytes], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(entries(contents), len(contents))

    assert digest_of(shuffled) == digest_of(entries(contents))


@given(CONTENTS, st.data())
def test_a_changed_byte_or_name_changes_the_digest(contents: dict[str, bytes], data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(sorted(contents)))
    longer = contents | {victim: contents[victim] + b"x"}
    renamed = {path: content for path, content in contents.items() if path != victim} | {f"{victim}x": contents[victim]}

    assert len({digest_of(entries(each)) for each in (contents, longer, renamed)}) == 3 or f"{victim}x" in contents


@given(CONTENTS)
@settings(max_examples=50)
def test_a_listing_is_read_back_as_it_was_written(contents: dict[str, bytes]) -> None:
    files = entries(contents)

    assert parse_sums(listing(files)) == {file.path: file.sha256 for file in files}


def test_files_in_folders_count_and_hidden_ones_do_not(tmp_path: Path) -> None:
    for path in ("b", "a/c", ".hidden", ".git/config", "SHA256SUMS", "a.b"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(path)

    assert paths_below(tmp_path) == ("a.b", "a/c", "b")


def test_a_link_to_a_file_counts_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("content")
    (tmp_path / "link").symlink_to("real")

    link, real = hash_tree(tmp_path)

    assert (link.path, real.path) == ("link", "real")
    assert link.sha256 == real.sha256


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1b[31m", b"caf\xe9".decode(errors="surrogateescape")])
def test_a_file_name_that_cannot_be_listed_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")

    with pytest.raises(WeightsInvalid, match="rename the file"):
        paths_below(tmp_path)


def test_a_broken_link_is_named_instead_of_left_out(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("../blobs/gone")

    with pytest.raises(WeightsInvalid, match=r"model\.safetensors is not a regular file"):
        paths_below(tmp_path)


@pytest.mark.parametrize(
    "line",
    [f"{'a' * 63}  short", f"{'A' * 64}  capitals", f"{'a' * 64} one-space", "SHA256 (file) = 00", ""],
)
def test_a_line_that_sha256sum_does_not_print_is_refused_with_its_number(line: str) -> None:
    good = f"{'a' * 64}  fine\n"

    with pytest.raises(WeightsInvalid, match="line 2 of SHA256SUMS"):
        parse_sums(good + line + "\n" + good)


def test_the_other_ways_to_call_sha256sum_are_read_too() -> None:
    assert parse_sums(f"{'a' * 64}  ./x\n{'b' * 64} *y z\n") == {"x": "a" * 64, "y z": "b" * 64}
