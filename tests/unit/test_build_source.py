"""A URI names files to read, inside the place this process may read, or is refused with a sentence."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.errors import InvalidSpec, NemotronError, SourceError, SourceNotFound, UnsupportedSource
from nemotron_build.folder import Folder
from nemotron_build.source import Access, open_source

pytestmark = pytest.mark.unit


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    model = tmp_path / "claim" / "models" / "my model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (tmp_path / "secret").write_text("not on the claim")
    return tmp_path / "claim"


@pytest.mark.parametrize("uri", ["pvc://models/models/my%20model", "pvc://models//models/my model/"])
def test_a_path_on_the_mounted_claim_is_opened(claim: Path, uri: str) -> None:
    source = open_source(uri, Access(claim=claim))

    assert source.sizes() == {"config.json": 2}
    with source.open("config.json") as file:
        assert file.read() == b"{}"


def test_a_claim_can_be_the_checkpoint_itself(claim: Path) -> None:
    assert open_source("pvc://models", Access(claim=claim / "models" / "my model")).sizes() == {"config.json": 2}


def test_files_of_the_machine_are_read_only_where_that_is_allowed(claim: Path) -> None:
    uri = f"file://{claim}/models/my model"

    assert open_source(uri, Access(files=True)).sizes() == {"config.json": 2}
    with pytest.raises(UnsupportedSource, match="for the command line only"):
        open_source(uri, Access(claim=claim))


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        (
            "s3://bucket/model",
            UnsupportedSource,
            "known are hf://<owner>/<repository>@<commit>, pvc://<claim>/<path>, file:///<path>",
        ),
        ("hf://nvidia/model@main", InvalidSpec, "a branch may change any time"),
        ("models/nano", UnsupportedSource, "known are hf://"),
        ("", UnsupportedSource, "known are hf://"),
        ("pvc://", InvalidSpec, "names no claim"),
        ("pvc:///models", InvalidSpec, "names no claim"),
        ("pvc://models/../../etc", InvalidSpec, "or leaves it"),
        ("pvc://models/%2e%2e/%2e%2e/etc", InvalidSpec, "or leaves it"),
        ("pvc://models/a%00b", InvalidSpec, "or leaves it"),
        ("pvc://models/nothing", SourceNotFound, "there is no /nothing on claim models"),
        ("pvc://models/models/my model/config.json", SourceNotFound, "name the folder that holds config.json"),
        ("file://models", InvalidSpec, "not an absolute path"),
        ("file:///no/such/folder", SourceNotFound, "there is no /no/such/folder"),
    ],
)
def test_a_uri_that_names_nothing_is_refused(claim: Path, uri: str, error: type[NemotronError], says: str) -> None:
    with pytest.raises(error) as failure:
        open_source(uri, Access(claim=claim, files=True))

    assert type(failure.value) is error
    assert says in str(failure.value)


def test_a_claim_that_is_not_mounted_says_how_to_mount_it() -> None:
    with pytest.raises(InvalidSpec, match="--source-mount"):
        open_source("pvc://models/nano", Access())


def test_links_lead_anywhere_on_the_claim_and_nowhere_else(claim: Path) -> None:
    model = claim / "models" / "my model"
    (claim / "blobs").mkdir()
    (claim / "blobs" / "a1").write_text("shared")
    (model / "model.safetensors").symlink_to("../../blobs/a1")

    assert open_source("pvc://models/models/my model", Access(claim=claim)).sizes()["model.safetensors"] == 6

    (model / "stolen").symlink_to("../../../secret")
    with pytest.raises(SourceError, match="stolen is a link that leaves the volume"):
        open_source("pvc://models/models/my model", Access(claim=claim)).sizes()


def test_sums_may_not_be_read_from_elsewhere_either(claim: Path) -> None:
    (claim / "models" / "my model" / "SHA256SUMS").symlink_to("../../../secret")

    with pytest.raises(SourceError, match="SHA256SUMS is a link that leaves the volume"):
        Folder(claim / "models" / "my model", claim).sums()


def test_a_file_that_may_not_be_read_is_named(claim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(SourceError, match=r"cannot read .*config\.json: Permission denied"):
        Folder(claim / "models" / "my model", claim).open("config.json")


@given(st.sampled_from(["", "pvc://", "pvc://claim/", "file://", "file:///"]), st.text(max_size=300))
def test_no_uri_ends_in_anything_but_a_source_or_a_sentence(start: str, rest: str) -> None:
    try:
        open_source(start + rest, Access(claim=Path("/nonexistent"), files=True))
    except NemotronError as error:
        assert str(error)  # noqa: PT017 - both outcomes are right
