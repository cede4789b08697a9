"""Figures as Markdown tables."""

from collections.abc import Mapping, Sequence

RETRIEVAL_COLUMNS = ("top-1", "macro top-1", "hit@5", "mMV@3", "mMV@5", "mAP")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are text already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell for cell in line) + " |" for line in lines) + "\n"


def figure(value: float, interval: tuple[float, float] | None = None) -> str:
    """Return a share with three digits, and its interval when there is one."""
    text = f"{value:.3f}"
    return text if interval is None else f"{text} ({interval[0]:.3f} to {interval[1]:.3f})"


def retrieval_table(
    rows: Sequence[tuple[str, Mapping[str, float], Mapping[str, tuple[float, float]]]],
    columns: Sequence[str] = RETRIEVAL_COLUMNS,
) -> str:
    """Return a line for each method: name, figures, and intervals where they are known."""
    return markdown(
        ["method", *columns],
        [
            [name, *(figure(values[c], intervals.get(c)) for c in columns)]
            for name, values, intervals in rows
        ],
    )
