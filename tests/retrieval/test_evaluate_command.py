"""manage.py evaluate_retrieval: the archive as one user may see it, measured and on record."""

import json

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from cases.models import AccessEvent, Cohort, CohortEntry, Patient
from cases.permissions import Role
from cases.services.store import thumbnail_file
from retrieval.engine.mosaic import prototypes
from retrieval.models import Feedback, ReportEmbedding, SlideIndex
from retrieval.services.features import features_path, features_place, features_prepare
from retrieval.services.indexing import embedding_write
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.html_page import assert_page_is_sound
from tests.retrieval.vectors import DIMENSION, axis, embed_report

pytestmark = pytest.mark.django_db

CODES = ("C34", "D14")
_KINDS = 3 * np.random.default_rng(5).normal(size=(2, DIMENSION))


def _slide(department, model, text_model, label, *, seed, code=None, status="final"):
    """Make an indexed slide with kept features of its diagnosis' tissue, and a report."""
    rng = np.random.default_rng(seed)
    image = make_slide_image(department)
    features = (_KINDS[label] + rng.normal(size=(30, DIMENSION))).astype(np.float16)
    places = np.stack([np.arange(30) % 6, np.arange(30) // 6], 1).astype(np.int64) * 224
    mosaic = prototypes(features, places, 224, token_count=4)
    embedding_write(slide_image=image, model=model, mosaic=mosaic)
    path = features_path(image.pk, model.name)
    features_place(features_prepare(path, features=features, coords_l0=places, size_l0=224), path)
    SlideIndex.objects.create(
        slide_image=image, department=department, model=model, state="indexed", features_path=path
    )
    report = ReportFactory(
        case=image.slide.case,
        diagnosis_code=CODES[label] if code is None else code,
        diagnosis_line=f"line {label}",
        diagnosis_text=f"Text {seed}",
        status=status,
    )
    embed_report(report, text_model, axis(label))
    return image


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"


@pytest.fixture
def breast():
    return DepartmentFactory(code="breast")


@pytest.fixture
def archive(lung, breast, image_model, text_model):
    """Return slides of two departments, and add others that Anna may not see."""
    away = DepartmentFactory(code="away")
    models = (image_model, text_model)
    for seed in range(4):
        _slide(away, *models, seed % 2, seed=90 + seed, code="HIDDEN-CODE")
    return [_slide((lung, breast)[i % 2], *models, (i // 2) % 2, seed=i) for i in range(12)]


@pytest.fixture
def doctor(anna, breast):
    anna.memberships.create(department=breast, role=Role.PATHOLOGIST)
    return anna


def _run(user, out, **options):
    options.setdefault("rounds", 20)
    call_command("evaluate_retrieval", user=user.username, out=out, **options)
    return json.loads((out / "evaluation.json").read_text())


def test_two_departments_with_rivals_words_and_pictures(doctor, archive, tmp_path, capsys):
    thumbnail = thumbnail_file(archive[0].pk)
    thumbnail.parent.mkdir(parents=True)
    thumbnail.write_bytes(b"jpeg")
    found = _run(doctor, tmp_path / "out")
    titles = [section["title"] for section in found["sections"]]
    assert any("slide to report was not measured" in note for note in found["notes"])
    assert [title.split(".")[0] for title in titles] == ["Slide to slide"] * 2 + ["By words"] * 2
    assert "department left out" in titles[0] and "department" not in titles[1]
    methods = {m["name"]: m for m in found["sections"][0]["methods"]}
    for name in ("mean", "whitened mean", "prototypes", "max-pooled sets", "HSHR-style",
                 "Yottixel-style", "test-image-8", "test-image-8, vectors"):  # fmt: skip
        assert name in methods
    assert found["sections"][0]["queries"] == found["sections"][0]["gallery"] == 12
    # The two kinds of tissue lie far apart, and so do their reports.
    assert methods["test-image-8"]["figures"]["top-1"] == 1
    for method in found["sections"][2]["methods"]:
        assert method["figures"]["mAP"] == 1
    assert found["confusion"]["counts"] == [[6, 0], [0, 6]]
    assert [label[-3:] for label in found["confusion"]["labels"]] == ["C34", "D14"]
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert_page_is_sound(page)
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert "HIDDEN-CODE" not in page and "HIDDEN-CODE" not in json.dumps(found)
    for patient in Patient.objects.all():
        assert patient.mrn not in page
    assert "Slide to slide" in capsys.readouterr().out
    exports = AccessEvent.objects.filter(action="export")
    assert {e.patient_id for e in exports} == {i.slide.case.patient_id for i in archive}
    assert {(e.user_id, e.channel) for e in exports} == {(doctor.pk, "command")}


def test_one_department_cannot_leave_itself_out_and_says_so(anna, archive, tmp_path, capsys):
    found = _run(anna, tmp_path / "out", no_rivals=True)
    assert [s["title"] for s in found["sections"] if s["title"].startswith("Slide")] == [
        "Slide to slide. The query's patient left out"
    ]
    assert any("one department" in note for note in found["notes"])
    assert found["sections"][0]["queries"] == 6
    assert {m["name"] for m in found["sections"][0]["methods"]} == {
        "mean", "test-image-8", "test-image-8, vectors"
    }  # fmt: skip
    assert "one department" in capsys.readouterr().out


def test_slides_that_the_user_may_only_see_take_no_part(anna, lung, breast, archive, tmp_path):
    anna.memberships.create(department=breast, role=Role.TECHNICIAN)
    found = _run(anna, tmp_path / "out", no_rivals=True)
    assert found["sections"][0]["gallery"] == 6
    assert any("may not export from: 6." in note for note in found["notes"])
    assert {row["query"]["name"] for row in found["grid"]} <= {
        str(image.pk)[:8] for image in archive[::2]
    }
    exports = AccessEvent.objects.filter(action="export")
    assert {event.department_id for event in exports} == {lung.pk}
    shared = Cohort.objects.create(department=breast, name="theirs")
    for image in archive[1::2]:
        CohortEntry.objects.create(cohort=shared, slide_image=image)
    with pytest.raises(CommandError, match="seen and exported"):
        _run(anna, tmp_path / "shared", cohort="theirs", no_rivals=True)


def test_a_cohort_limits_the_slides_and_removed_entries_are_out(doctor, lung, archive, tmp_path):
    cohort = Cohort.objects.create(department=lung, name="study")
    for image in archive[::2]:  # all of lung
        CohortEntry.objects.create(cohort=cohort, slide_image=image)
    CohortEntry.objects.filter(slide_image=archive[0]).update(
        removed_at="2026-01-01T00:00Z", removed_reason="blurred"
    )
    found = _run(doctor, tmp_path / "out", cohort="study", no_rivals=True)
    assert found["sections"][0]["gallery"] == 5
    by_id = _run(doctor, tmp_path / "id", cohort=str(cohort.pk), no_rivals=True)
    assert by_id["sections"] == found["sections"]


def test_the_patient_is_out_in_every_department(doctor, archive, tmp_path):
    """One person has a slide in both departments, the only two of a third diagnosis."""
    one, other = archive[0].slide.case, archive[1].slide.case
    for case in (one, other):
        Patient.objects.filter(pk=case.patient_id).update(mrn_issuer="site", mrn="same")
        case.current_report.__class__.objects.filter(case=case).update(diagnosis_code="RARE")
    found = _run(doctor, tmp_path / "out", no_rivals=True)
    rare = next(line for line in found["classes"] if "RARE" in line["label"])
    assert rare["queries"] == 2
    assert rare["figures"]["top-1"] == rare["figures"]["mAP"] == 0


def test_slides_without_a_signed_diagnosis_or_features_are_counted(doctor, archive, tmp_path):
    report = archive[2].slide.case.current_report
    type(report).objects.filter(pk=report.pk).update(status="preliminary")
    SlideIndex.objects.filter(slide_image=archive[3]).update(features_path="features/none")
    found = _run(doctor, tmp_path / "out", no_rivals=True)
    assert "Slides without a known diagnosis, which take no part: 1." in found["notes"]
    assert any(
        note == "Slides left out, kept features missing or damaged: 1." for note in found["notes"]
    )
    assert found["sections"][0]["queries"] == 10


def test_words_of_unsigned_reports_alone_are_not_asked(doctor, archive, tmp_path):
    draft = archive[2].slide.case.current_report
    type(draft).objects.filter(pk=draft.pk).update(status="preliminary")
    ReportEmbedding.objects.exclude(report=draft).delete()
    found = _run(doctor, tmp_path / "out", no_rivals=True)
    assert len(found["sections"]) == 2
    assert any("No signed report is embedded" in note for note in found["notes"])


def test_diagnoses_by_words_are_of_signed_reports_too(doctor, archive, tmp_path):
    texts = ("Breast: invasive ductal carcinoma.", "Prostate: adenocarcinoma.")
    for number, image in enumerate(archive):
        report = image.slide.case.current_report
        type(report).objects.filter(pk=report.pk).update(
            diagnosis_text=texts[(number // 2) % 2],
            status="preliminary" if number == 2 else "final",
        )
    found = _run(doctor, tmp_path / "out", no_rivals=True, labels="words")
    assert found["sections"][0]["queries"] == 11
    assert len(found["confusion"]["labels"]) == 2


def test_a_model_with_a_text_side_is_asked_by_reports(doctor, archive, tmp_path, monkeypatch):
    type(archive[0].embeddings.get().model).objects.update(has_text_side=True)
    codes = {image.slide.case.current_report.full_text: i for i, image in enumerate(archive)}

    def placed(model, texts):
        stored = archive[codes[texts[0]]].embeddings.get().vector
        return np.asarray(stored, np.float32)[None]

    monkeypatch.setattr("retrieval.services.evaluating.texts_as_slides", placed)
    found = _run(doctor, tmp_path / "out", no_rivals=True)
    section = next(s for s in found["sections"] if s["title"] == "Words among slides")
    assert section["methods"][0]["figures"]["top-1"] == 1
    pairs = {pair["name"]: pair for pair in found["pairs"]}
    assert set(pairs) == {"report to own slides", "slide to own report"}
    # A report lies exactly where its slide lies.
    assert pairs["report to own slides"]["figures"]["recall@1"] == 1
    assert pairs["report to own slides"]["figures"]["chance recall@1"] == pytest.approx(1 / 12)


def test_readers_agreement_is_of_answers_that_the_user_sees(
    doctor, lung, breast, archive, tmp_path, meaning
):
    ben = make_member(lung, Role.PATHOLOGIST)
    query = search_run(doctor, slide_image=archive[0])
    hits = list(query.hits.filter(department=lung))
    assert len(hits) >= 5
    for number, hit in enumerate(hits):
        mine = "relevant" if number % 2 else "not_relevant"
        Feedback.objects.create(user=doctor, hit=hit, verdict=mine)
        Feedback.objects.create(user=ben, hit=hit, verdict="relevant" if not number else mine)
    found = _run(doctor, tmp_path / "out", no_rivals=True)
    (line,) = found["agreements"]
    assert (line["items"], line["same"]) == (len(hits), len(hits) - 1)
    assert 0 < line["kappa"] < 1
    assert "reader 1" in (tmp_path / "out" / "evaluation.html").read_text()
    stranger = make_member(breast, Role.PATHOLOGIST)
    assert _run(stranger, tmp_path / "other", no_rivals=True)["agreements"] == []


def test_the_command_names_what_is_wrong(doctor, lung, image_model, text_model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(CommandError, match="at least two are needed"):
        _run(doctor, out)
    with pytest.raises(CommandError, match="sees no cohort"):
        _run(doctor, out, cohort="none")
    with pytest.raises(CommandError, match="no image model"):
        _run(doctor, out, model="none")
    with pytest.raises(CommandError, match="does not allow"):
        _run(make_member(lung, Role.TECHNICIAN), out)
    for seed in range(3):
        _slide(lung, image_model, text_model, 0, seed=seed)
    with pytest.raises(CommandError, match="two diagnoses"):
        _run(doctor, out)
    assert not out.exists()
    assert not AccessEvent.objects.filter(action="export").exists()
