"""The rows that a QIDO-RS search means: matched, counted and paged by the database.

A series is a slide image (SlideImage), or something that was made of one (DerivedInstance). The
study, series and instances of a vendor's slide are virtual: see cases.dicomweb.virtual. Whatever
a search finds it finds among the rows that the user may see, and counts only those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import (
    BooleanField,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    TextField,
    Value,
)
from django.db.models.functions import Concat

from cases import identity, permissions
from cases.dicomweb.served import PRIVATE_FLAVORS
from cases.dicomweb.virtual import vendor_slides
from cases.dicomweb.wire.query import Key, Query, matches
from cases.models import DerivedInstance, SlideImage, SlideInstance
from cases.models.images import StudyDate
from cases.wsi.uids import slide_images_of_instance, uuid_of

STUDY_UID, SERIES_UID, SOP_UID, SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
MODALITY, MODALITIES, STUDY_DATE = "00080060", "00080061", "00080020"
TRANSFER_SYNTAX = "00083002"

_CASE = "slide__case__"
_PATIENT = "slide__case__patient__"
# Keys that are columns of the case and the patient, as they are on record here.
_RECORD_COLUMNS = {
    "00080050": f"{_CASE}accession_number",
    "00100020": f"{_PATIENT}mrn",
    "00100021": f"{_PATIENT}mrn_issuer",
    "00100040": f"{_PATIENT}sex",
}
_NAME, _BIRTH_DATE = "00100010", "00100030"
RECORD_KEYS = frozenset((*_RECORD_COLUMNS, _NAME, _BIRTH_DATE))


# Keys that tell nothing of who the patient is; by any other only known patients are found.
_PLAIN_KEYS = frozenset((
    STUDY_UID, SERIES_UID, SOP_UID, SOP_CLASS, MODALITY, MODALITIES, TRANSFER_SYNTAX, "00200011",
    "00080008", "00280008", "00280010", "00280011", "00480006", "00480007",
))  # fmt: skip
_DERIVED_COLUMNS = {
    STUDY_UID: "study_instance_uid",
    SERIES_UID: "series_instance_uid",
    SOP_UID: "sop_instance_uid",
    SOP_CLASS: "sop_class_uid",
    MODALITY: "modality",
    "0008103E": "series_description",
    TRANSFER_SYNTAX: "transfer_syntax_uid",
}


class AnyValue(Func):
    """Whether any value at a JSON path compares so with a text: `AnyValue(column, path, text)`."""

    output_field = BooleanField()

    def __init__(self, *expressions: Any, operator: str = "=", cast: str = "") -> None:
        super().__init__(*expressions)
        self.operator, self.cast = operator, cast

    def as_sql(self, compiler: Any, connection: Any, **_context: Any) -> tuple[str, list[Any]]:
        compiled = [compiler.compile(expression) for expression in self.source_expressions]
        (column, path, text), parameters = zip(*compiled, strict=True)
        value = "_value.v #>> '{}'"
        if self.cast:
            # Texts of numbers: what is none compares with nothing.
            number = r"'^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$'"
            value = f"CASE WHEN {value} ~ {number} THEN ({value})::{self.cast} END"
            text = f"({text})::{self.cast}"
        # Only code's own text is put together here: what a user sent are parameters.
        query = "EXISTS (SELECT 1 FROM jsonb_path_query({}, ({})::jsonpath) AS _value(v) WHERE {})"
        sql = query.format(column, path, f"{value} {self.operator} {text}")
        return sql, [one for part in parameters for one in part]


def _known(user: Any, rows: QuerySet[Any], query: Query) -> QuerySet[Any]:
    """Return the rows that the user may look for by these keys."""
    if all(key.path[0] in _PLAIN_KEYS for key in query.keys):
        return rows
    return identity.plain_only(user, rows)


def visible_instances(user: Any) -> QuerySet[SlideInstance]:
    """Return the stored instances that the user may have: labels only where they may see them."""
    may_see = permissions.departments_with(user, "view_label")
    hidden = Q(flavor__in=PRIVATE_FLAVORS) & ~Q(department__in=may_see)
    return SlideInstance.objects.visible_to(user).exclude(hidden)


def stored_images(user: Any) -> QuerySet[SlideImage]:
    """Return the user's slide images that are DICOM series with an instance to be had."""
    own = visible_instances(user).filter(slide_image=OuterRef("pk"))
    return (
        SlideImage.objects.visible_to(user)
        .exclude(series_instance_uid="")
        .filter(Exists(own))
        .select_related("slide__case__patient", "slide__specimen", "department")
    )


def derived(user: Any) -> QuerySet[DerivedInstance]:
    """Return what was made of slides that the user sees."""
    return DerivedInstance.objects.visible_to(user).select_related(
        "slide_image__slide__case__patient", "slide_image__department"
    )


def images_matching(user: Any, query: Query) -> QuerySet[SlideImage]:
    """Return the stored slide images that match, or have one instance which does, every key."""
    images = _known(user, stored_images(user), query)
    of_instances = []
    for key in query.keys:
        column_filter = _image_filter(key, user)
        if column_filter is None:
            of_instances.append(key)
        else:
            images = images.filter(column_filter)
    if of_instances:
        rows = instances_filtered(visible_instances(user), of_instances)
        images = images.filter(Exists(rows.filter(slide_image=OuterRef("pk"))))
    return images


def instances_matching(user: Any, query: Query) -> QuerySet[SlideInstance]:
    """Return the stored instances that match every key."""
    rows = visible_instances(user).exclude(slide_image__series_instance_uid="")
    rows = _known(user, rows, query)
    of_instances = []
    for key in query.keys:
        column_filter = _image_filter(key, user, "slide_image__")
        if column_filter is None:
            of_instances.append(key)
        else:
            rows = rows.filter(column_filter)
    return instances_filtered(rows, of_instances).select_related(
        "slide_image__slide__case__patient", "slide_image__department", "header"
    )


def derived_matching(user: Any, query: Query) -> QuerySet[DerivedInstance]:
    """Return the derived objects that match every key; keys that they do not know match none."""
    rows = _known(user, derived(user), query)
    for key in query.keys:
        if key.tag in _DERIVED_COLUMNS:
            rows = rows.filter(_text(_DERIVED_COLUMNS[key.tag], key))
        elif key.tag in RECORD_KEYS or key.tag == MODALITIES:
            column_filter = _image_filter(key, user, "slide_image__")
            assert column_filter is not None
            rows = rows.filter(column_filter)
        else:
            return rows.none()
    return rows


def record_filter(key: Key, before: str = "") -> Q | None:
    """Return the filter of a key that the patient's or case's row answers, None for others.

    before: the way from the filtered rows to the slide image.
    """
    if key.tag in _RECORD_COLUMNS:
        return _text(before + _RECORD_COLUMNS[key.tag], key)
    if key.tag == _NAME:
        family, given = (f"{before}{_PATIENT}{part}_name" for part in ("family", "given"))
        full = Concat(F(family), Value("^"), F(given), output_field=TextField())
        # A name without a given one is written without the separator.
        return Q(_compare(full, key)) | (Q(**{given: ""}) & _text(family, key))
    if key.tag == _BIRTH_DATE:
        return _days(f"{before}{_PATIENT}birth_date", key)
    return None


def _image_filter(key: Key, user: Any, before: str = "") -> Q | None:
    """Return the filter of a key that the slide image answers, None for an instance's own."""
    if key.tag == STUDY_UID:
        return Q(**{f"{before}study_instance_uid__in": key.values})
    if key.tag == SERIES_UID:
        return Q(**{f"{before}series_instance_uid__in": key.values})
    if key.tag == MODALITIES:
        made = derived(user).filter(slide_image=OuterRef(f"{before}pk")).order_by()
        if _has(key, "SM"):
            return Q()
        return Q(Exists(made.filter(_text("modality", key))))
    return record_filter(key, before)


def instances_filtered(
    rows: QuerySet[SlideInstance], keys: Iterable[Key]
) -> QuerySet[SlideInstance]:
    """Return the instances whose own columns or headers match."""
    for key in keys:
        if key.tag == SOP_UID:
            rows = rows.filter(sop_instance_uid__in=key.values)
        elif key.tag == TRANSFER_SYNTAX:
            rows = rows.filter(transfer_syntax_uid__in=key.values)
        elif key.tag == STUDY_DATE:
            rows = rows.alias(_study_date=StudyDate("header__attributes"))
            rows = rows.filter(_bounds("_study_date", key))
        else:
            rows = rows.filter(_in_header(key))
    return rows


def _bounds(column: str, key: Key) -> Q:
    bounds = {f"{column}__gte": key.low, f"{column}__lte": key.high}
    return Q(**{name: text for name, text in bounds.items() if text})


def _in_header(key: Key) -> Q:
    """Return the filter of a key that the header answers, through sequences if need be."""
    steps = [f'"{tag}".Value[*]' for tag in key.path]
    path = "$." + ".".join(steps) + (".Alphabetic" if key.vr == "PN" else "")

    def compared(operator: str, text: Any, cast: str = "") -> Q:
        column, where = F("header__attributes"), Value(path)
        return Q(AnyValue(column, where, text, operator=operator, cast=cast))

    if key.is_range:
        # COLLATE "C": "~" sorts after every digit, whatever the database's language.
        found = Q()
        if key.low:
            found &= compared('COLLATE "C" >=', Value(key.low))
        if key.high:
            found &= compared('COLLATE "C" <=', Value(key.high))
        return found
    if key.vr in ("DS", "IS", "US", "UL", "SS", "SL", "FD", "FL", "UV", "SV"):
        return compared("=", Value(key.values[0]), "numeric")
    if key.has_wildcards or key.ignores_case:
        return compared("ILIKE" if key.ignores_case else "LIKE", Value(key.like()))
    found = Q()
    for value in key.values:
        found |= compared("=", Value(value))
    return found


def _text(column: str, key: Key) -> Q:
    """Return the filter of a text column."""
    if key.has_wildcards:
        return _compare(F(column), key)
    if key.ignores_case:
        return Q(**{f"{column}__iexact": key.values[0]})
    return Q(**{f"{column}__in": key.values})


class _Like(Func):
    template, arg_joiner = "%(expressions)s", " LIKE "
    output_field = BooleanField()


class _ILike(_Like):
    arg_joiner = " ILIKE "


def _compare(expression: Any, key: Key) -> Q:
    return Q((_ILike if key.ignores_case else _Like)(expression, Value(key.like())))


def _has(key: Key, value: str) -> bool:
    return matches(key, {key.tag: {"vr": key.vr, "Value": [value]}})


def _days(column: str, key: Key) -> Q:
    """Return the filter of a column of dates; the key's days are whole, YYYYMMDD."""
    bounds = {f"{column}__gte": key.low, f"{column}__lte": key.high}
    iso = {name: f"{d[:4]}-{d[4:6]}-{d[6:]}" for name, d in bounds.items() if d}
    return Q(**iso, **{f"{column}__isnull": False})


def vendor_images(user: Any) -> QuerySet[SlideImage]:
    """Return the user's vendor slides: each is a virtual series."""
    return vendor_slides(user).select_related("slide__block")


def virtual_matching(user: Any, query: Query) -> tuple[QuerySet[SlideImage], list[Key]]:
    """Return the vendor slides that match by their rows, and the keys that rows cannot answer."""
    rows, left = _known(user, vendor_images(user), query), []
    for key in query.keys:
        if key.tag == STUDY_UID:
            rows = rows.filter(slide__case__in=_uuids(key))
        elif key.tag == SERIES_UID:
            rows = rows.filter(pk__in=_uuids(key))
        elif key.tag == SOP_UID:
            images = [one for uid in key.values for one in slide_images_of_instance(uid)]
            rows = rows.filter(pk__in=images)
            left.append(key)
        elif key.tag == MODALITIES:
            column_filter = _image_filter(key, user)
            assert column_filter is not None
            rows = rows.filter(column_filter)
        elif (column_filter := record_filter(key)) is not None:
            rows = rows.filter(column_filter)
        else:
            left.append(key)
    return rows, left


def _uuids(key: Key) -> list[UUID]:
    return [found for uid in key.values if (found := uuid_of(uid)) is not None]
