"""What goes with a case and what stays; who may decide; the database's own guard."""

import json
import os

import pytest
from django.db import DatabaseError, connection, transaction

from cases import row_scope
from cases.models import (
    AccessEvent,
    Case,
    CaseDeletion,
    ClinicalChange,
    Cohort,
    CohortEntry,
    Patient,
    Report,
    SlideImage,
    SlideUpload,
)
from cases.permissions import Role
from cases.row_scope import acting_as_owner, acting_for_system, acting_for_user
from cases.services import deleted_cases, retention, retention_run
from cases.services.cases import case_upsert, patient_change
from cases.services.patient_merges import patients_merge
from cases.services.retention_run import deletion_run
from retrieval.models import SlideIndex
from tests.factories import CaseFactory, PatientFactory, ReportFactory, make_member
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db

# What may still name the case: the record of what was done, and the tombstone.
KEEPS = {"cases_accessevent", "cases_auditseal", "cases_casedeletion", "django_q_ormq"}


def _rows_naming(*words: str) -> dict[str, int]:
    """Return in which tables a row holds one of these words, whatever its columns are."""
    found = {}
    with acting_as_owner("to look for what is left"), connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = current_schema()::regnamespace"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(
                f'SELECT count(*) FROM "{table}" AS t WHERE t::text ILIKE ANY (%s)',
                [[f"%{word}%" for word in words]],
            )
            if count := cursor.fetchone()[0]:
                found[table] = count
    return found


@pytest.fixture
def rich_case(old_case, anna):
    """A case with all that hangs on one: reports, cohort, index, search, history."""
    case = old_case("S01-GONE", patient_id="MRN-GONE", patient_name="Vanishing^Vera")
    image = SlideImage.objects.get()
    ReportFactory(case=case, diagnosis_line="Vanishing carcinoma", is_current=False, version=1)
    ReportFactory(case=case, diagnosis_line="Vanishing carcinoma", version=2)
    cohort = Cohort.objects.create(department=case.department, name="Study")
    CohortEntry.objects.create(cohort=cohort, slide_image=image)
    with acting_for_user(anna):
        patient_change(user=anna, patient=case.patient, data={"given_name": "Vanishing Veronica"})
    Case.objects.filter(pk=case.pk).update(clinical_history="Vanishing history")
    return case


def test_nothing_is_left_but_the_tombstone_and_the_log(rich_case, delete, data_dir):
    image = SlideImage.objects.get()
    words = ["vanishing", "S01-GONE", "MRN-GONE", *map(str, (rich_case.pk, image.pk))]
    before = _rows_naming(*words)
    for table in ("cases_patient", "cases_report", "cases_cohortentry", "cases_clinicalchange"):
        assert table in before
    assert {"cases_uploaditem", "cases_slideimage", "retrieval_slideindex"} <= set(before)
    folder = data_dir / "slides" / str(image.pk)
    assert folder.is_dir()
    deletion = delete(rich_case)
    assert (deletion.state, deletion.reason) == ("finished", "")
    assert set(_rows_naming(*words)) <= KEEPS
    assert not folder.exists()
    assert not list(data_dir.rglob(f"*{image.pk}*"))
    assert deletion.counts["scans"] == 1 and deletion.counts["reports"] == 2
    assert deletion.counts["changes"] > 0 and deletion.patient_is_gone
    assert deletion.content_sha256 == [image.content_sha256]
    # The log tells it with both people, and names nobody's patient.
    event = AccessEvent.objects.get(action="delete")
    assert event.detail["requested_by"] != event.detail["approved_by"]
    assert "anishing" not in json.dumps(list(AccessEvent.objects.values("reason", "detail")))


@pytest.fixture
def plain_owner(db, monkeypatch):
    """Let the tables belong to a role whom row security binds, as on a server of one's own."""
    role = f"plain_owner_{os.getpid()}"
    with acting_as_owner("to give the tables away"), connection.cursor() as cursor:
        cursor.execute(
            f"CREATE ROLE {role} NOSUPERUSER NOBYPASSRLS;"
            f"GRANT USAGE, CREATE ON SCHEMA public TO {role};"
            "DO $$ DECLARE name text; BEGIN"
            " FOR name IN SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'public'::regnamespace LOOP"
            f" EXECUTE format('ALTER TABLE %I OWNER TO {role}', name); END LOOP; END $$"
        )
    words_of = row_scope.words_of

    def words_of_owner(scope, **options):
        return words_of(scope, **options).replace("SET ROLE NONE", f"SET ROLE {role}")

    monkeypatch.setattr("pathsearch_site.postgres.base.words_of", words_of_owner)
    return role


def test_an_owner_who_is_no_superuser_deletes_it_as_well(plain_owner, rich_case, delete):
    with acting_as_owner("to see who one is"), connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0] == plain_owner
    deletion = delete(rich_case)
    assert (deletion.state, deletion.reason) == ("finished", "")
    assert set(_rows_naming("vanishing", "S01-GONE", "MRN-GONE")) <= KEEPS


def test_other_cases_and_other_patients_stay(old_case, rich_case, delete, keeping):
    other = CaseFactory(department=keeping, patient=rich_case.patient)
    report = ReportFactory(case=other)
    bystander = old_case("S01-2", seed=7, container_id="SLIDE-2", patient_id="MRN-2")
    deletion = delete(rich_case)
    assert not deletion.patient_is_gone
    assert set(Case.objects.all()) == {other, bystander}
    assert Report.objects.filter(pk=report.pk).exists()
    assert Patient.objects.filter(pk=other.patient_id).exists()
    # What is known of the patient's changes stays with the patient; the case's goes.
    assert ClinicalChange.objects.filter(patient_id=other.patient_id, case_id=None).exists()
    assert not ClinicalChange.objects.filter(case_id=rich_case.pk).exists()
    assert SlideImage.objects.get().slide.case == bystander
    assert SlideIndex.objects.get().slide_image.slide.case == bystander


def test_a_delivery_that_brought_two_cases_keeps_the_other_s(keeping, deliver, tmp_path, delete):
    for number in ("S01-1", "S01-2"):
        write_dicom_slide(
            tmp_path / "in" / number,
            seed=int(number[-1]),
            accession_number=number,
            container_id=number,
            patient_id=f"MRN-{number}",
        )
    upload = deliver(tmp_path / "in")
    Case.objects.update(received_on="2001-01-01")
    delete(Case.objects.get(accession_number="S01-1"))
    assert SlideUpload.objects.get() == upload
    assert upload.items.get().slide_image.slide.case.accession_number == "S01-2"
    assert "cases_uploadfile" not in _rows_naming("MRN-S01-1", "/S01-1/", "in/S01-1")


def test_numbers_merged_into_the_patient_go_with_the_last_case(rich_case, delete, anna, keeping):
    merged = PatientFactory(department=keeping, mrn="MRN-EARLIER", family_name="Vanishing")
    patients_merge(user=anna, survivor=rich_case.patient, merged=merged, reason="One person")
    deletion = delete(rich_case)
    assert deletion.patient_is_gone
    assert set(_rows_naming("MRN-EARLIER", "vanishing")) <= KEEPS


def test_it_does_not_come_back(rich_case, delete, keeping, deliver, tmp_path):
    lis = make_member(keeping, Role.TECHNICIAN)
    delete(rich_case)
    with pytest.raises(deleted_cases.CaseWasDeleted):
        case_upsert(
            user=lis,
            department=keeping,
            data={
                "accession_number": "S01-GONE",
                "accession_issuer": "lis",
                "patient": {"mrn": "MRN-GONE", "mrn_issuer": "hospital"},
            },
        )
    assert not Patient.objects.exists()
    again = tmp_path / "again"
    write_dicom_slide(again, seed=1, accession_number="S01-GONE", patient_id="MRN-GONE")
    (item,) = deliver(again).items.all()
    assert (item.state, item.reason_code) == ("refused", "case_was_deleted")
    assert not Case.objects.exists() and not SlideImage.objects.exists()
    # Of what the files said, nothing is kept again.
    assert item.facts == {}


def test_two_people_decide(rich_case, anna, ben, keeping):
    (deletion,) = retention.deletions_propose(
        user=anna, cases=[rich_case.pk], why="Ten years are over"
    ).made
    assert not retention.deletions_propose(user=ben, cases=[rich_case.pk], why="Twice").made
    with pytest.raises(retention.OwnProposal):
        retention.deletion_approve(user=anna, deletion=deletion)
    deletion_run(deletion.pk)  # not approved: nothing
    assert Case.objects.filter(pk=rich_case.pk).exists()
    # Neither does the database take one person for two.
    with pytest.raises(DatabaseError, match="deletion_approved_by_another"), transaction.atomic():
        CaseDeletion.objects.filter(pk=deletion.pk).update(
            state="queued", decided_by=anna, decided_at="2026-01-01T00:00Z"
        )
    retention.deletion_decline(user=anna, deletion=deletion, comment="A mistake")
    with pytest.raises(retention.AlreadyDecided):
        retention.deletion_approve(user=ben, deletion=deletion)
    assert retention.deletions_propose(user=ben, cases=[rich_case.pk], why="Again").made


def test_no_one_deletes_a_case_that_was_not_approved(rich_case, anna):
    with pytest.raises(DatabaseError), transaction.atomic(), acting_for_user(anna):
        rich_case.reports.all()._raw_delete("default")
    SlideImage.objects.all()  # the owner may repair rows, but no case goes without two people
    with (
        pytest.raises(DatabaseError, match="approved deletion"),
        transaction.atomic(),
        acting_as_owner("to try"),
    ):
        SlideImage.objects.all().delete()
        Case.objects.filter(pk=rich_case.pk).delete()
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        acting_as_owner("to try"),
    ):
        ClinicalChange.objects.filter(case_id=rich_case.pk)._raw_delete("default")
    assert ClinicalChange.objects.filter(case_id=rich_case.pk).exists()


def test_a_deletion_that_runs_lets_go_of_its_own_history_alone(rich_case, old_case, delete):
    other = old_case("S01-2", seed=7, container_id="SLIDE-2", patient_id="MRN-2")
    Case.objects.filter(pk=other.pk).update(clinical_history="Changed")
    deletion = delete(rich_case, run=False)
    CaseDeletion.objects.filter(pk=deletion.pk).update(state="running")
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        acting_as_owner("to try"),
    ):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('pathsearch.erasing', %s, true)", [str(deletion.pk)])
        ClinicalChange.objects.filter(case_id=other.pk)._raw_delete("default")


def test_files_that_resist_are_tried_again(rich_case, delete, monkeypatch, settings):
    deletion = delete(rich_case, run=False)
    monkeypatch.setattr(retention_run.store, "remove", lambda path: None)
    for _attempt in range(settings.MAX_ATTEMPTS):
        deletion_run(deletion.pk)
    deletion.refresh_from_db()
    assert (deletion.state, deletion.reason_code) == ("failed", "unexpected_error")
    assert deletion.rows_deleted_at and not Case.objects.exists()
    monkeypatch.undo()
    with acting_for_system("the retry"):
        retention.deletion_retry(user=deletion.decided_by, deletion=deletion)
    deletion_run(deletion.pk)
    deletion.refresh_from_db()
    assert deletion.state == "finished"
