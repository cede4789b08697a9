"""A receiver in this process, and peers that talk to it."""

from pathlib import Path

import pytest
from pynetdicom import AE, _config
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    Verification,
    VLWholeSlideMicroscopyImageStorage,
)

from cases.dimse import peers
from cases.dimse.scp import Scp
from cases.models import DicomPeer, SlideUpload
from cases.services import processing
from cases.wsi.formats import readable_transfer_syntaxes
from tests.cases.intake.conftest import data_dir, department, technician  # noqa: F401

SCANNER = "SCANNER1"


@pytest.fixture
def peer(department):  # noqa: F811
    return DicomPeer.objects.create(
        ae_title=SCANNER, address="127.0.0.1", port=104, department=department
    )


@pytest.fixture
def dicom_settings(settings, data_dir, monkeypatch):  # noqa: F811
    settings.DICOM_HOST, settings.DICOM_PORT = "127.0.0.1", 0
    settings.DICOM_TIMEOUT_SECONDS = 2
    monkeypatch.setattr(peers, "REFRESH_SECONDS", 0)
    return settings


@pytest.fixture
def scp(peer, dicom_settings, monkeypatch):
    """Return the running receiver; batches are closed by the test, not by time."""
    dicom_settings.DICOM_QUIET_SECONDS = 3600
    chunked, level = _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL
    server = Scp()
    server.start()
    yield server
    server.stop()
    monkeypatch.undo()
    _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL = chunked, level


def scanner(ae_title: str = SCANNER) -> AE:
    """Return an application entity that asks for all that we offer."""
    ae = AE(ae_title=ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 20
    ae.add_requested_context(Verification)
    ae.add_requested_context(StorageCommitmentPushModel)
    for uid in readable_transfer_syntaxes():
        ae.add_requested_context(VLWholeSlideMicroscopyImageStorage, uid)
    return ae


def send(port: int, *paths: Path, ae_title: str = SCANNER) -> list[int]:
    """Send files by C-STORE on one association; returns the statuses."""
    association = scanner(ae_title).associate("127.0.0.1", port, ae_title="PATHSEARCH")
    assert association.is_established
    try:
        return [association.send_c_store(path).Status for path in paths]
    finally:
        association.release()


def only_upload() -> SlideUpload:
    """Return the one batch there is."""
    (upload,) = SlideUpload.objects.all()
    return upload


def process_all() -> list[SlideUpload]:
    """Do what the intake's worker does."""
    uploads = list(SlideUpload.objects.filter(state=SlideUpload.State.QUEUED))
    for upload in uploads:
        processing.upload_process(upload.pk)
        upload.refresh_from_db()
    return uploads
