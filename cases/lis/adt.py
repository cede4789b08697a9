"""What ADT messages do here: A40 merges two patients, A37 takes such a merge back.

A hospital's message says nothing of departments: it is done in each where the sender may, for the
rows that are on record there. All of a message is done, or nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import transaction

from cases.lis.hl7 import Message, MessageRefused, PatientNumber, Segment
from cases.models import Department, Patient, PatientMerge
from cases.services.matching import day, known
from cases.services.patient_merges import patients_merge, patients_unmerge

MERGE, UNLINK = "ADT^A40", "ADT^A37"
# Kinds of identifiers (CX-5) that are a hospital's patient numbers; others are no MRN.
_KINDS = frozenset({"", "MR", "PI", "PT", "PN"})
_GROUPS_MOST = 50
_LENGTHS = {"mrn": 64, "issuer": 120}


@transaction.atomic
def message_apply(*, user: Any, message: Message, departments: Iterable[Department]) -> str:
    """Do what the message says; return what was done, in words without patient data."""
    pairs = list(_pairs(message))
    if not pairs:
        raise MessageRefused("The message names no two patient numbers of one issuer.")
    if len(pairs) > _GROUPS_MOST:
        raise MessageRefused("The message names too many patients.")
    done = 0
    departments = list(departments)
    for segment, survivor, merged in pairs:
        for department in departments:
            apply = _merge if message.event == MERGE else _unlink
            done += apply(user, department, segment, survivor, merged, message.control_id)
    if message.event == MERGE:
        return f"{done} merged" if done else "Nothing to merge: on record so, or not known here"
    return f"{done} separated" if done else "Nothing to separate here"


def _pairs(message: Message) -> Iterator[tuple[Segment, PatientNumber, PatientNumber]]:
    """Yield (PID, number that stays, number that goes) of each pair of one issuer."""
    if message.event == MERGE:
        patient: Segment | None = None
        for segment in message.segments:
            if segment.name == "PID":
                patient = segment
            elif segment.name == "MRG" and patient is not None:
                yield from _of_one_issuer(patient, patient.numbers(3), segment.numbers(1))
    elif message.event == UNLINK:
        people = [segment for segment in message.segments if segment.name == "PID"]
        if len(people) == 2:
            yield from _of_one_issuer(people[0], people[0].numbers(3), people[1].numbers(3))
    else:
        raise MessageRefused("Of ADT, A40 and A37 are understood.")


def _of_one_issuer(
    segment: Segment, stays: list[PatientNumber], goes: list[PatientNumber]
) -> Iterator[tuple[Segment, PatientNumber, PatientNumber]]:
    kept: dict[str, PatientNumber] = {}
    for number in filter(_is_mrn, stays):
        kept.setdefault(number.issuer, number)
    for number in filter(_is_mrn, goes):
        if number.issuer in kept:
            yield segment, kept[number.issuer], number


def _is_mrn(number: PatientNumber) -> bool:
    if len(number.number) > _LENGTHS["mrn"] or len(number.issuer) > _LENGTHS["issuer"]:
        raise MessageRefused("A patient number or its issuer is too long.")
    return number.kind.upper() in _KINDS and bool(known(number.number))


def _merge(
    user: Any,
    department: Department,
    segment: Segment,
    stays: PatientNumber,
    goes: PatientNumber,
    control_id: str,
) -> int:
    """Merge in one department; return how many patients were.

    Where only one of the two numbers is on record, the other is put there: what comes later
    under either must find one patient.
    """
    survivor, merged = _row(department, stays), _row(department, goes)
    if (survivor is None and merged is None) or stays.number == goes.number:
        return 0
    survivor = survivor or _put(department, stays, _demographics(segment))
    merged = merged or _put(department, goes, {})
    _merge_row, created = patients_merge(
        user=user,
        survivor=survivor,
        merged=merged,
        source=PatientMerge.Source.HL7,
        message_id=control_id,
    )
    return int(created)


def _unlink(
    user: Any,
    department: Department,
    _segment: Segment,
    one: PatientNumber,
    other: PatientNumber,
    control_id: str,
) -> int:
    """Undo the merge of the two in one department, whichever of them went into the other."""
    rows = [_row(department, one), _row(department, other)]
    merge = PatientMerge.objects.filter(
        survivor__in=[row for row in rows if row],
        merged__in=[row for row in rows if row],
        undone_at=None,
    ).first()
    if merge is None:
        return 0
    patients_unmerge(user=user, merged=merge.merged, message_id=control_id)
    return 1


def _row(department: Department, number: PatientNumber) -> Patient | None:
    return Patient.objects.filter(
        department=department,
        mrn=number.number,
        mrn_issuer=number.issuer or department.mrn_issuer,
    ).first()


def _put(department: Department, number: PatientNumber, fields: dict[str, Any]) -> Patient:
    row, _created = Patient.objects.get_or_create(
        department=department,
        mrn=number.number,
        mrn_issuer=number.issuer or department.mrn_issuer,
        defaults=fields,
    )
    return row


def _demographics(segment: Segment) -> dict[str, Any]:
    """Return name, birth date and sex of a PID."""
    born = segment.component(7)[:8]
    sex = segment.component(8).upper()
    return {
        "family_name": segment.component(5, 1)[:120],
        "given_name": segment.component(5, 2)[:120],
        "birth_date": day(f"{born[:4]}-{born[4:6]}-{born[6:]}"),
        "sex": sex if sex in Patient.Sex.values else "",
    }
