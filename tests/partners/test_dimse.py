"""dcmtk and Orthanc send to us over the DICOM network; each test skips with who is missing."""

import shutil
import subprocess

import pytest

from cases.models import SlideImage, SlideUpload, StorageCommitment
from cases.services import network
from cases.services.store import image_path
from cases.wsi.reader import open_slide
from tests.cases.dimse.conftest import (  # noqa: F401
    data_dir,
    department,
    peer,
    process_all,
    technician,
)
from tests.cases.dimse.process import running_receiver
from tests.cases.dimse.test_store import wait_for
from tests.partners.orthanc import require_orthanc, running_orthanc
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)


def dcmtk(program: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a program of dcmtk, or skip with its name."""
    if shutil.which(program) is None:
        pytest.skip(f"dcmtk's {program} is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)


def test_dcmtk_echoes_and_stores(peer, data_dir, tmp_path):  # noqa: F811
    folder = write_dicom_slide(tmp_path / "s", label=True)
    with running_receiver(data_dir) as receiver:
        address = ("127.0.0.1", str(receiver.port))
        called = ("-aec", "PATHSEARCH")
        assert dcmtk("echoscu", "-aet", "SCANNER1", *called, *address).returncode == 0
        assert dcmtk("echoscu", "-aet", "STRANGER", *called, *address).returncode != 0
        assert dcmtk("echoscu", "-aet", "SCANNER1", "-aec", "OTHER", *address).returncode != 0
        stored = dcmtk(
            "storescu", "-aet", "SCANNER1", *called, *address, "-R", "-xy", "+sd", str(folder)
        )
        assert stored.returncode == 0, stored.stderr
    assert SlideUpload.objects.get().files.count() == 4
    network.batches_close(quiet_seconds=0)
    process_all()
    image = SlideImage.objects.get()
    assert (image.level_count, image.has_label_image) == (3, True)
    reader = open_slide(image_path(image))
    assert reader.read_region_l0(0, 0, 256, 256, 256, 256).shape == (256, 256, 3)
    reader.close()


def test_orthanc_sends_by_c_store_and_asks_for_commitment(peer, data_dir, tmp_path):  # noqa: F811
    require_orthanc()
    files = sorted(write_dicom_slide(tmp_path / "s").iterdir())
    with running_receiver(data_dir) as receiver:
        modalities = {"us": ("PATHSEARCH", "127.0.0.1", receiver.port)}
        with running_orthanc(tmp_path, modalities=modalities, DicomAet="SCANNER1") as orthanc:
            peer.port = orthanc.dicom_port
            peer.save()
            ids = [orthanc.upload(file) for file in files]
            orthanc.store("us", ids)
            resources = {"Resources": ids, "Timeout": 30}
            asked = orthanc.post("/modalities/us/storage-commitment", resources)
            assert wait_for(lambda: StorageCommitment.objects.exists(), 30)
            process_all()
            image = SlideImage.objects.get()
            assert image.level_count == 3
            # The commitment said that nothing more comes.
            assert image.settles_at is None

            def report():
                return orthanc.get(f"/storage-commitment/{asked['ID']}")

            assert wait_for(lambda: report()["Status"] != "Pending", 60)
            assert report()["Status"] == "Success"
            assert len(report()["Success"]) == len(files)
    assert StorageCommitment.objects.get().state == "sent"
