"""The code layer: deterministic, complete, and new whenever the code is."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nemotron_devcluster import environment, source
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.source import Source

pytestmark = pytest.mark.integration

PROJECT = """
[project]
name = "a-project"
version = "1.2"
[project.scripts]
greet = "greeting.cli:main"
elsewhere = "other.cli:main"
"""
CLI = "def main():\n    print('hello')\n"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working copy with one package, compiled by the Python at hand."""
    package = tmp_path / "clone/operator/greeting"
    package.mkdir(parents=True)
    (tmp_path / "clone/pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CLI)
    monkeypatch.setattr(source, "CLONE", tmp_path / "clone")
    monkeypatch.setattr(environment, "PYTHON", sys.executable)
    return tmp_path / "clone"


def built(tree: Path) -> dict[str, bytes]:
    """The layer's files by path."""
    tree.mkdir()
    Source("greeting", ("greeting",)).layer().build(tree)
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_the_same_code_is_the_same_layer_byte_for_byte(clone: Path, tmp_path: Path) -> None:
    key = Source("greeting", ("greeting",)).layer().key
    first = built(tmp_path / "first")
    for file in clone.rglob("*"):
        os.utime(file, (0, 0))

    assert Source("greeting", ("greeting",)).layer().key == key
    assert built(tmp_path / "second") == first


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("operator/greeting/cli.py", CLI + "\n", id="changed"),
        pytest.param("operator/greeting/more.py", "", id="added"),
        pytest.param("operator/greeting/page.html", "<p>", id="data"),
        pytest.param("pyproject.toml", PROJECT.replace("greet =", "hello ="), id="command-renamed"),
        pytest.param("pyproject.toml", PROJECT.replace("1.2", "1.3"), id="version"),
    ],
)
def test_other_code_is_another_layer(clone: Path, file: str, content: str) -> None:
    before = Source("greeting", ("greeting",)).layer().key

    (clone / file).write_text(content)

    assert Source("greeting", ("greeting",)).layer().key != before


def test_the_layer_holds_the_package_its_byte_code_its_commands_and_its_version(clone: Path, tmp_path: Path) -> None:
    files = built(tmp_path / "tree")

    assert files["opt/nemotron/src/greeting/cli.py"] == CLI.encode()
    assert any(name.startswith("opt/nemotron/src/greeting/__pycache__/cli.") for name in files)
    assert b"Version: 1.2" in files["opt/nemotron/src/a_project-1.2.dist-info/METADATA"]
    assert [name for name in files if "/bin/" in name] == ["opt/nemotron/bin/greet"]


def test_a_command_runs_the_function_it_names(clone: Path, tmp_path: Path) -> None:
    built(tmp_path / "tree")
    command = tmp_path / "tree/opt/nemotron/bin/greet"

    assert command.stat().st_mode & stat.S_IXOTH
    assert command.read_text().splitlines()[0] == "#!/opt/nemotron/venv/bin/python3"
    paths = {"PYTHONPATH": str(tmp_path / "tree/opt/nemotron/src")}
    assert subprocess.run([sys.executable, command], env=paths, capture_output=True).stdout == b"hello\n"


def test_code_that_does_not_compile_makes_no_layer(clone: Path, tmp_path: Path) -> None:
    (clone / "operator/greeting/cli.py").write_text("def main(:\n")

    with pytest.raises(ClusterError, match="does not compile"):
        built(tmp_path / "tree")
