"""Show rows as a table that reads as text and as Markdown."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.results_file import Row

Column = Callable[[Row], str]

SIGNIFICANT_DIGITS = 3


def show(rows: Sequence[Row]) -> str:
    """Markdown, without the columns in which nothing stands."""
    columns = {title: cells for title, cells in _cells(rows).items() if any(cells)}
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    lines = [list(columns), ["-" * width for width in widths.values()], *zip(*columns.values(), strict=True)]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths.values(), strict=True))} |"
        for line in lines
    )


def number(value: float) -> str:
    """Three significant digits, thousands with commas, no exponents."""
    rounded = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10**SIGNIFICANT_DIGITS else f"{rounded:g}"


def _cells(rows: Sequence[Row]) -> Mapping[str, list[str]]:
    return {title: [column(row) for row in rows] for title, column in COLUMNS.items()}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _spread(spread: tuple[float, float] | None) -> str:
    return "" if spread is None or spread[0] == spread[1] else f"{number(spread[0])}–{number(spread[1])}"


def _target(row: Row) -> str:
    """What was aimed at: times a peer's figure, or a figure of our own that `met` says on which side of it we are."""
    if row.target is None:
        return ""
    mark = "✓" if row.met else "✗"
    if row.peer:
        return f"≥ {row.target:g}× {mark}"
    side = "≤" if row.met == (row.value <= row.target) else "≥"
    return f"{side} {number(row.target)} {row.unit} {mark}"


COLUMNS: Mapping[str, Column] = {
    "case": lambda row: row.case,
    "figure": lambda row: row.metric,
    "ours": lambda row: f"{number(row.value)} {row.unit}",
    "spread": lambda row: _spread(row.spread),
    "peer": lambda row: row.peer or "",
    "theirs": lambda row: "" if row.peer_value is None else number(row.peer_value),
    "their spread": lambda row: _spread(row.peer_spread),
    "ratio": lambda row: "" if row.ratio is None else f"{row.ratio:.2f}×",
    "target": _target,
    "of read rate": lambda row: _percent(row.bandwidth_share),
    "of GEMM rate": lambda row: _percent(row.gemm_share),
    "of a step": lambda row: _percent(row.step_share),
    "note": lambda row: row.note or "",
}
