"""Storage commitment: kept, answered when the instances are in the archive, with the reasons."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from cases.dimse.answers import answer_all
from cases.models import SlideImage, StorageCommitment
from cases.services import commitment as service
from cases.services.commitment import NO_SUCH_OBJECT_INSTANCE
from tests.cases.dimse.conftest import SCANNER, only_upload, process_all, scanner, send
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)
WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"


class Listener:
    """The scanner's own listener, which takes the answers."""

    def __init__(self, status: int = 0x0000) -> None:
        self.events, self.status = [], status
        self.arrived = threading.Event()
        ae = AE(ae_title=SCANNER)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)]
        )
        self.port = self.server.server_address[1]

    def take(self, event):
        self.events.append((event.event_type, event.event_information))
        self.arrived.set()
        return self.status, None


@pytest.fixture
def listener(peer):
    server = Listener()
    peer.port = server.port
    peer.save()
    yield server
    server.server.shutdown()


@pytest.fixture
def quiet_scp(scp):
    """The receiver without its own answering: the tests say when."""
    scp._stopping.set()
    for thread in scp._threads:
        if thread.name in ("answers", "batches"):
            thread.join(timeout=5)
    return scp


def ask(port, uids, *, transaction_uid=None, action=1, change=None) -> int:
    """Ask for a commitment; returns the status."""
    request = Dataset()
    request.TransactionUID = transaction_uid or generate_uid()
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = WSI, uid
        items.append(item)
    request.ReferencedSOPSequence = Sequence(items)
    if change:
        change(request)
    association = scanner().associate("127.0.0.1", port, ae_title="PATHSEARCH")
    status, _reply = association.send_n_action(
        request, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return status.Status


def test_it_is_answered_when_every_instance_is_in_the_archive(quiet_scp, listener, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s").iterdir())
    uids = [str(dcmread(file).SOPInstanceUID) for file in files]
    send(quiet_scp.port, *files)
    transaction_uid = generate_uid()
    assert ask(quiet_scp.port, uids, transaction_uid=transaction_uid) == 0x0000
    # The sender has said that it is done: the batch is closed, and whole.
    upload = only_upload()
    assert (upload.state, upload.is_whole) == ("queued", True)
    assert answer_all(None) == 0
    assert not listener.events
    process_all()
    assert SlideImage.objects.get().settles_at is None
    assert answer_all(None) == 1
    ((event_type, information),) = listener.events
    assert event_type == 1
    assert information.TransactionUID == transaction_uid
    assert [i.ReferencedSOPInstanceUID for i in information.ReferencedSOPSequence] == uids
    assert "FailedSOPSequence" not in information
    assert StorageCommitment.objects.get().state == "sent"
    assert answer_all(None) == 0


def test_what_is_not_here_fails_with_the_standards_reason(quiet_scp, listener, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())
    uid = str(dcmread(files[0]).SOPInstanceUID)
    send(quiet_scp.port, *files)
    unknown = generate_uid()

    def other_class(request):
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.ReferencedSOPInstanceUID = generate_uid()
        request.ReferencedSOPSequence.append(item)

    ask(quiet_scp.port, [uid, unknown], change=other_class)
    process_all()
    answer_all(None)
    ((event_type, information),) = listener.events
    assert event_type == 2
    assert [i.ReferencedSOPInstanceUID for i in information.ReferencedSOPSequence] == [uid]
    failed = [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in information.FailedSOPSequence]
    assert failed[0] == (unknown, NO_SUCH_OBJECT_INSTANCE)
    assert failed[1][1] == 0x0122


def test_a_refused_instance_fails(quiet_scp, listener, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1, jpeg=False).iterdir())
    uid = str(dcmread(files[0]).SOPInstanceUID)
    damaged = dcmread(files[0])
    damaged.NumberOfFrames = damaged.NumberOfFrames + 5
    damaged.save_as(files[0])
    send(quiet_scp.port, *files)
    ask(quiet_scp.port, [uid])
    process_all()
    answer_all(None)
    ((event_type, information),) = listener.events
    assert event_type == 2
    assert information.FailedSOPSequence[0].FailureReason == NO_SUCH_OBJECT_INSTANCE


def test_one_that_waits_to_be_matched_is_not_promised(
    quiet_scp, listener, tmp_path, settings, peer
):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1, accession_number="").iterdir())
    for file in files:
        dataset = dcmread(file)
        dataset.ContainerIdentifier = ""
        dataset.save_as(file)
    uid = str(dcmread(files[0]).SOPInstanceUID)
    send(quiet_scp.port, *files)
    ask(quiet_scp.port, [uid])
    (upload,) = process_all()
    assert upload.items.get().state == "unmatched"
    answer_all(None)
    assert not listener.events
    long_ago = timezone.now() - timedelta(hours=settings.DICOM_COMMITMENT_HOURS + 1)
    StorageCommitment.objects.update(created_at=long_ago)
    answer_all(None)
    ((event_type, information),) = listener.events
    assert (event_type, information.FailedSOPSequence[0].FailureReason) == (2, 0x0110)


def test_an_unreachable_peer_is_tried_again_and_asked_twice_is_answered_twice(
    quiet_scp, listener, peer, tmp_path
):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())
    uid = str(dcmread(files[0]).SOPInstanceUID)
    send(quiet_scp.port, *files)
    listener.status = 0x0110
    transaction_uid = generate_uid()
    ask(quiet_scp.port, [uid], transaction_uid=transaction_uid)
    process_all()
    assert answer_all(None) == 0
    row = StorageCommitment.objects.get()
    assert (row.state, row.attempts) == ("ready", 1)
    assert "0x0110" in row.error
    assert answer_all(None) == 0  # not due yet
    assert len(listener.events) == 1
    StorageCommitment.objects.update(next_attempt_at=timezone.now())
    listener.status = 0x0000
    assert answer_all(None) == 1
    ask(quiet_scp.port, [uid], transaction_uid=transaction_uid)
    assert answer_all(None) == 1
    assert StorageCommitment.objects.get().state == "sent"
    # Nobody is tried for ever.
    StorageCommitment.objects.update(
        state="ready", attempts=service.MAX_ATTEMPTS - 1, next_attempt_at=timezone.now()
    )
    listener.status = 0x0110
    answer_all(None)
    assert StorageCommitment.objects.get().state == "failed"


def test_a_request_that_makes_no_sense_is_refused_by_name(quiet_scp):
    def without_transaction(request):
        del request.TransactionUID

    def with_a_path(request):
        request.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "../../etc"

    assert ask(quiet_scp.port, ["1.2.3"], action=7) == 0x0123
    assert ask(quiet_scp.port, []) == 0x0115
    assert ask(quiet_scp.port, ["1.2.3"], change=without_transaction) == 0x0115
    assert ask(quiet_scp.port, ["1.2.3"], change=with_a_path) == 0x0115
    assert not StorageCommitment.objects.exists()


def test_the_receiver_answers_by_itself(scp, listener, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())
    send(scp.port, *files)
    ask(scp.port, [str(dcmread(files[0]).SOPInstanceUID)])
    process_all()
    assert listener.arrived.wait(20)
