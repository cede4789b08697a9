"""What strangers can send: random bytes end in a named answer, and others are served on."""

import contextlib
import random
import socket
import struct

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from cases.dimse.dataset_head import read_sop_uids
from cases.dimse.peers import plain_address
from cases.errors import Conflict
from cases.models import SlideUpload
from cases.services import sweep, uploads
from cases.services.receive import UploadClosed, file_replace
from tests.cases.dimse.conftest import SCANNER, only_upload, scanner, send
from tests.cases.dimse.test_store import associate, wait_for
from tests.synthetic_slide import write_dicom_slide


@given(st.binary(max_size=200), st.booleans())
def test_the_head_of_any_dataset_is_read_or_not_without_harm(head, is_implicit):
    sop_class, sop_instance = read_sop_uids(head, is_implicit=is_implicit)
    assert isinstance(sop_class, str) and isinstance(sop_instance, str)


@pytest.mark.parametrize("is_implicit", [False, True])
def test_the_uids_of_a_dataset(is_implicit):
    def element(tag: int, vr: bytes, value: bytes) -> bytes:
        head = struct.pack("<HH", 0x0008, tag)
        if is_implicit:
            return head + struct.pack("<I", len(value)) + value
        if vr == b"UT":
            return head + vr + struct.pack("<HI", 0, len(value)) + value
        return head + vr + struct.pack("<H", len(value)) + value

    dataset = (
        element(0x0005, b"CS", b"ISO_IR 100")
        + element(0x0006, b"UT", b"long one")
        + element(0x0016, b"UI", b"1.2.3\0")
        + element(0x0018, b"UI", b"1.2.3.4\0")
        + element(0x0020, b"DA", b"20260101")
    )
    assert read_sop_uids(dataset, is_implicit=is_implicit) == ("1.2.3", "1.2.3.4")


def test_addresses_are_compared_as_the_rows_spell_them():
    assert plain_address("::ffff:192.0.2.1") == plain_address("192.0.2.1") == "192.0.2.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"


def association_request() -> bytes:
    """Return a good A-ASSOCIATE-RQ as bytes."""
    ae = scanner()
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = SCANNER, "PATHSEARCH"
    contexts = ae.requested_contexts
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16382
    implementation.implementation_class_uid = ae.implementation_class_uid
    primitive.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(primitive).encode()


@pytest.mark.django_db(transaction=True)
def test_mutated_association_requests_end_and_others_are_served(scp):
    good, chance = association_request(), random.Random(5)
    for _n in range(120):
        data = bytearray(good)
        for _m in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data = data[: chance.randrange(6, len(data))]
            data[2:6] = struct.pack(">I", len(data) - 6)
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", scp.port), timeout=5) as connection,
        ):
            connection.sendall(bytes(data))
    assert wait_for(lambda: not scp._server.active_associations, 30)
    assert associate(scp.port).send_c_echo().Status == 0x0000
    assert not SlideUpload.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_nobody_takes_back_what_a_scanner_was_told_is_kept(scp, technician, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())
    send(scp.port, *files)
    upload = only_upload()
    for act in (uploads.upload_cancel, uploads.upload_finish):
        with pytest.raises(Conflict):
            act(upload=upload, user=technician)
    with pytest.raises(Conflict):
        uploads.upload_remove_file(upload_file=upload.files.get(), user=technician)
    with pytest.raises(UploadClosed):
        file_replace(upload_file=upload.files.get(), user=technician, read=lambda n: b"")
    SlideUpload.objects.update(updated_at="2020-01-01T00:00Z")
    upload.files.update(updated_at="2020-01-01T00:00Z")
    assert sweep.sweep_abandoned() == 0
    # Its page shows where it comes from, and offers neither sending nor giving up.
    client = Client()
    client.force_login(technician)
    page = client.get(f"/uploads/{upload.pk}/").content.decode()
    assert "DICOM network" in page and SCANNER in page
    assert "Give up" not in page and "Go on sending" not in page
