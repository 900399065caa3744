"""Write the results of every benchmark into docs/performance.md, between its markers."""

import json
import re
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.results_file import RESULTS, Row, read_rows
from benchmarks.table import show

PAGE = Path(__file__).parents[1] / "docs/performance.md"

MARKED = re.compile(r"(<!-- results: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

COMMANDS = {"gpu": "make gpu", "serving": "make bench-serving"}
"""What measures what `make bench-runtime` does not."""


class UnknownResults(ValueError):
    """There are results that the page has no place for."""


def newest(folder: Path) -> Mapping[str, Path]:
    """The latest file of every benchmark, by its name."""
    files = sorted(folder.glob("*-????????.json"), key=lambda path: path.stem[-8:])
    return {path.stem[:-9]: path for path in files}


def filled(page: str, sections: Mapping[str, str]) -> str:
    """The page with a section between each pair of markers. Raises UnknownResults where one has no markers."""
    placed = {match["name"] for match in MARKED.finditer(page)}
    if unknown := sorted(set(sections) - placed):
        raise UnknownResults(
            f"the page has no place for {', '.join(unknown)}: "
            "write `<!-- results: NAME -->` and `<!-- end -->` where the tables shall stand"
        )
    return MARKED.sub(lambda match: f"{match[1]}{_content(match['name'], sections)}{match[3]}", page)


def _content(name: str, sections: Mapping[str, str]) -> str:
    return sections.get(name) or f"Not measured yet: `{COMMANDS.get(name, 'make bench-runtime')}`.\n"


def section(path: Path) -> str:
    """When, where and with what it was measured, then a table for each shape of model."""
    content = json.loads(path.read_text())
    tables = [show(list(rows)) for _, rows in groupby(read_rows(path), key=_shape)]
    return "\n\n".join([_circumstances(content), *tables]) + "\n"


def _shape(row: Row) -> str:
    return row.case.partition(",")[0]


def _circumstances(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    hardware = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']:g} GiB"
    gpu = f"{machine['gpu']}, " if machine.get("gpu") else ""
    return f"Measured on {content['date'][:10]} at commit `{content['commit']}`: {gpu}{hardware}; {versions}."


def main() -> None:
    sections = {name: section(path) for name, path in newest(RESULTS).items()}
    try:
        PAGE.write_text(filled(PAGE.read_text(), sections))
    except UnknownResults as unknown:
        sys.exit(f"{PAGE.name}: {unknown}")
    print(f"{PAGE}: {', '.join(sections) or 'no results'}")


if __name__ == "__main__":
    main()
