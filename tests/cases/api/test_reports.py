"""Reports: versions in order, the same content once, the signal inside the transaction."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, connections

from cases.errors import DomainError
from cases.models import AccessEvent, Report
from cases.permissions import Role
from cases.services.reports import report_upsert
from cases.signals import report_saved
from tests.cases.api.conftest import client_with_token
from tests.factories import CaseFactory, make_member

URL = "/api/v1/reports/"


def post(client, case, status, **fields):
    return client.post(URL, {"case": str(case.pk), "status": status, **fields}, format="json")


@pytest.fixture
def case(site):
    return CaseFactory(department=site.north)


@pytest.fixture
def heard():
    calls = []

    def listen(report, **_kwargs):
        calls.append((report.pk, connection.in_atomic_block))

    report_saved.connect(listen)
    yield calls
    report_saved.disconnect(listen)


def test_versions_follow_one_another(site, case, heard):
    codes = [
        post(site.lis, case, "preliminary", diagnosis_line="Tumour?").status_code,
        post(site.lis, case, "final", diagnosis_line="Adenocarcinoma").status_code,
        post(site.lis, case, "amended", diagnosis_line="Squamous carcinoma").status_code,
    ]
    assert codes == [201, 201, 201]
    versions = list(case.reports.order_by("version").values_list("version", "status", "is_current"))
    assert versions == [(1, "preliminary", False), (2, "final", False), (3, "amended", True)]
    assert [pk for pk, _inside in heard] == list(
        case.reports.order_by("version").values_list("pk", flat=True)
    )
    assert all(inside for _pk, inside in heard)
    assert case.reports.get(version=1).signed_at is None
    assert case.reports.get(version=2).signed_at is not None


def test_the_same_report_twice_is_one_version(site, case, heard):
    first = post(site.lis, case, "final", diagnosis_line="Adenocarcinoma")
    second = post(site.lis, case, "final", diagnosis_line="Adenocarcinoma")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert Report.objects.count() == len(heard) == 1


@pytest.mark.parametrize(
    ("before", "status", "answer"),
    [
        ([], "amended", 409),
        (["preliminary"], "amended", 409),
        (["preliminary"], "preliminary", 201),
        (["final"], "final", 409),
        (["final"], "preliminary", 409),
        (["final", "amended"], "final", 409),
        (["final", "amended"], "amended", 201),
    ],
)
def test_what_may_follow_what(site, case, before, status, answer):
    for number, earlier in enumerate(before):
        assert post(site.lis, case, earlier, comment=str(number)).status_code == 201
    got = post(site.lis, case, status, comment="new")
    assert got.status_code == answer
    if answer == 409:
        assert got.json()["code"] == "report_order"
        assert case.reports.count() == len(before)


def test_a_person_is_the_author_and_a_machine_is_not(site, case):
    post(site.lis, case, "preliminary", comment="machine")
    person = client_with_token(site.pathologist)
    person.credentials()
    person.force_login(site.pathologist)
    post(person, case, "preliminary", comment="person")
    authors = list(case.reports.order_by("version").values_list("author", flat=True))
    assert authors == [None, site.pathologist.pk]


def test_a_hidden_case_is_missing_and_a_technician_may_not(site, case):
    assert post(site.other, case, "final").status_code == 404
    technician = client_with_token(make_member(site.north, Role.TECHNICIAN))
    assert post(technician, case, "final").status_code == 403
    assert not Report.objects.exists()


def test_reads_are_audited_with_their_patient(site, case):
    report = post(site.lis, case, "final", diagnosis_line="X").json()["id"]
    before = set(AccessEvent.objects.values_list("pk", flat=True))
    assert site.lis.get(f"{URL}{report}/").status_code == 200
    assert site.lis.get(URL).json()["count"] == 1
    events = AccessEvent.objects.exclude(pk__in=before).values_list(
        "action", "patient_id", "object_id", "channel"
    )
    assert set(events) == {
        ("view", case.patient_id, report, "api"),
        ("view", case.patient_id, "", "api"),
    }


@pytest.mark.django_db(transaction=True)
def test_two_writers_at_once_make_two_versions():
    case = CaseFactory()
    user = make_member(case.department, Role.PATHOLOGIST)
    start = Barrier(2)

    def save(text):
        start.wait()
        try:
            return report_upsert(user=user, case=case, status="preliminary", comment=text)[
                0
            ].version
        except DomainError as error:
            return error.code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(save, ["a", "b"])) == [1, 2]
    assert case.reports.filter(is_current=True).get().version == 2


def test_a_report_that_full_text_search_cannot_hold_is_refused_by_name(site, case):
    words = " ".join(f"word{number}" for number in range(120_000))
    answer = post(site.lis, case, "preliminary", diagnosis_text=words)
    assert answer.status_code == 400
    assert answer.json()["code"] == "report_too_long"
    assert not Report.objects.exists()
    most = " ".join(f"{number}-{number}" for number in range(20_000))[:150_000].strip()
    assert post(site.lis, case, "preliminary", diagnosis_text=most).status_code == 201
