"""2,100 mutated instances to a live server: no crash, no hang, no leak, no half-stored slide."""

import json

import numpy as np
import psutil
import pytest

from cases.models import SlideImage, SlideInstance, SlideUpload, UploadFile, UploadItem
from cases.services import store as files
from tests.cases.dicomweb.fuzzing import mutants
from tests.cases.dicomweb.storing import BOUNDARY, FAILED, OTHERS, STORED, process_queued
from tests.cases.dicomweb.test_stow_live import MIB, post, server  # noqa: F401
from tests.cases.intake.conftest import stored
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)

COUNT, BATCH, SEED = 2100, 150, 20260101


def originals(folder) -> list[bytes]:
    """Return small instances of several kinds: JPEG, raw, a label."""
    small = np.ascontiguousarray(picture(256, 192))
    jpeg = write_dicom_slide(folder / "jpeg", rgb=small, levels=2, label=True)
    raw = write_dicom_slide(folder / "raw", rgb=small[:96, :96], levels=1, jpeg=False)
    return [file.read_bytes() for slide in (jpeg, raw) for file in sorted(slide.iterdir())]


def held_bytes(process) -> int:
    """Return what the server and its children hold now."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def send_batch(server, batch) -> tuple[int, dict]:  # noqa: F811
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    pieces = [piece for one in batch for piece in (head, one, b"\r\n")]
    response = post(server, iter([*pieces, f"--{BOUNDARY}--\r\n".encode()]))
    return response.status, json.loads(response.read())


def test_no_mutant_breaks_anything(server, tmp_path, data_dir):  # noqa: F811
    everything = list(mutants(originals(tmp_path / "o"), COUNT, SEED))
    assert len(set(everything)) > COUNT * 0.95
    taken, held = 0, []
    for start in range(0, COUNT, BATCH):
        batch = everything[start : start + BATCH]
        status, answer = send_batch(server, batch)
        assert status in (200, 202, 409)
        told = {s: len(answer.get(s, {}).get("Value", [])) for s in (STORED, FAILED, OTHERS)}
        # Each instance has its answer, and each refusal its name.
        assert sum(told.values()) == len(batch)
        for item in answer.get(FAILED, {}).get("Value", []) + answer.get(OTHERS, {}).get(
            "Value", []
        ):
            assert item["00991001"]["Value"][0]
        taken += told[STORED]
        held.append(held_bytes(server.process))
    assert server.process.is_running()
    assert max(held[2:]) - held[1] < 64 * MIB, held
    assert server.peak_bytes() < 512 * MIB
    # Nothing is half there: each spooled file is whole and has its row.
    rows = {str(file.pk): file for file in UploadFile.objects.select_related("upload")}
    on_disk = {}
    for folder in stored(data_dir, "spool"):
        on_disk |= {f.name: f.stat().st_size for f in (data_dir / "spool" / folder).iterdir()}
    assert on_disk == {name: file.size_bytes for name, file in rows.items()}
    assert 0 < len(rows) <= taken < COUNT
    # What looked whole goes through the intake: it ends, and leaves slides that can be read.
    process_queued()
    assert not SlideUpload.objects.exclude(state="finished").exists()
    assert UploadItem.objects.exists()
    for image in SlideImage.objects.all():
        names = {instance.file_name for instance in image.instances.all()}
        folder = files.slide_folder(image.pk)
        assert names == {file.name for file in folder.iterdir()}
    uids = SlideInstance.objects.values_list("sop_instance_uid", flat=True)
    assert len(set(uids)) == len(uids)
