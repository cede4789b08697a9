"""docs/encoders.md says of each encoder what the registry says."""

import re
from pathlib import Path

from retrieval.engine.encoders import IMAGE_ENCODERS, TEXT_ENCODERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"


def common(spec, last):
    return [
        spec.library or "torch",
        "yes" if spec.gated else "",
        spec.shares_space_with,
        spec.licence,
        last,
    ]


def image_rows():
    for s in IMAGE_ENCODERS.values():
        yield [s.name, str(s.dimension), f"{s.patch_px} px", f"{s.mpp:g}", *common(s, s.source)]


def text_rows():
    for s in TEXT_ENCODERS.values():
        yield [s.name, str(s.dimension), str(s.max_tokens), *common(s, s.source)]


def notes():
    """Return a line for each note; two entries of one release may share it."""
    said: dict[str, list[str]] = {}
    for spec in [*IMAGE_ENCODERS.values(), *TEXT_ENCODERS.values()]:
        if spec.note:
            said.setdefault(spec.note, []).append(spec.name)
    return [f"- {', '.join(dict.fromkeys(names))}: {note}" for note, names in said.items()]


def lines_of(title):
    """Return the rows of a table, or the lines of a list, between its two comments."""
    text = PAGE.read_text(encoding="utf-8")
    body = re.search(rf"<!-- {title}[^\n]*-->\n(.*?)<!-- end -->", text, flags=re.DOTALL).group(1)
    return [line for line in body.splitlines() if line and not line.startswith("| ---")]


def rows_of(title):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines_of(title)[1:]]


def test_the_table_of_image_encoders_is_the_registry():
    assert rows_of("table of image encoders") == list(image_rows())


def test_the_table_of_text_encoders_is_the_registry():
    assert rows_of("table of text encoders") == list(text_rows())


def test_the_notes_are_the_registrys():
    assert lines_of("notes") == notes()
