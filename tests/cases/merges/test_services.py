"""Merging and undoing it: what moves, what stays, what comes later."""

import threading
from datetime import date

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection

from cases.models import AccessEvent, Case, ClinicalChange, Patient, PatientMerge
from cases.permissions import Role
from cases.row_scope import acting_for_system, acting_for_user
from cases.services.cases import PatientMismatch, case_upsert
from cases.services.patient_merges import CannotMerge, patients_merge, patients_unmerge
from tests.factories import CaseFactory, make_member

pytestmark = pytest.mark.django_db


def merge(site, survivor, merged):
    with acting_for_user(site.admin):
        return patients_merge(user=site.admin, survivor=survivor, merged=merged, reason="one")


def unmerge(site, merged):
    with acting_for_user(site.admin):
        return patients_unmerge(user=site.admin, merged=merged, reason="two")


def arrives(site, number: str, mrn: str, **patient) -> Case:
    """Let a message of the LIS bring a case under this number."""
    lis = make_member(site.north, Role.TECHNICIAN)
    with acting_for_user(lis):
        data = {"accession_number": number, "patient": {"mrn": mrn, **patient}}
        return case_upsert(user=lis, department=site.north, data=data)[0]


def owner(case: Case) -> str:
    with acting_for_system("to look"):
        return Case.objects.get(pk=case.pk).patient.mrn


def test_the_cases_move_and_come_back_exactly(site):
    stays = CaseFactory(department=site.north, patient=site.a)
    done, created = merge(site, site.a, site.b)
    assert created
    assert [owner(case) for case in (site.case_a, site.case_b, stays)] == ["A1", "A1", "A1"]
    with acting_for_system("to look"):
        assert [entry.case_id for entry in done.cases.all()] == [site.case_b.pk]
        assert Patient.objects.get(pk=site.b.pk).family_name == "Doe"  # the row is not lost
    undone = unmerge(site, site.b)
    assert undone.returned == [site.case_b.pk] and undone.stayed == []
    assert [owner(case) for case in (site.case_a, site.case_b, stays)] == ["A1", "B2", "A1"]
    with acting_for_system("to look"):
        kept = PatientMerge.objects.get(pk=done.pk)
        assert (kept.undone_by, kept.undone_reason) == (site.admin, "two")
        assert Patient.objects.get(pk=site.b.pk).merged_into_id is None


def test_twice_is_once(site):
    first, _created = merge(site, site.a, site.b)
    again, created = merge(site, site.a, site.b)
    assert not created and again.pk == first.pk
    with acting_for_system("to look"):
        assert PatientMerge.objects.count() == 1
        assert AccessEvent.objects.filter(action="merge").count() == 2  # one for each patient


def test_what_comes_later_under_the_old_number_goes_to_the_survivor_and_back(site):
    merge(site, site.a, site.b)
    old = arrives(site, "S-late-B", "B2", family_name="Smith")
    new = arrives(site, "S-late-A", "A1")
    assert (owner(old), owner(new)) == ("A1", "A1")
    with acting_for_system("to look"):
        # What a message says under a number is kept under that number.
        assert Patient.objects.get(pk=site.a.pk).family_name == "Doe"
        assert Patient.objects.get(pk=site.b.pk).family_name == "Smith"
    undone = unmerge(site, site.b)
    assert set(undone.returned) == {site.case_b.pk, old.pk}
    assert [owner(case) for case in (old, new)] == ["B2", "A1"]


def test_a_message_for_a_known_case_may_name_either_number(site):
    merge(site, site.a, site.b)
    assert arrives(site, "S-B", "B2").pk == site.case_b.pk
    assert arrives(site, "S-B", "A1").pk == site.case_b.pk
    with pytest.raises(PatientMismatch):
        arrives(site, "S-B", "C3")


def test_a_chain_leads_to_its_end_and_is_taken_apart_from_there(site):
    merge(site, site.b, site.a)
    merge(site, site.c, site.b)
    assert [owner(case) for case in (site.case_a, site.case_b)] == ["C3", "C3"]
    late = arrives(site, "S-late", "A1")
    assert owner(late) == "C3"
    with pytest.raises(CannotMerge) as refused:
        unmerge(site, site.a)
    assert refused.value.code == "merged_further"
    unmerge(site, site.b)
    assert [owner(case) for case in (site.case_a, site.case_b, late)] == ["B2", "B2", "B2"]
    assert owner(arrives(site, "S-later", "A1")) == "B2"
    unmerge(site, site.a)
    assert [owner(case) for case in (site.case_a, site.case_b, late)] == ["A1", "B2", "A1"]


def test_into_a_merged_number_is_into_the_patient_in_use(site):
    merge(site, site.c, site.b)
    done, _created = merge(site, site.b, site.a)
    assert done.survivor_id == site.c.pk
    assert owner(site.case_a) == "C3"


@pytest.mark.parametrize(
    ("survivor", "merged"), [("a", "a"), ("b", "a"), ("c", "b"), ("a", "foreign")]
)
def test_what_cannot_be_is_refused_and_changes_nothing(site, survivor, merged):
    merge(site, site.a, site.b)
    if merged == "foreign":  # a patient of two departments is two rows
        both = make_member(site.south, Role.DEPARTMENT_ADMINISTRATOR)
    else:
        both = site.admin
    who = site.admin if merged != "foreign" else both
    with (
        acting_for_system("the row of the other department"),
        pytest.raises((CannotMerge, PermissionDenied)),
    ):
        patients_merge(user=who, survivor=getattr(site, survivor), merged=getattr(site, merged))
    with acting_for_system("to look"):
        assert PatientMerge.objects.count() == 1
    assert [owner(case) for case in (site.case_a, site.case_b)] == ["A1", "A1"]


def test_a_case_that_went_elsewhere_stays_and_is_named(site):
    merge(site, site.a, site.b)
    with acting_for_system("a repair by hand"):
        Case.objects.filter(pk=site.case_b.pk).update(patient=site.c)
    undone = unmerge(site, site.b)
    assert undone.returned == [] and undone.stayed == ["S-B"]
    assert owner(site.case_b) == "C3"
    with acting_for_system("to look"):
        assert undone.merge.cases.get().stayed


@pytest.mark.parametrize("role", [Role.PATHOLOGIST, Role.TECHNICIAN, Role.RESEARCHER])
def test_other_roles_may_not(site, role):
    member = make_member(site.north, role)
    with acting_for_user(member), pytest.raises(PermissionDenied):
        patients_merge(user=member, survivor=site.a, merged=site.b)
    merge(site, site.a, site.b)
    with acting_for_user(member), pytest.raises(PermissionDenied):
        patients_unmerge(user=member, merged=site.b)


def test_the_history_has_what_moved_and_by_whom(site):
    merge(site, site.a, site.b)
    with acting_for_system("to look"):
        change = ClinicalChange.objects.get(object_type="case", object_id=site.case_b.pk)
        assert change.before == {"patient_id": str(site.b.pk)}
        assert change.after == {"patient_id": str(site.a.pk)}
        assert change.user == site.admin
        row = ClinicalChange.objects.get(object_type="patient", object_id=site.b.pk)
        assert row.after == {"merged_into_id": str(site.a.pk)}


def test_two_people_are_still_told_apart_under_a_merged_number(site):
    with acting_for_system("what is on record under the number"):
        Patient.objects.filter(pk=site.b.pk).update(birth_date=date(1960, 1, 1))
    merge(site, site.a, site.b)
    with pytest.raises(PatientMismatch):
        arrives(site, "S-x", "B2", family_name="Miller", birth_date=date(1999, 1, 1))


@pytest.mark.django_db(transaction=True)
def test_a_case_that_arrives_during_the_merge_is_not_left_behind(site):
    """Messages under both numbers while they are merged and separated: none is lost."""
    lis = make_member(site.north, Role.TECHNICIAN)
    failures: list[BaseException] = []

    def feed(mrn: str) -> None:
        try:
            with acting_for_user(lis):
                for number in range(12):
                    data = {"accession_number": f"{mrn}-{number}", "patient": {"mrn": mrn}}
                    case_upsert(user=lis, department=site.north, data=data)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=feed, args=(mrn,)) for mrn in ("A1", "B2")]
    for thread in threads:
        thread.start()
    for _round in range(4):
        merge(site, site.a, site.b)
        unmerge(site, site.b)
    merge(site, site.a, site.b)
    for thread in threads:
        thread.join()
    assert failures == []
    with acting_for_system("to look"):
        assert Case.objects.filter(patient=site.a).count() == 26
        assert not Case.objects.filter(patient=site.b).exists()
    unmerge(site, site.b)
    with acting_for_system("to look"):
        of_b = set(Case.objects.filter(patient=site.b).values_list("accession_number", flat=True))
        assert of_b == {"S-B", *(f"B2-{number}" for number in range(12))}
        assert Case.objects.filter(patient=site.a).count() == 13
