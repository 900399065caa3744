"""Read what every benchmark can be told."""

import argparse
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    quick: bool
    """Measure once and write no file: a look, not a result."""
    only: re.Pattern[str]

    def wants(self, case: str) -> bool:
        return self.only.search(case) is not None


def read_options(description: str | None) -> Options:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="measure once; nothing is written to benchmarks/results")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases in whose name it is found")
    given = parser.parse_args()
    return Options(given.quick, re.compile(given.only))
