"""Every route of the site, read from the URL resolver, and values for its parameters.

A new route is attacked from the day it appears. Where its parameter stands behind a word that
is not in OBJECTS or VALUES, the suite fails and asks for one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.urls import get_resolver

from tests.attacks.site import AttackedSite
from tests.permissions.admin_table import ADMIN
from tests.permissions.pixels import dicom_uids

# What lies behind "word/<parameter>", by kind of the permission table's world. With "api/" or
# "pages/" before it where the two differ.
OBJECTS = {
    "cases": "case",
    "patients": "patient",
    "reports": "report",
    "cohorts": "cohort",
    "boards": "board",
    "items": "board_item",
    "regions": "region",
    "consults": "consult",
    "emergency": "emergency",
    "reviews": "emergency",
    "retention": "deletion",
    "holds": "hold",
    "exports": "export",
    "projects": "export_project",
    "export-projects": "export_project",
    "uploads": "upload",
    "upload_new": "upload",
    "tus": "upload_file",
    "files": "upload_file",
    "unmatched": "item",
    "searches": "search",
    "saved": "saved_search",
    "views": "view",
    "indexing": "index",
    "index-status": "index",
    "slide-images": "slide_image",
    "api/slides": "slide",
    "pages/slides": "slide_image",
    "departments": "department",
    "by-accession": "accession",
    "studies": "study_uid",
    "series": "series_uid",
    "instances": "sop_uid",
    "sessions": "session",
    "passkeys": "session",  # a number that no passkey has: tests/accounts makes real ones
}
# Parameters that name no object.
VALUES = {
    "z_level": "9",
    "column": "0",
    "row": "0",
    "rank": "1",
    "rest": "nothing",
    "frames": "2",
    "path": "7FE00010",
    "app_label": "cases",
    "content_type_id": "1",
    "url": "nothing",
    "provider_id": "nothing",
    "organization_slug": "nothing",
}
_DICOM = {"study_uid", "series_uid", "sop_uid"}
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """One route. template: its path with `{parameter}`; kinds: of each parameter that is one."""

    name: str
    template: str
    kinds: tuple[tuple[str, str], ...]

    @property
    def is_api(self) -> bool:
        """Return whether the route answers programs."""
        return self.template.startswith(("/api/", "/dicomweb/"))

    @property
    def kind(self) -> str:
        """Return the kind that decides who sees the object: the first in the path."""
        kind = self.kinds[0][1]
        return "slide_image" if kind in _DICOM else kind

    @property
    def admin_label(self) -> str:
        """Return app.model of a page of the administration, or ""."""
        parts = self.template.split("/")
        return ".".join(parts[2:4]) if self.name.startswith("admin:") and len(parts) > 4 else ""

    def path(self, site: AttackedSite, *places: str) -> str:
        """Return the path with each object from its place; the last place serves the rest."""
        values = dict(VALUES)
        for number, (parameter, kind) in enumerate(self.kinds):
            place = places[min(number, len(places) - 1)]
            if kind in _DICOM:
                values[parameter] = dicom_uids(UUID(site.id("slide_image", place)))[kind]
            else:
                values[parameter] = site.id(kind, place)
        return self.template.format(**values)


def routes() -> tuple[list[Route], list[str]]:
    """Return all routes, and what is missing here for those that cannot be asked for."""
    found, missing = {}, []
    for name, pattern in _walk(get_resolver().url_patterns):
        template = _PARAMETER.sub(r"{\1}", pattern)
        kinds = []
        for match in _PARAMETER.finditer(pattern):
            kind = _kind(name, pattern[: match.start()], match[1])
            if kind:
                kinds.append((match[1], kind))
            elif kind is None:
                missing.append(f"{name} ({pattern}): a kind for <{match[1]}>, in OBJECTS or VALUES")
        found[template] = Route(name, template, tuple(kinds))
    return list(found.values()), missing


def _kind(name: str, before: str, parameter: str) -> str | None:
    """Return the kind of a parameter, "" where it is no object, None where that is unknown."""
    words = [word for word in before.split("/") if word]
    word = words[-1] if words else ""
    if name.startswith("admin:"):
        label = ".".join(words[1:3])
        if label in ADMIN and len(words) == 3:
            return ADMIN[label].kind or "nothing"
        return "" if parameter in VALUES else "nothing" if parameter == "object_id" else None
    room = "api" if words and words[0] == "api" else "pages"
    kind = OBJECTS.get(f"{room}/{word}") or OBJECTS.get(word)
    if parameter in VALUES and parameter not in {"path"} | _DICOM and kind is None:
        return ""
    return kind or ("" if parameter in VALUES else None)


def _walk(patterns: list[Any], before: str = "/", spaces: tuple = ()) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        piece = _plain(str(pattern.pattern))
        if hasattr(pattern, "url_patterns"):
            inner = (*spaces, pattern.namespace) if pattern.namespace else spaces
            yield from _walk(pattern.url_patterns, before + piece, inner)
        else:
            yield ":".join((*spaces, pattern.name or "")), before + piece


def _plain(pattern: str) -> str:
    """Return a route's pattern without the marks of a regular expression."""
    if not pattern.startswith("^") and "(?P" not in pattern:
        return pattern
    text, depth, start = "", 0, 0
    for at, letter in enumerate(pattern):
        if letter == "(":
            depth += 1
            if depth == 1:
                start = at
        elif letter == ")":
            depth -= 1
            if depth == 0:
                named = re.match(r"\(\?P<(\w+)>", pattern[start:])
                text += f"<{named[1]}>" if named else "nothing"
        elif depth == 0:
            text += letter
    return text.strip("^$").replace("\\", "").replace("/?", "/")
