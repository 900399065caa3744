"""What must never creep into the tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("operator", "engine_build", "backend", "kernels", "devcluster")


@pytest.mark.parametrize("root", ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    """`operator/__init__.py` would shadow the standard library's `operator`."""
    assert (REPOSITORY / root).is_dir()
    assert not (REPOSITORY / root / "__init__.py").exists()


def test_the_standard_librarys_operator_is_the_one_that_is_imported() -> None:
    code = "import operator; print(operator.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert str(REPOSITORY / "operator") not in found.stdout


@pytest.mark.parametrize("package", ["nemotron_api", "nemotron_operator"])
def test_importing_the_package_imports_nothing(package: str) -> None:
    source = (REPOSITORY / "operator" / package / "__init__.py").read_text()
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("module", ["errors", "tensors", "hybrid_config", "layout", "quantisation", "checkpoint"])
def test_what_gpu_images_import_of_the_api_pulls_no_pydantic_in(module: str) -> None:
    assert "pydantic" not in imported_by(f"nemotron_api.{module}")


@pytest.mark.parametrize("module", ["nemotron_operator.plan", "nemotron_operator.reconciler", "nemotron_operator.cli"])
def test_the_operator_needs_neither_torch_nor_kopf_to_plan(module: str) -> None:
    assert not {"torch", "kopf", "numpy", "tritonclient"} & imported_by(module)


def imported_by(module: str) -> set[str]:
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def test_no_file_of_the_operator_grew_beyond_what_a_reader_holds_in_mind() -> None:
    long = {str(p.relative_to(REPOSITORY)): len(p.read_text().splitlines()) for p in python_files("operator")}
    assert {path: lines for path, lines in long.items() if lines > 260} == {}


def test_no_error_is_swallowed_without_a_word() -> None:
    swallow = re.compile(r"except( Exception| BaseException)?:\s*(#.*)?\n\s*pass\b")
    assert [str(path) for path in python_files(*ROOTS) if swallow.search(path.read_text())] == []
