"""The catalogue of translations: `python -m tests.catalogue` reads the sources into it.

    python -m tests.catalogue          bring the .po files up to date and compile them
    python -m tests.catalogue --check  say what is missing, and fail where something is

Babel reads Python; Django turns each template into Python first. docs/translation.md says how to
add a language.
"""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages import pofile
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo

ROOT = Path(__file__).resolve().parents[1]
LOCALE = ROOT / "pathsearch_site" / "locale"
_KEYWORDS = {
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "_": None,
    "_now": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}


def sources() -> list[Path]:
    """Return the files whose texts people read: the rooms' Python and the templates."""
    listed = subprocess.run(
        ["git", "ls-files", "cases", "retrieval", "pathsearch_site", "templates"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if name.endswith((".py", ".html", ".txt"))]


def messages() -> Iterator[tuple[str | tuple[str, str], str]]:
    """Yield each text, or (singular, plural), with the file it stands in."""
    from django.utils.translation.template import templatize

    for path in sources():
        source = path.read_text(encoding="utf-8")
        if path.suffix != ".py":
            if "{%" not in source:
                continue
            source = templatize(source, origin=str(path))
        found = extract("python", io.BytesIO(source.encode()), _KEYWORDS, (), {})
        for _line, told, _comments, _context in found:
            text = told if isinstance(told, str) else (told[0], told[1])
            if text:
                yield text, str(path.relative_to(ROOT))


def template() -> Catalog:
    """Return all texts of the sources, without translations. No lines: they move too often."""
    found = Catalog(project="PathSearch", charset="utf-8", fuzzy=False)
    for text, place in messages():
        flags = ("python-format",) if "%(" in (text if isinstance(text, str) else text[0]) else ()
        found.add(text, locations=[(place, None)], flags=flags)
    return found


def read(path: Path) -> Catalog:
    """Return the catalogue of a .po file."""
    with path.open("rb") as file:
        return pofile.read_po(file, locale=path.parents[1].name)


def missing(path: Path) -> list[str]:
    """Return the texts of the sources that a .po file lacks, and those that it only guesses."""
    known, wanted = read(path), template()
    lacking = []
    for message in wanted:
        if not message.id:
            continue
        found = known.get(message.id if isinstance(message.id, str) else message.id[0])
        strings = (
            found.string if found and isinstance(found.string, tuple) else [found and found.string]
        )
        if found is None or found.fuzzy or not all(strings):
            lacking.append(str(message.id))
    return lacking


def update(path: Path) -> None:
    """Take new texts in, drop those that are gone, and compile."""
    known = read(path)
    known.update(template(), no_fuzzy_matching=True)
    known.obsolete.clear()
    known.fuzzy = False
    with path.open("wb") as file:
        pofile.write_po(file, known, width=100, sort_output=True, omit_header=False)
    with path.with_suffix(".mo").open("wb") as file:
        write_mo(file, known)


def main() -> int:
    paths = sorted(LOCALE.glob("*/LC_MESSAGES/django.po"))
    if "--check" not in sys.argv:
        for path in paths:
            update(path)
    lacking = {path: missing(path) for path in paths}
    for path, texts in lacking.items():
        print(f"{path.relative_to(ROOT)}: {len(texts)} missing")
        for text in texts:
            print("  ", text)
    return 1 if any(lacking.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
