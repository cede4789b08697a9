"""Logs carry ids, never what a path or a row says of a patient."""

import logging

import pytest
from django.test import Client

from pathsearch_site.log_filters import RouteForPath
from tests.factories import CaseFactory, UserFactory
from tests.log_watch import LogWatch

pytestmark = pytest.mark.django_db


def test_a_refused_request_is_logged_by_its_route(caplog):
    client = Client()
    client.force_login(UserFactory())
    caplog.handler.addFilter(RouteForPath())
    try:
        client.get("/api/v1/cases/by-accession/S26-secret/")
        client.get("/no/such/S26-secret/")
        client.get("/no/such/S26-secret%0A/")
        client.get("/no/s%C3%BCch/S26-secret/")
    finally:
        caplog.handler.filters.clear()
    lines = [record.getMessage() for record in caplog.records if record.name == "django.request"]
    assert len(lines) == 4
    assert not any("S26-secret" in line for line in lines), lines
    assert "by-accession" in lines[0]
    assert "(no route)" in lines[1]


@pytest.mark.parametrize("of", ["family_name", "mrn", "accession_number"])
def test_the_watch_sees_a_patient_in_a_log(of):
    watch = LogWatch()
    watch.start()
    try:
        case = CaseFactory()
        text = getattr(case, of, "") or getattr(case.patient, of)
        # Below what any handler prints: the watch of the whole run must not see this one.
        record = logging.makeLogRecord({"msg": "lost %s, sorry", "args": (text,)})
        watch.handle(record)
        watch.handle(logging.makeLogRecord({"msg": f"case {case.pk}"}))
    finally:
        watch.stop()
    assert len(watch.found) == 1
    assert text in watch.found[0]
