"""An evaluation as one HTML file that needs nothing else: no script, no font, no other host."""

from collections.abc import Iterable, Sequence
from html import escape

from retrieval.engine.evaluation_report import (
    ClassFigures,
    Confusion,
    EvaluationReport,
    GridCell,
    GridRow,
    Interval,
    MethodFigures,
    RetrievalSection,
)

COLUMNS = ("top-1", "macro top-1", "hit@5", "mMV@3", "mMV@5", "mAP")
_PAIR_COLUMNS = ("recall@1", "recall@5", "recall@10")

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1f26; background: #fff;
  margin: 0 auto; max-width: 75rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.75rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
caption { text-align: left; padding: .25rem 0; color: #3d4754; }
th, td { border-bottom: 1px solid #c9d1da; padding: .3rem .6rem; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { background: #eef2f6; } th[scope=row], .text { text-align: left; }
small { color: #4a5561; display: block; font-size: .8rem; white-space: nowrap; }
.scroll { overflow-x: auto; } .scroll:focus { outline: 3px solid #1f5fa8; }
.confusion td, .confusion th { padding: .15rem .35rem; font-size: .75rem; text-align: center; }
.right { background: #dcefe0; } .wrong { background: #fbe3e0; }
.grid img { display: block; width: 8rem; height: auto; }
.best { font-weight: 700; } .best small, th small { font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #3d4754; } dd { margin: 0; }
svg text { font: 12px system-ui, sans-serif; fill: #1a1f26; }
"""


def report_html(report: EvaluationReport) -> str:
    """Return the whole file."""
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        "<dl>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.facts),
        "</dl>",
    ]
    if report.notes:
        parts += ["<ul>", *(f"<li>{escape(note)}</li>" for note in report.notes), "</ul>"]
    for number, section in enumerate(report.sections):
        parts.append(_section(section, number))
    if report.pairs:
        parts.append(_pairs(report))
    if report.classes:
        parts.append(_classes(report.classes))
    if report.confusion:
        parts.append(_confusion(report.confusion))
    if report.grid:
        parts.append(_grid(report.grid))
    if report.agreements:
        parts.append(_agreements(report))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _number(value: float) -> str:
    return f"{value:.3f}"


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None:
        return _number(value)
    return f"{_number(value)}<small>{_number(interval[0])} to {_number(interval[1])}</small>"


def _table(
    caption: str, header: Sequence[str], rows: Iterable[str], css: str = "", label: str = ""
) -> str:
    """Return a table in a box that scrolls and can be reached by the keyboard.

    label: names the box, where another table has the same caption.
    """
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label or caption)}">'
        f'<table class="{css}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(head: str, cells: Iterable[str], *, about: str = "") -> str:
    more = f"<small>{escape(about)}</small>" if about else ""
    return (
        f'<tr><th scope="row">{escape(head)}{more}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _section(section: RetrievalSection, number: int) -> str:
    best = {name: max((m.figures[name] for m in section.methods), default=0.0) for name in COLUMNS}
    rows = []
    for method in section.methods:
        cells = []
        for name in COLUMNS:
            cell = _with_interval(method.figures[name], method.intervals.get(name))
            is_best = len(section.methods) > 1 and method.figures[name] == best[name]
            cells.append(f'<span class="best">{cell}</span>' if is_best else cell)
        rows.append(_row(method.name, cells, about=method.about))
    caption = (
        f"{section.queries} queries, {section.gallery} in the gallery. Below each figure: its "
        "95% bootstrap interval over patients. Bold: the best of the column."
    )
    return (
        f"<h2>{escape(section.title)}</h2><p>{escape(section.note)}</p>"
        + _chart(section.methods, f"Chart {number + 1}: top-1 and its interval by method")
        + _table(caption, ["method", *COLUMNS], rows, label=section.title)
    )


def _chart(methods: Sequence[MethodFigures], title: str) -> str:
    """Return top-1 as points with their intervals; the table beside it says the same."""
    longest = max((len(method.name) for method in methods), default=0)
    left, width, step = max(120, 8 * longest + 20), 420, 24
    height = step * len(methods) + 30
    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + width * tick
        marks.append(
            f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{height - 22}" stroke="#c9d1da"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick:g}</text>'
        )
    for at, method in enumerate(methods):
        y = 16 + step * at
        low, high = method.intervals.get("top-1", (method.figures["top-1"],) * 2)
        marks.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(method.name)}</text>'
            f'<line x1="{left + width * low:.1f}" y1="{y}" x2="{left + width * high:.1f}" '
            f'y2="{y}" stroke="#1f5fa8" stroke-width="2"/>'
            f'<circle cx="{left + width * method.figures["top-1"]:.1f}" cy="{y}" r="4" '
            'fill="#1f5fa8"/>'
        )
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="{left + width + 20}" '
        f'height="{height}">{"".join(marks)}</svg>'
    )


def _pairs(report: EvaluationReport) -> str:
    rows = []
    for pair in report.pairs:
        cells = [str(pair.queries), str(pair.gallery)]
        for name in _PAIR_COLUMNS:
            chance = pair.figures[f"chance {name}"]
            cells.append(f"{_number(pair.figures[name])}<small>chance {chance:.4f}</small>")
        middle, chance = pair.figures["median rank"], pair.figures["chance median rank"]
        cells.append(f"{middle:.0f}<small>chance {chance:.0f}</small>")
        rows.append(_row(pair.name, cells))
    header = ["search", "queries", "gallery", *_PAIR_COLUMNS, "median rank"]
    return "<h2>Exact pairs</h2>" + _table(
        "How early a query finds its very own counterpart; below: what chance would give.",
        header,
        rows,
    )


def _classes(classes: Sequence[ClassFigures]) -> str:
    has_floor = any(line.floor_top1 is not None for line in classes)
    names = ("top-1", "mMV@5", "mAP")
    rows = []
    for line in classes:
        cells = [str(line.queries)]
        if has_floor:
            cells.append("" if line.floor_top1 is None else _number(line.floor_top1))
        cells += [_number(line.figures[name]) for name in names]
        rows.append(_row(line.label, cells))
    floor = ["top-1 of the mean"] if has_floor else []
    return "<h2>By diagnosis</h2>" + _table(
        "Under the first section's exclusions.", ["diagnosis", "queries", *floor, *names], rows
    )


def _confusion(confusion: Confusion) -> str:
    rows = []
    for label, counts in zip(confusion.labels, confusion.counts, strict=True):
        total = sum(counts) or 1
        cells = []
        for count in counts:
            part = count / total
            # Never so dark that the dark text would be hard to read.
            shade = f"rgb({255 - round(145 * part)},{255 - round(115 * part)},255)"
            style = f' style="background:{shade}"' if count else ""
            cells.append(f"<td{style}>{count or ''}</td>")
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
    return "<h2>Confusion</h2>" + _table(
        "Row: the query's diagnosis. Column: the diagnosis of the nearest slide. Counts.",
        ["diagnosis", *confusion.labels],
        rows,
        "confusion",
    )


def _cell(cell: GridCell, css: str) -> str:
    picture = (
        f'<img src="{escape(cell.picture)}" alt="Slide {escape(cell.name)}">'
        if cell.picture
        else ""
    )
    return f'<td class="text {css}">{picture}{escape(cell.label)}<small>{escape(cell.name)}</small>'


def _grid(grid: Sequence[GridRow]) -> str:
    most = max(len(row.found) for row in grid)
    rows = []
    for row in grid:
        cells = [_cell(row.query, "") + "</td>"]
        for cell in row.found:
            # Said in words too: colour alone does not reach everybody.
            mark = "same diagnosis" if cell.is_right else "another diagnosis"
            css = "right" if cell.is_right else "wrong"
            cells.append(_cell(cell, css) + f"<small>{mark}</small></td>")
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return "<h2>Examples</h2>" + _table(
        "Queries drawn evenly over the diagnoses, and their nearest slides.",
        ["query", *(f"rank {rank}" for rank in range(1, most + 1))],
        rows,
        "grid",
    )


def _agreements(report: EvaluationReport) -> str:
    rows = [
        _row(
            f"{line.first} and {line.second}",
            [
                str(line.items),
                str(line.same),
                "not defined" if line.kappa != line.kappa else f"{line.kappa:.2f}",
            ],
        )
        for line in report.agreements
    ]
    return "<h2>Agreement of readers</h2>" + _table(
        "Verdicts of two readers on the same answers. Kappa: 1 is full agreement, 0 chance.",
        ["readers", "answers", "same verdict", "kappa"],
        rows,
    )
