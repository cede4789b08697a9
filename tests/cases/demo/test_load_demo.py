"""The command: through the real intake, idempotent, resumable after a kill."""

import csv
import io
import json
import stat
import zipfile
from io import StringIO

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from PIL import Image

from cases.demo import archive
from cases.demo.dicom import write_series
from cases.demo.people import NameTaken, password_ensure, people_ensure
from cases.demo.plan import planned_slides
from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.models import (
    Case,
    Cohort,
    CohortEntry,
    Department,
    Membership,
    Patient,
    Report,
    Slide,
    SlideImage,
    SlideUpload,
    UploadItem,
)
from cases.services.cohorts import cohort_remove
from cases.services.processing import upload_process

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    """Give each test a data folder of its own."""
    settings.DATA_DIR = tmp_path / "data"
    return settings.DATA_DIR


@pytest.fixture
def small_slides(monkeypatch):
    """Make the slides small: what they show is tested elsewhere."""
    monkeypatch.setattr("cases.demo.plan.PlannedSlide.size", (700, 600))


def load(*args: str, slides: int = 2, process: bool = True) -> str:
    """Run the command on synthetic slides, in this process; returns what it printed."""
    out = StringIO()
    call_command(
        "load_demo",
        "--only-synthetic",
        "--process-now" if process else "--no-wait",
        f"--slides={slides}",
        "--jobs=1",
        *args,
        stdout=out,
    )
    return out.getvalue()


def counts() -> dict[str, int]:
    """Return how many rows there are of everything that the archive makes."""
    models = (Case, Patient, Slide, SlideImage, SlideUpload, Report, Cohort, CohortEntry)
    return {model.__name__: model.objects.count() for model in models}


def test_slides_come_in_by_the_intake_and_find_their_glass(small_slides):
    load(slides=2)
    assert set(UploadItem.objects.values_list("state", flat=True)) == {"accepted"}
    for planned in planned_slides(2):
        image = SlideImage.objects.get(slide__label_barcode=planned.barcode)
        assert image.is_synthetic
        assert image.department.code == planned.department.code
        assert image.source_format == ("dicom" if planned.is_dicom else "vendor")
        assert image.mpp == pytest.approx(planned.header().mpp, rel=1e-4)
        assert image.slide.case.patient.mrn == planned.patient.mrn
        assert image.slide.case.current_report.diagnosis_line == planned.diagnosis.line
        assert image.slide.specimen.organ == planned.diagnosis.organ
    assert Slide.objects.count() == 2  # the registered glass was found, none was made twice


def test_twice_is_once(small_slides):
    load()
    before = counts()
    load()
    assert counts() == before


def test_a_longer_archive_adds_only_what_is_missing(small_slides):
    load(slides=2, process=False)
    uploads = set(SlideUpload.objects.values_list("pk", flat=True))
    load(slides=3, process=False)
    assert SlideUpload.objects.count() == 3
    assert uploads < set(SlideUpload.objects.values_list("pk", flat=True))


def test_killed_while_copying_and_run_again_is_the_same_archive(small_slides, monkeypatch):
    def killed(**kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cases.services.uploads.upload_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            load(slides=3, process=False)
    assert SlideUpload.objects.get().state == "receiving"
    load(slides=3, process=False)
    assert SlideUpload.objects.filter(state="queued").count() == 3
    assert SlideUpload.objects.filter(state="cancelled").count() == 1
    assert not archive.workshop().exists()


def test_what_people_changed_stays(small_slides):
    load()
    case = Case.objects.order_by("accession_number").first()
    Patient.objects.filter(pk=case.patient_id).update(family_name="Corrected")
    Cohort.objects.update(name="Renamed")
    out = CohortEntry.objects.first()
    admin = get_user_model().objects.get(username="northside-admin")
    cohort_remove(user=admin, cohort=out.cohort, entries=[out.pk], reason="blurred")
    load()
    case.patient.refresh_from_db()
    assert case.patient.family_name == "Corrected"
    assert Cohort.objects.get().name == "Renamed"
    assert CohortEntry.objects.filter(slide_image=out.slide_image).count() == 1


def test_the_cohort_opens_its_slides_to_the_other_department_and_nothing_else(small_slides):
    load(slides=9, process=False)  # the ninth is the first of the other department
    for upload in SlideUpload.objects.order_by("created_at")[:3]:
        upload_process(upload.pk)
    load(slides=9, process=False)
    foreign = get_user_model().objects.get(username="lakeview-pathologist")
    seen = SlideImage.objects.visible_to(foreign).exclude(department__code="lakeview")
    codes = {image.slide.case.current_report.diagnosis_code for image in seen}
    assert codes == {"8551/3", "8071/3"}
    assert SlideImage.objects.count() == 3


def test_people_only_makes_users_of_every_role_and_a_password_of_their_own(data_dir):
    load("--people-only")
    file = data_dir / "demo_logins.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    logins = json.loads(file.read_text())
    assert not Case.objects.exists()
    assert set(Membership.objects.values_list("role", flat=True)) == {
        "pathologist",
        "technician",
        "researcher",
        "department_administrator",
        "system_administrator",
    }
    for login in logins["users"]:
        user = get_user_model().objects.get(username=login["username"])
        assert user.check_password(logins["password"])
    both = get_user_model().objects.get(username="both-pathologist")
    assert Department.objects.visible_to(both).count() == 2
    system = get_user_model().objects.get(username="system-admin")
    assert system.is_superuser
    assert not Department.objects.visible_to(system).exists()


def test_the_password_is_made_once_and_differs_between_archives(data_dir, settings, tmp_path):
    first = password_ensure()
    assert password_ensure() == first
    settings.DATA_DIR = tmp_path / "other"
    assert password_ensure() != first


def test_a_lost_password_file_means_a_new_password():
    people_ensure("first password")
    users = people_ensure("second password")
    assert users["northside-technician"].check_password("second password")


def test_a_user_of_the_site_is_never_taken_over():
    owner = get_user_model().objects.create_user("northside-technician", password="my own secret")
    with pytest.raises(NameTaken):
        people_ensure("demo")
    owner.refresh_from_db()
    assert owner.check_password("my own secret")
    with pytest.raises(CommandError, match="northside-technician"):
        load("--people-only")


def test_a_folder_of_real_slides_is_taken_too(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((700, 600)))
    write_tiff(folder / "With mpp.tiff", pyramid(picture), 0.5, description="", model="")
    write_tiff(folder / "without.tiff", pyramid(255 - picture), None, description="", model="")
    load(f"--from={folder}", slides=0)
    load(f"--from={folder}", slides=0)
    states = dict(UploadItem.objects.values_list("name", "state"))
    assert len(states) == UploadItem.objects.count() == 2
    assert sorted(states.values()) == ["accepted", "unmatched"]  # no resolution is guessed
    assert UploadItem.objects.get(state="unmatched").reason_code == "mpp_missing"
    assert not SlideImage.objects.get().is_synthetic


def test_a_dicom_folder_keeps_the_patient_of_its_headers(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    planned = planned_slides(1)[0]
    picture = np.full((600, 700, 3), 200, np.uint8)
    write_series(folder, pyramid(picture), planned.header())
    load(f"--from={folder}", slides=0)
    image = SlideImage.objects.get()
    assert image.slide.case.accession_number == planned.accession_number
    assert image.slide.case.patient.mrn == planned.patient.mrn


def test_patches_become_slides_of_one_class_and_a_prototype_is_in_one_slide(tmp_path, monkeypatch):
    monkeypatch.setattr("cases.demo.found.SLIDES_PER_CLASS", 2)
    folder = tmp_path / "patches"
    folder.mkdir()
    rows = [
        (f"{label}/{number}.jpeg", label, f"{label}-{number // 2}")
        for label in ("lung_aca", "lung_n")
        for number in range(12)
    ]
    with zipfile.ZipFile(folder / "all.zip", "w") as archive_file:
        for number, (path, _label, _prototype) in enumerate(rows):
            buffer = io.BytesIO()
            Image.new("RGB", (224, 224), (180, 5 * number, 150)).save(buffer, "JPEG")
            archive_file.writestr(path, buffer.getvalue())
    with (folder / "patches.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "prototype"), *rows])
    load(f"--from={folder}", slides=0)
    images = list(SlideImage.objects.select_related("slide__case", "department"))
    assert len(images) == 4
    assert len({image.department_id for image in images}) == 2
    for image in images:
        assert not image.is_synthetic
        assert (image.mpp, image.mpp_source) == (0.5, "entered")
        assert "LC25000" in image.slide.case.current_report.comment
    load(f"--from={folder}", slides=0)
    assert SlideImage.objects.count() == 4


def test_a_missing_folder_is_named():
    with pytest.raises(CommandError, match="no folder"):
        load("--from=/nowhere/at/all")
