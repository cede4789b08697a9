"""manage.py train_aligner: who may, the split that is stored, what comes of it, and kills."""

import json

import numpy as np
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from cases.models import AccessEvent, Cohort, CohortEntry
from cases.permissions import Role
from cases.services import work
from retrieval.engine.encoders import IMAGE_ENCODERS
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex, TrainingRun, TrainingSlide
from retrieval.services import training
from retrieval.services.aggregation import model_aggregator, model_file
from retrieval.services.search import search_run
from retrieval.services.training import (
    TrainingRequest,
    run_folder,
    training_run,
    training_start,
    training_sweep,
)
from retrieval.services.training_data import FeaturesMissing
from tests.factories import DepartmentFactory, ReportFactory, make_member
from tests.retrieval.fakes import FAKE_SPEC
from tests.retrieval.made_archive import made_archive
from tests.retrieval.trained import indexed_slide, prototype_model

pytestmark = pytest.mark.django_db
State = TrainingRun.State
CODES = {"adenoma": "8140/0", "lymphoma": "9680/3", "melanoma": "8720/3"}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    if "fake" not in IMAGE_ENCODERS:
        monkeypatch.setitem(IMAGE_ENCODERS._specs, "fake", FAKE_SPEC)


@pytest.fixture
def model():
    return prototype_model()


@pytest.fixture
def lung():
    return DepartmentFactory(code="lung")


@pytest.fixture
def rose(lung):
    return make_member(lung, Role.RESEARCHER, username="rose")


def cohort_of(department, model, name="Training", count=60, hospitals=4, seed=0):
    """Return a cohort whose cases come from several hospitals, with signed reports."""
    archive = made_archive(seed=seed, slides=count, hospitals=hospitals)
    cohort = Cohort.objects.create(department=department, name=name)
    for number in range(count):
        slide_image = indexed_slide(department, model, archive.bag(number))
        case = slide_image.slide.case
        case.accession_issuer = f"lis-{number % hospitals}"
        case.save()
        label = archive.labels[number]
        ReportFactory(
            case=case,
            diagnosis_code=CODES[label],
            diagnosis_line=label,
            diagnosis_text=archive.reports[archive.patients[number]],
        )
        CohortEntry.objects.create(cohort=cohort, slide_image=slide_image)
    return cohort


@pytest.fixture
def cohort(lung, model):
    return cohort_of(lung, model)


def train(user, name="site-v1", **options):
    call_command("train_aligner", name, user=user.username, cohort=["Training"], **options)
    return TrainingRun.objects.get(name=name)


def test_a_training_ends_in_a_model_that_can_be_used(rose, cohort, model, capsys):
    run = train(rose)
    out = capsys.readouterr().out
    assert "| default |" in out
    assert "manage.py models reembed site-v1" in out
    assert (run.state, run.attempts) == (State.DONE, 1)
    made = run.model
    assert (made.name, made.is_active, made.aggregator) == ("site-v1", False, "aligner")
    assert made.has_text_side
    assert made.encoder == model.encoder
    assert made.aggregator_sha256 == run.card["sha256"]
    assert model_file(made).is_file()
    assert json.loads((model_file(made).parent / "card.json").read_text()) == run.card
    assert "SHA-256" in (model_file(made).parent / "card.md").read_text()
    assert model_aggregator(made).dimension == made.dimension
    assert not run_folder(run).exists(), "the reports are no longer needed"
    connection.check_constraints()  # a test is one transaction
    call_command("models", "reembed", "site-v1", "--now")
    call_command("models", "activate", "site-v1")
    assert SlideEmbedding.objects.filter(model=made).count() == 60
    slide_image = CohortEntry.objects.first().slide_image
    assert search_run(rose, slide_image=slide_image).hits.count() > 10


def test_the_card_says_what_it_is(rose, cohort):
    card = train(rose).card
    assert card["labels"].startswith("organ and diagnosis code")
    assert "hospitals" in card["split"]
    assert card["config"]["label_names"] == sorted(f"lung: {code}" for code in CODES.values())
    assert card["train"]["hospitals"] == 3
    assert card["held_out"]["hospitals"] == 1
    figures = card["figures"]
    assert figures["hospital_left_out"]
    assert set(figures["methods"]) >= {"mean", "prototypes", "default"}
    best = figures["methods"]["default"]["values"]["mAP"]
    assert best > figures["methods"]["mean"]["values"]["mAP"]


def test_the_split_is_stored_and_apart(rose, cohort):
    run = train(rose)
    rows = TrainingSlide.objects.filter(run=run).select_related("slide_image__slide__case")
    assert rows.count() == 60
    places = {
        part: {r.slide_image.slide.case.accession_issuer for r in rows if r.part == part}
        for part in ("train", "val")
    }
    assert places["train"] and places["val"]
    assert not places["train"] & places["val"]
    assert run.split == {
        "by": "hospital",
        "train": 45,
        "held_out": 15,
        "left_out": 0,
        "hospitals": 4,
    }


def test_one_hospital_is_split_by_patient_and_the_card_says_so(rose, lung, model):
    cohort_of(lung, model, hospitals=1, count=40)
    run = train(rose)
    assert run.split["by"] == "patient"
    assert "too few hospitals" in run.card["split"]
    assert not run.card["figures"]["hospital_left_out"]
    people = {
        part: set(
            run.slides.filter(part=part).values_list("slide_image__slide__case__patient", flat=True)
        )
        for part in ("train", "val")
    }
    assert not people["train"] & people["val"]


def test_slides_without_a_label_or_report_do_no_harm(rose, cohort):
    entries = list(CohortEntry.objects.order_by("pk"))
    for number, entry in enumerate(entries[:6]):
        report = entry.slide_image.slide.case.reports.get()
        if number % 2:
            report.delete()
        else:
            # A diagnosis that only one patient has, and an unsigned report, are no labels.
            report.diagnosis_code, report.status = f"99{number}", "preliminary"
            report.save()
    run = train(rose)
    assert run.state == State.DONE
    assert run.slides.filter(label="").count() == 6
    assert run.card["train"]["labelled"] < run.card["train"]["slides"]


def test_every_patient_is_audited(rose, cohort):
    run = train(rose)
    events = AccessEvent.objects.filter(user=rose, action="export", object_id=str(run.pk))
    assert events.values("patient_id").distinct().count() == 60


@pytest.mark.parametrize("case", ["stranger", "technician", "nobody"])
def test_a_cohort_that_the_user_may_not_use_is_not_found(cohort, lung, case):
    user = {
        "stranger": lambda: make_member(DepartmentFactory(code="colon"), Role.RESEARCHER),
        "technician": lambda: make_member(lung, Role.TECHNICIAN),
        "nobody": lambda: make_member(None, Role.SYSTEM_ADMINISTRATOR),
    }[case]()
    with pytest.raises(CommandError, match="No cohort 'Training' may be used"):
        train(user)
    assert not TrainingRun.objects.exists()


def test_runs_are_seen_by_who_belongs_to_every_department_in_them(rose, cohort, lung):
    run = train(rose)
    stranger = make_member(DepartmentFactory(code="colon"), Role.RESEARCHER)
    assert list(TrainingRun.objects.visible_to(rose)) == [run]
    assert not TrainingRun.objects.visible_to(stranger).exists()
    assert not TrainingSlide.objects.visible_to(stranger).exists()


def test_slides_without_features_are_listed_with_the_remedy(rose, cohort):
    gone, damaged = [entry.slide_image for entry in CohortEntry.objects.all()[:2]]
    SlideIndex.objects.filter(slide_image=gone).update(state="failed", reason_code="corrupt")
    path = SlideIndex.objects.get(slide_image=damaged).features_path
    (site.DATA_DIR / path).write_bytes(b"")
    with pytest.raises(CommandError, match="2 slides have no usable features") as error:
        train(rose)
    for slide_image in (gone, damaged):
        assert slide_image.slide.case.accession_number in str(error.value)
    assert "manage.py reindex" in str(error.value)


def request(**fields):
    return TrainingRequest(name="site-v1", cohorts=["Training"], **fields)


def test_the_files_of_a_run_name_no_patient(rose, cohort, monkeypatch):
    seen = {}
    real = training.run_job

    def look(archive, job, out, **callbacks):
        folder = out.parent / "archive"
        seen["mode"] = folder.stat().st_mode & 0o777
        seen["text"] = (folder / "slides.csv").read_text()
        return real(archive, job, out, **callbacks)

    monkeypatch.setattr(training, "run_job", look)
    train(rose)
    assert seen["mode"] == 0o700
    patient = CohortEntry.objects.first().slide_image.slide.case.patient
    assert patient.mrn not in seen["text"]
    assert "8140/0" in seen["text"]


class Killed(BaseException):
    """Ends a run as a kill does: nothing is caught, nothing is cleared up."""


def killed(run, monkeypatch, **patches):
    """Run until the patched place, then leave everything as kill -9 leaves it."""
    with monkeypatch.context() as patch:
        for name, value in patches.items():
            patch.setattr(training, name, value)
        with pytest.raises(Killed):
            training_run(run.pk)
    run.refresh_from_db()
    assert run.state == State.RUNNING
    TrainingRun.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now())


def test_a_run_killed_at_any_point_ends_in_one_model(rose, cohort, monkeypatch):
    run = training_start(user=rose, request=request())

    def kill(*args, **kwargs):
        raise Killed

    killed(run, monkeypatch, run_job=kill)
    assert training_sweep()["requeued"] == 1
    killed(run, monkeypatch, _finish=kill)
    training_sweep()
    # In the transaction of the result: neither the model nor the state is there.
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingModel, "full_clean", kill)
        with pytest.raises(Killed):
            training_run(run.pk)
    assert not EmbeddingModel.objects.filter(name="site-v1").exists()
    TrainingRun.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now())
    settings_max = site.MAX_ATTEMPTS
    assert settings_max >= 3
    TrainingRun.objects.filter(pk=run.pk).update(attempts=1)
    training_sweep()
    assert training_run(run.pk) == State.DONE
    assert training_run(run.pk) is None
    assert EmbeddingModel.objects.filter(name="site-v1").count() == 1


def test_a_run_that_was_taken_over_writes_nothing(rose, cohort, monkeypatch):
    run = training_start(user=rose, request=request())
    real = training.run_job

    def lose(*args, **kwargs):
        card = real(*args, **kwargs)
        work.requeue(TrainingRun, run.pk, from_states=[State.RUNNING])
        return card

    monkeypatch.setattr(training, "run_job", lose)
    assert training_run(run.pk) is None
    assert not EmbeddingModel.objects.filter(name="site-v1").exists()


def test_an_error_is_told_and_the_run_can_be_tried_again(rose, cohort, monkeypatch):
    run = training_start(user=rose, request=request())

    def fail(*args, **kwargs):
        raise FeaturesMissing("gone")

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_folder", fail)
        assert training_run(run.pk) == State.FAILED
    run.refresh_from_db()
    assert (run.reason_code, run.reason) == ("features_missing", "gone")
    call_command("train_aligner", "--list")
    call_command("train_aligner", "site-v1")
    run.refresh_from_db()
    assert run.state == State.DONE


def test_rights_that_were_lost_since_stop_the_run(rose, cohort):
    run = training_start(user=rose, request=request())
    rose.memberships.all().delete()
    assert training_run(run.pk) == State.FAILED
    run.refresh_from_db()
    assert run.reason_code == "training_rights_changed"


def test_rights_that_were_lost_stop_a_killed_run_too(rose, cohort, monkeypatch):
    run = training_start(user=rose, request=request())

    def kill(*args, **kwargs):
        raise Killed

    killed(run, monkeypatch, run_job=kill)
    assert (run_folder(run) / "archive" / "reports.csv.gz").is_file()
    rose.memberships.all().delete()
    training_sweep()
    assert training_run(run.pk) == State.FAILED
    assert not EmbeddingModel.objects.filter(name="site-v1").exists()


def test_names_are_given_once(rose, cohort):
    training_start(user=rose, request=request())
    with pytest.raises(CommandError, match="named old already"):
        train(rose, name="old")


def test_the_reference_network_is_trained_and_used_too(rose, cohort):
    run = train(
        rose,
        kind="reference",
        dim=16,
        tokens=2,
        epochs=1,
        steps=2,
        batch=12,
        chunk=4,
        patches=4,
    )
    made = run.model
    assert (made.aggregator, made.dimension, made.has_text_side) == ("reference", 16, False)
    folder = model_file(made).parent
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    connection.check_constraints()  # a test is one transaction
    call_command("models", "reembed", "site-v1", "--now")
    call_command("models", "activate", "site-v1")
    stored = SlideEmbedding.objects.filter(model=made)
    assert stored.count() == 60
    assert np.linalg.norm(np.asarray(list(stored.first().vector))) == pytest.approx(1, abs=1e-2)
    shares = [place["share"] for place in stored.first().places]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_several_processes_train_the_reference_network(rose, cohort):
    run = train(
        rose,
        kind="reference",
        processes=2,
        dim=16,
        tokens=2,
        epochs=1,
        steps=2,
        batch=12,
        chunk=3,
        patches=4,
    )
    assert run.card["processes"] == 2
    assert run.card["name"] == "site-v1"
    assert run.model.aggregator == "reference"
    assert model_file(run.model).is_file()


def test_an_error_in_the_processes_is_the_runs_error(rose, cohort):
    with pytest.raises(CommandError, match="more processes than chunks"):
        train(rose, kind="reference", processes=2, dim=16, tokens=2, epochs=1, steps=1, batch=4)
