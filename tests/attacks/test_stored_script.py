"""Script in what is stored: in every free text of every own row, on every page that shows it.

The texts are put into the database as they would lie there, wherever they came from: a form, the
API, a DICOM header, a file's name, a report of the LIS, or the claims of an identity provider
(which become the names of the account).
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models

from tests.attacks.routes import routes
from tests.attacks.site import AttackedSite
from tests.permissions.admin_table import LETTERS

# Breaks out of text, of either kind of quoted attribute, and of a script's string.
PAYLOAD = "</script>\"onxevil='1<xevil7 onxevil=1>{{7*7}}"
_SHORT = "<xevil7>"
# Not free: they are addresses, keys or words that the code knows.
_NOT_FREE = ("path", "sha256", "uid", "prefix", "code", "channel", "source", "format", "kind")


class Finder(HTMLParser):
    """Counts elements and attributes that only the payload can have made."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.shown = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "xevil7" or any(name.startswith("onxevil") for name, _value in attrs):
            self.found.append(self.get_starttag_text() or tag)
        self.shown += sum("<xevil7" in (value or "") for _name, value in attrs)

    def handle_data(self, data: str) -> None:
        self.shown += "<xevil7" in data


def free_texts() -> Iterator[tuple[type[models.Model], list[models.Field]]]:
    """Return the models with the fields that hold what people or devices wrote."""
    kinds = (models.CharField, models.TextField)
    for model in [*apps.get_models(), get_user_model()]:
        table = model._meta.db_table
        if not table.startswith(("cases_", "retrieval_", "auth_user")):
            continue
        fields = [
            field
            for field in model._meta.concrete_fields
            if isinstance(field, kinds)
            and not field.choices
            and not field.unique
            and not isinstance(field, (models.SlugField, models.UUIDField))
            and not any(part in field.name for part in _NOT_FREE)
            and field.name not in {"username", "password", "state", "status", "key"}
        ]
        # Append-only. The history gets payload by the updates themselves: rows change in steps.
        if fields and table not in {
            "cases_accessevent",
            "cases_clinicalchange",
            "auth_user_groups",
        }:
            yield model, fields


@pytest.fixture(scope="module")
def poisoned(site) -> Iterator[int]:
    """Put the payload behind every free text of own rows; take it away at the end."""
    own = [
        str(pk)
        for by_place in site.world["ids"].values()
        for place, pk in by_place.items()
        if place in ("private", "shared") and len(str(pk)) > 8
    ]
    pattern, kept = "|".join(own), []
    for model, fields in free_texts():
        table, key = model._meta.db_table, model._meta.pk.column
        columns = [field.column for field in fields]
        listed = ", ".join(f'"{column}"' for column in columns)
        where = "true" if table == "auth_user" else "t::text ~ %s"
        rows = site.ask_database(
            f'SELECT "{key}", {listed} FROM "{table}" t WHERE {where}',
            *([] if table == "auth_user" else [pattern]),
        )
        for pk, *values in rows:
            for field, value in zip(fields, values, strict=True):
                longest = field.max_length or 10**6
                text = next(
                    (t for t in (f"{value or ''} {PAYLOAD}", PAYLOAD, _SHORT) if len(t) <= longest),
                    None,
                )
                if text is not None and put(site, table, key, pk, field.column, text):
                    kept.append((table, key, pk, field.column, value))
    yield len(kept)
    for table, key, pk, column, value in kept:
        put(site, table, key, pk, column, value)


def put(site: AttackedSite, table: str, key: str, pk: Any, column: str, value: Any) -> bool:
    """Set one value; return whether the database took it (a constraint may forbid it)."""
    try:
        site.ask_database(f'UPDATE "{table}" SET "{column}" = %s WHERE "{key}" = %s', value, pk)
    except psycopg.errors.IntegrityError:
        return False
    return True


def test_no_page_makes_markup_of_what_is_stored(site, poisoned, figures):
    assert poisoned > 50
    wrong, shown, asked = [], [], 0
    for name in ("pathologist", "department_administrator", "system_administrator"):
        attacker = site.attacker(name)
        for route in routes()[0]:
            if route.is_api or (route.admin_label and name not in LETTERS):
                continue
            known = site.world["ids"].get(route.kinds[0][1], {}) if route.kinds else {}
            if route.kinds and "private" not in known:
                continue
            path = route.path(site, "private")
            for query in ("", "?q=xevil7", "?text=xevil7"):
                reply = attacker.ask("GET", path + query)
                asked += 1
                if reply.status >= 500:
                    wrong.append(f"{path}{query} as {name}: {reply.status}")
                if "html" not in reply.headers.get("content-type", ""):
                    break
                finder = Finder()
                finder.feed(reply.text)
                if finder.shown:
                    shown.append(path)
                wrong += [f"{path}{query} as {name}: {one[:200]}" for one in finder.found[:3]]
                if route.kinds:
                    break
    figures["stored script: texts poisoned, pages asked, pages that show one"] = (
        f"{poisoned}, {asked}, {len(set(shown))}"
    )
    assert len(set(shown)) > 20, sorted(set(shown))
    assert not wrong, "\n".join(wrong)
