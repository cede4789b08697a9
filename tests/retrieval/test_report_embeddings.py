"""Sentence embeddings of reports: made after a report is saved, for current versions only."""

import numpy as np
import pytest
from django_q.models import OrmQ

from cases.models import Report
from cases.permissions import Role
from cases.services.reports import report_upsert
from retrieval import tasks
from retrieval.models import ReportEmbedding
from retrieval.services import reports
from retrieval.services.query_encoding import EncoderUnavailable
from tests.factories import CaseFactory, DepartmentFactory, ReportFactory, make_member
from tests.retrieval.vectors import axis, make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def text_model():
    return make_model("text")


@pytest.fixture
def encoded(monkeypatch):
    texts: list[str] = []

    def encode(model, batch):
        texts.extend(batch)
        return np.stack([axis(0)] * len(batch))

    monkeypatch.setattr("retrieval.services.reports.encode_texts", encode)
    return texts


def queued() -> list[tuple[str, tuple]]:
    return [(row.task["func"], row.task["args"]) for row in OrmQ.objects.all()]


def test_saving_a_report_queues_its_embedding_in_the_same_commit(text_model):
    department = DepartmentFactory()
    report, _new = report_upsert(
        user=make_member(department, Role.PATHOLOGIST),
        case=CaseFactory(department=department),
        status="final",
        diagnosis_line="Granuloma",
    )
    assert ("retrieval.tasks.report_embedding_task", (str(report.pk),)) in queued()


def test_the_task_embeds_once_and_forgets_older_versions(text_model, encoded):
    old = ReportFactory()
    assert tasks.report_embedding_task(str(old.pk))
    Report.objects.filter(pk=old.pk).update(is_current=False)
    new = ReportFactory(case=old.case, version=2, diagnosis_line="Scar")
    assert tasks.report_embedding_task(str(new.pk))
    assert tasks.report_embedding_task(str(new.pk))
    assert [e.report for e in ReportEmbedding.objects.all()] == [new]
    assert "Scar" in encoded[-1]
    assert not tasks.report_embedding_task(str(old.pk))
    assert [e.report for e in ReportEmbedding.objects.all()] == [new]
    assert ReportEmbedding.objects.get().department == old.case.department


def test_a_report_that_is_gone_is_no_error(text_model, encoded):
    assert not tasks.report_embedding_task("5f4dcc3b-5aa7-45d6-8d83-27deb882cf99")


def test_the_sweep_finds_what_was_missed(text_model, encoded, monkeypatch):
    monkeypatch.setattr(reports, "SWEEP_BATCH", 2)
    missed = [ReportFactory() for _ in range(5)]
    ReportFactory(case=missed[0].case, version=2, is_current=False)
    assert tasks.report_sweep_task() == 5
    assert {e.report for e in ReportEmbedding.objects.all()} == set(missed)
    assert tasks.report_sweep_task() == 0


def test_without_an_encoder_the_sweep_waits(text_model, monkeypatch):
    def down(model, texts):
        raise EncoderUnavailable

    monkeypatch.setattr("retrieval.services.reports.encode_texts", down)
    report = ReportFactory()
    assert not tasks.report_embedding_task(str(report.pk))
    assert tasks.report_sweep_task() == 0
    assert not ReportEmbedding.objects.exists()
