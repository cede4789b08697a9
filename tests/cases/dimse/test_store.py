"""C-ECHO and C-STORE: who may, what is taken, and that it reaches the intake once."""

import contextlib
import socket
import struct
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from cases.dimse.handlers import Handlers
from cases.dimse.peers import PeerBook
from cases.models import AccessEvent, DicomPeer, SlideImage, SlideUpload, UploadFile
from cases.services import network
from cases.services.store import image_path, spool_folder
from cases.wsi.reader import open_slide
from tests.cases.dimse.conftest import SCANNER, only_upload, process_all, scanner, send
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)


def associate(port: int, *, calling: str = SCANNER, called: str = "PATHSEARCH"):
    return scanner(calling).associate("127.0.0.1", port, ae_title=called)


def wait_for(condition, seconds: float = 15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_echo(scp):
    association = associate(scp.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert not SlideUpload.objects.exists()


def test_a_series_is_one_upload_and_becomes_a_slide(scp, peer, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", label=True).iterdir())
    # Some scanners open an association for every instance.
    for file in files:
        assert send(scp.port, file) == [0x0000]
    upload = only_upload()
    assert (upload.state, upload.source, upload.dicom_peer) == ("receiving", "dicom", peer)
    assert not upload.is_whole
    assert upload.files.count() == len(files) == 4
    assert network.batches_close(quiet_seconds=0) == 1
    process_all()
    image = SlideImage.objects.get()
    assert image.instances.count() == 4
    assert image.department == peer.department
    reader = open_slide(image_path(image))
    assert reader.width_l0 == 1024
    reader.close()
    assert not spool_folder(upload.pk).exists()
    event = AccessEvent.objects.get(action="create", object_type="slideupload")
    assert (event.user, event.channel, event.address) == (None, "dicom", "127.0.0.1")
    assert event.detail == {"peer": str(peer.pk)}


def test_it_is_on_disk_under_names_of_our_own_when_it_is_acknowledged(scp, tmp_path):
    file = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())[0]
    assert send(scp.port, file) == [0x0000]
    upload = only_upload()
    row = upload.files.get()
    assert row.is_complete
    (spooled,) = spool_folder(upload.pk).iterdir()
    assert spooled.name == str(row.pk)
    sent, kept = dcmread(file), dcmread(spooled)
    assert kept == sent
    assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID


def test_sending_again_makes_no_second_slide(scp, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s").iterdir())
    for _time in range(2):
        assert set(send(scp.port, *files)) == {0x0000}
        network.batches_close(quiet_seconds=0)
        process_all()
    assert SlideImage.objects.count() == 1
    states = [upload.items.get().state for upload in SlideUpload.objects.order_by("created_at")]
    assert states == ["accepted", "duplicate"]


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "PATHSEARCH", 0x03), (SCANNER, "OTHER", 0x07)],
)
def test_a_wrong_ae_title_is_rejected_and_recorded(scp, calling, called, reason):
    for _time in range(2):
        association = associate(scp.port, calling=calling, called=called)
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)
    # Once a minute: who keeps knocking does not fill the audit.
    event = AccessEvent.objects.get(action="denied")
    assert event.detail == {"ae_title": calling, "reason": reason}


def test_an_address_that_no_peer_has_is_hung_up_on(scp, peer):
    DicomPeer.objects.update(address="192.0.2.7")
    scp.peers.refresh()
    with socket.create_connection(("127.0.0.1", scp.port), timeout=10) as connection:
        assert connection.recv(1) == b""
    DicomPeer.objects.update(address="127.0.0.1", is_active=False)
    scp.peers.refresh()
    assert not associate(scp.port).is_established


def test_other_objects_are_refused_in_the_negotiation(scp):
    ae = AE(ae_title=SCANNER)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate("127.0.0.1", scp.port, ae_title="PATHSEARCH")
    assert not association.is_established or not association.accepted_contexts
    if association.is_established:
        association.abort()


def test_a_dataset_that_is_not_what_was_announced_is_refused(scp, tmp_path):
    file = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())[0]
    dataset = dcmread(file)
    association = associate(scp.port)
    # pynetdicom announces what the dataset says; the wire is changed under it.
    announced = generate_uid()
    original = association.dimse.send_msg

    def lying(primitive, context_id):
        if type(primitive).__name__ == "C_STORE":
            primitive.AffectedSOPInstanceUID = announced
        original(primitive, context_id)

    association.dimse.send_msg = lying
    assert association.send_c_store(dataset).Status == 0xA900
    association.release()
    assert not SlideUpload.objects.exists()


def test_no_room_on_the_disk_is_named(scp, tmp_path, settings):
    file = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())[0]
    settings.DISK_RESERVE_BYTES = 2**62
    assert send(scp.port, file) == [0xA700]
    settings.DISK_RESERVE_BYTES = 0
    assert send(scp.port, file) == [0x0000]


def test_a_batch_waits_while_its_peer_is_sending_and_not_for_ever(scp, peer, tmp_path):
    file = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())[0]
    send(scp.port, file)
    assert network.batches_close(quiet_seconds=60) == 0
    UploadFile.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    assert network.batches_close(quiet_seconds=60, busy={peer.pk}) == 0
    SlideUpload.objects.update(created_at=timezone.now() - timedelta(seconds=301))
    assert network.batches_close(quiet_seconds=60, busy={peer.pk}) == 1
    # What comes next is the next batch.
    send(scp.port, file)
    assert SlideUpload.objects.filter(state="receiving").count() == 1


def test_who_broke_off_in_the_middle_is_not_busy_for_ever(peer, dicom_settings):
    handlers = Handlers("PATHSEARCH", PeerBook())
    for _association in range(3):
        handlers.on_progress(SimpleNamespace(peer=peer))
    assert handlers.busy_peers(60) == {peer.pk}
    assert handlers.busy_peers(0) == set()
    assert not handlers._sending


def announce_pdu(port: int, pdu_type: int, length: int) -> bytes:
    """Announce a PDU of that length, send nothing of it, and return what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(struct.pack(">BBI", pdu_type, 0, length) + b"x" * 100)
        answer = b""
        try:
            while piece := connection.recv(1000):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize("pdu_type", [1, 4, 5, 7])
def test_a_giant_pdu_is_aborted_before_its_body_is_read(scp, pdu_type):
    before = time.monotonic()
    answer = announce_pdu(scp.port, pdu_type, 0xFFFFFFF0)
    # A-ABORT by the provider, invalid PDU parameter (PS3.8 9.3.8): at once, no body awaited.
    assert answer[:1] == b"\x07" and answer[8:10] == b"\x02\x06"
    assert time.monotonic() - before < scp._server.bounds.patience_seconds
    assert associate(scp.port).send_c_echo().Status == 0x0000


def test_half_open_and_slow_connections_end_and_do_not_block_others(scp, tmp_path):
    silent = [socket.create_connection(("127.0.0.1", scp.port), timeout=30) for _n in range(5)]
    silent[0].sendall(b"\x01")  # a PDU that never goes on
    association = associate(scp.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()
    for connection in silent:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100)[:1] in (b"", b"\x07")
        connection.close()
    assert wait_for(lambda: not scp._server.active_associations)


def test_more_associations_than_allowed_are_refused(scp):
    limit = 3
    scp._server.ae.maximum_associations = limit
    established = [associate(scp.port) for _n in range(limit + 2)]
    kept = [association for association in established if association.is_established]
    assert len(kept) == limit
    refused = next(a for a in established if not a.is_established)
    assert refused.acceptor.primitive.result_source == 3  # local limit exceeded
    for association in kept:
        association.release()


def test_an_aborted_transfer_leaves_nothing(scp, data_dir, tmp_path):
    file = sorted(write_dicom_slide(tmp_path / "s", levels=1, jpeg=False).iterdir())[0]
    association = associate(scp.port)
    original = association.dul.send_pdu
    count = 0

    def broken(primitive):
        nonlocal count
        count += 1
        if count == 4:
            association.dul.socket.close()
        elif count < 4:
            original(primitive)

    association.dul.send_pdu = broken
    with contextlib.suppress(RuntimeError, AttributeError):
        association.send_c_store(file)
    assert wait_for(lambda: not scp._server.active_associations)
    (incoming,) = (data_dir / "dimse").iterdir()
    assert [path.name for path in incoming.iterdir()] == ["lock"]
    assert not SlideUpload.objects.exists()


def test_a_verification_only_peer_is_served_twice_on_one_association(scp):
    ae = AE(ae_title=SCANNER)
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", scp.port, ae_title="PATHSEARCH")
    assert [association.send_c_echo().Status for _n in range(2)] == [0, 0]
    association.release()
