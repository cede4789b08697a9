"""Who sees whose name. Rows that a reader may not know by name are veiled where they are born.

A member of a department without the capability `view_identity` works with its rows, but not with
the people in them. So what identifies is replaced in `from_db`, before any view, serializer,
template or export has the row: names and numbers by pseudonyms, dates by moved ones, texts by
cleaned ones. Nothing that shows rows can forget it, and a veiled row cannot be saved.

What does not pass `from_db` (`values_list`, annotations, conditions, orders) must ask here:
`veils`, `plain_only`, `shown_line`. Workers and commands see plain rows.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Case as Choose
from django.db.models import F, Q, QuerySet, Value, When
from django.utils.translation import gettext

from cases import openings, permissions, row_scope

if TYPE_CHECKING:
    from cases.wsi.deidentify import ProjectKey, Pseudonyms
    from cases.wsi.deidentify.texts import TextCleaner

ISSUER = "pseudonym"

# Filters of lists and keys of searches by which somebody is found who is known from elsewhere.
IDENTIFYING = frozenset((
    "mrn", "mrn_issuer", "accession", "accession_issuer", "accession_number", "label",
    "label_barcode", "received", "signed", "scanned", "updated_since",
))  # fmt: skip
# Orders that tell nothing of names, numbers and dates.
_PLAIN_ORDERS = frozenset((
    "pk", "id", "stain", "version", "size_bytes", "name", "code", "title", "position", "state",
    "department__name", "diagnosis_line", "report_status", "changed_at",
    "removed_at",
))  # fmt: skip


class VeiledRow(PermissionDenied):
    """A row that was veiled for its reader must not be written back."""


# Whose rows are veiled


class _Reader:
    """What one user may know of whose rows; kept for one request."""

    def __init__(self, user: Any) -> None:
        self.plain = permissions.departments_with(user, "view_identity")
        self.veils = bool(permissions.departments_of(user) - self.plain)
        # Opened to this user alone (an emergency, a consult): by name, whoever else they are.
        self.opened = openings.patient_ids(user)
        self.is_presenting = permissions.is_presenting(user)
        self.people: dict[Any, Person] = {}
        self.patient_of: dict[Any, Any] = {}

    def knows(self, person: "Person") -> bool:
        """Return whether the user may know who this is."""
        return person.department_id in self.plain or person.pk in self.opened


def veils(user: Any) -> bool:
    """Return whether some rows are veiled for this user.

    Those of departments in which the user has a role but not the capability; and whatever else
    comes by sharing, which says not to whom of them.
    """
    return _Reader(user).veils


def plain_only(user: Any, rows: QuerySet, path: str = "department") -> QuerySet:
    """Return those of the rows that the user may look for by what identifies."""
    reader = _Reader(user)
    return rows.filter(**{f"{path}__in": reader.plain}) if reader.veils else rows


def known_only(user: Any, rows: QuerySet) -> QuerySet:
    """Return those of the rows whose patients the user may know, whatever the model."""
    path = _PATH.get(rows.model._meta.model_name)
    return rows if path is None else plain_only(user, rows, f"{path}department")


def plain_condition(user: Any, path: str = "department") -> Q:
    """Return the same as a condition."""
    reader = _Reader(user)
    return Q(**{f"{path}__in": reader.plain}) if reader.veils else Q()


def ordering(user: Any, fields: Any) -> list[Any]:
    """Return the orders that the user may have: none that sorts by what is hidden."""
    if not veils(user):
        return list(fields)
    return [field for field in fields if str(field).lstrip("-") in _PLAIN_ORDERS]


def is_veiled(row: Any) -> bool:
    """Return whether what identifies was taken out of this row."""
    return "_is_veiled" in row.__dict__


def has_veil(model: Any) -> bool:
    """Return whether rows of this model tell who somebody is."""
    return model._meta.model_name in _VEILS


def require_plain(row: Any) -> None:
    """Raise VeiledRow for a row that must not be saved."""
    if is_veiled(row):
        raise VeiledRow(f"A veiled {row._meta.model_name} is never written back.")


# Whom a row is about


@lru_cache(maxsize=1024)
def _key(department_id: int, secret: str) -> "ProjectKey":
    from cases.wsi.deidentify import ProjectKey  # heavy, and only readers of veiled rows need it

    seed = f"department {department_id}".encode()
    hashed = hashlib.sha256(b"veiled view\0" + secret.encode()).digest()
    return ProjectKey(hmac.new(hashed, seed, hashlib.sha256).digest())


@dataclass(frozen=True)
class Person:
    """The patient behind a row, and under which pseudonyms a reader knows them.

    The key is the department's: pseudonyms stay, and cannot be guessed without the site's secret.
    """

    pk: Any
    department_id: int
    using: str
    names: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    @property
    def key(self) -> "ProjectKey":
        """Return the key of the department's pseudonyms."""
        return _key(self.department_id, settings.EXPORT_SECRET)

    @cached_property
    def shift(self) -> timedelta:
        """Return by how much all dates of this patient move."""
        return self.key.shift(str(self.pk))

    @cached_property
    def cleaner(self) -> "TextCleaner":
        """Return what takes this person out of a text."""
        from cases.wsi.deidentify.texts import TextCleaner

        cases = apps.get_model("cases", "Case").objects.using(self.using).filter(patient=self.pk)
        known = cases.order_by().values_list(
            "accession_number",
            "slides__label_barcode",
            "reports__author__first_name",
            "reports__author__last_name",
        )
        numbers, names = set(self.numbers), set(self.names)
        for accession, barcode, first, last in known:
            numbers |= {accession, barcode or ""}
            names |= {first or "", last or ""}
        return TextCleaner(names, numbers)


_PATH = {
    "patient": "",
    "case": "patient__",
    "specimen": "case__patient__",
    "slide": "case__patient__",
    "report": "case__patient__",
    "block": "specimen__case__patient__",
    "slideimage": "slide__case__patient__",
    "slideindex": "slide_image__slide__case__patient__",
    "boarditem": "case__patient__",
    "cohortentry": "slide_image__slide__case__patient__",
}
# By one of these a row tells which patient it is of, once another row of theirs was read.
_KEYS = ("case_id", "slide_id", "slide_image_id", "specimen_id", "id")
_FACTS = ("pk", "department_id", "mrn", "family_name", "given_name")


def _person(reader: _Reader, row: Any) -> Person:
    """Return the patient of the row, read past `from_db` and by the reader's own rights."""
    name, values = row._meta.model_name, row.__dict__
    known_by = [values[key] for key in _KEYS if values.get(key)]
    pk = row.pk if name == "patient" else values.get("patient_id")
    pk = pk or next((reader.patient_of[k] for k in known_by if k in reader.patient_of), None)
    if pk not in reader.people:
        using = row._state.db or "default"
        columns = [_PATH[name] + fact for fact in _FACTS]
        found = type(row)._base_manager.using(using).filter(pk=row.pk).values_list(*columns).first()
        if found is None:  # gone meanwhile
            return Person(row.pk, 0, using)
        pk, department_id, mrn, family, given = found
        reader.people[pk] = Person(pk, department_id, using, (family, given), (mrn,))
    reader.patient_of |= dict.fromkeys(known_by, pk)
    return reader.people[pk]


def cleaner_of(row: Any) -> "TextCleaner":
    """Return what takes the patient of the row out of a text."""
    return _person(_Reader(None), row).cleaner


# What becomes of what

_Veil = Callable[[Person, Any, Any], Any]


def _moved(person: Person, _row: Any, value: Any) -> Any:
    if not isinstance(value, date | datetime):
        return value
    try:
        return value + person.shift
    except OverflowError:
        return None


def _cleaned(person: Person, _row: Any, text: str) -> str:
    return person.cleaner.clean(text) if person.department_id else ""


def _label(person: Person, row: Any, label: str) -> str:
    """Return labels of parts as they are; one that says more is replaced."""
    return label if person.cleaner.keeps(label) else pseudonym(person, row._meta.model_name, row.pk)


def _named(kind: str) -> _Veil:
    return lambda person, row, _value: pseudonym(person, kind, row.pk)


def _always(value: Any) -> _Veil:
    return lambda _person, _row, _value: value


_PREFIXES = {"patient": "P", "case": "C", "slide": "S", "specimen": "T", "block": "B"}


def pseudonym(person: Person, kind: str, pk: Any) -> str:
    """Return what stands for a patient, case, glass, part or block."""
    return person.key.name(kind, _PREFIXES[kind], str(pk))


_TIMES: dict[str, _Veil] = {"created_at": _moved, "updated_at": _moved}
_VEILS: dict[str, dict[str, _Veil]] = {
    "patient": {
        "mrn": _named("patient"),
        "mrn_issuer": _always(ISSUER),
        "family_name": _named("patient"),
        "given_name": _always(""),
        "birth_date": _always(None),
        **_TIMES,
    },
    "case": {
        "accession_number": _named("case"),
        "accession_issuer": _always(ISSUER),
        "received_on": _moved,
        "clinical_history": _cleaned,
        **_TIMES,
    },
    "specimen": {"label": _label, "procedure": _cleaned, "description": _cleaned, **_TIMES},
    "block": {"label": _label, "description": _cleaned, **_TIMES},
    "slide": {"label": _label, "label_barcode": _always(""), **_TIMES},
    "report": {
        "diagnosis_line": _cleaned,
        "diagnosis_text": _cleaned,
        "microscopic_description": _cleaned,
        "gross_description": _cleaned,
        "comment": _cleaned,
        "signed_at": _moved,
        "author_id": _always(None),
        **_TIMES,
    },
    "slideimage": {"scanned_at": _moved, "settles_at": _moved, **_TIMES},
    # Beside moved dates, real ones of the work on the same slide would tell by how much.
    "slideindex": {
        **dict.fromkeys(("enqueued_at", "started_at", "finished_at", "heartbeat_at"), _moved),
        **_TIMES,
    },
    "boarditem": {"question": _cleaned},
    "cohortentry": {"note": _cleaned, "removed_reason": _cleaned},
}


# Words of colleagues about no one patient: hidden only where a session is presented.
_PRESENTED: dict[str, dict[str, Callable[[Any], str]]] = {
    "boardmeeting": {"title": lambda row: gettext("Tumour board"), "note": lambda row: ""},
    "cohort": {
        "name": lambda row: gettext("Cohort %(id)s") % {"id": str(row.pk)[:6]},
        "description": lambda row: "",
    },
    "exportproject": {"name": lambda row: gettext("Project"), "purpose": lambda row: ""},
}


class _WithoutAuthor(dict):
    """The related rows of a veiled report: what select_related brings of its author is lost."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, None if name == "author" else value)


def veil(row: Any) -> None:
    """Veil a row that came from the database, if its reader may not know whose it is."""
    said = row_scope.user_said()
    if said is None:
        return
    user, kept = said
    reader = kept.get("identity")
    if reader is None:
        reader = kept["identity"] = _Reader(user)
    if not reader.veils:
        return
    if reader.is_presenting and row._meta.model_name in _PRESENTED:
        for name, told in _PRESENTED[row._meta.model_name].items():
            if name in row.__dict__:
                row.__dict__[name] = told(row)
        row.__dict__["_is_veiled"] = None
    fields = _VEILS.get(row._meta.model_name)
    if fields is None:
        return
    values = row.__dict__
    told = [name for name in fields if values.get(name)]
    if not told:
        return
    person = _person(reader, row)
    if reader.knows(person):
        return
    if "mrn" in values and "mrn_issuer" in values:
        values["_person"] = (values["mrn_issuer"], values["mrn"])
    for name in told:
        values[name] = fields[name](person, row, values[name])
    if row._meta.model_name == "report":
        row._state.fields_cache = _WithoutAuthor()
    values["_is_veiled"] = person


def veil_again(row: Any) -> None:
    """Mark a row whose values were just read anew: by way of another row, which was veiled."""
    said = row_scope.user_said()
    reader = said[1].get("identity") if said else None
    if reader is None or not reader.veils or row._meta.model_name not in _VEILS or is_veiled(row):
        return
    person = _person(reader, row)
    if not reader.knows(person):
        row.__dict__["_is_veiled"] = person


# For what does not come as rows


def person_known(patient: Any) -> tuple[str, str]:
    """Return (issuer, MRN) to compare people by; never to be shown."""
    return patient.__dict__.get("_person") or (patient.mrn_issuer, patient.mrn)


def pseudonyms_of(slide_image: Any) -> "Pseudonyms":
    """Return the names of a veiled slide for a DICOM header. UIDs stay: they are addresses."""
    from cases.wsi.deidentify import Pseudonyms, Subject

    class _WithUids(Pseudonyms):
        def uid(self, original: str) -> str:
            return self._give(original)

    person, slide = slide_image.__dict__["_is_veiled"], slide_image.slide
    specimen = slide.specimen_id or slide.pk
    subject = Subject(str(person.pk), str(slide.case_id), str(slide.pk), str(specimen))
    return _WithUids(person.key, subject)


def shown_line(user: Any, before: str, patient: str) -> Any:
    """Return the expression of a report's diagnosis line as the user may see it.

    A line that seems to say whose it is, is left out. before, patient: the ways to the report and
    to its patient.
    """
    line = f"{before}diagnosis_line"
    if not veils(user):
        return F(line)
    names = [f"{patient}{field}" for field in ("family_name", "given_name", "mrn")]
    identifies = Q(**{f"{line}__regex": r"\d{4}|\d[-./]\d{1,2}[-./]\d|[Dd]r\.|:"})
    for name in names:
        identifies |= ~Q(**{name: ""}) & Q(**{f"{line}__icontains": F(name)})
    return Choose(When(plain_condition(user, f"{patient}department"), then=F(line)),
                  When(identifies, then=Value("")), default=F(line))  # fmt: skip
