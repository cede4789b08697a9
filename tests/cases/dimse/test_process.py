"""The receiver's process: killed, short of memory, with TLS."""

import shutil
import socket
import ssl
import struct
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone
from pydicom import dcmread

from cases.models import SlideImage, SlideUpload, UploadFile
from cases.services import sweep
from tests.cases.dimse.conftest import only_upload, process_all, scanner, send
from tests.cases.dimse.process import running_receiver
from tests.cases.dimse.test_store import wait_for
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_was_acknowledged_survives_a_kill(peer, data_dir, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s").iterdir())
    with running_receiver(data_dir, PATHSEARCH_DICOM_QUIET_SECONDS="1") as receiver:
        association = scanner().associate("127.0.0.1", receiver.port, ae_title="PATHSEARCH")
        for file in files[:2]:
            assert association.send_c_store(file).Status == 0x0000
        receiver.kill()
        association.abort()
        assert only_upload().files.count() == 2
        # Its successor hands over what it finds, and takes the rest as it comes.
        receiver.start()
        assert wait_for(lambda: only_upload().state == "queued", 30)
        process_all()
        assert SlideImage.objects.get().instances.count() == 2
        assert send(receiver.port, *files) == [0x0000] * 3
        assert wait_for(lambda: SlideUpload.objects.filter(state="queued").exists(), 30)
        process_all()
        image = SlideImage.objects.get()
        assert image.instances.count() == image.level_count == 3
        folders = [path.name for path in (data_dir / "dimse").iterdir()]
        assert len(folders) == 1  # the dead one's half-received files are gone
        assert receiver.stop() == 0
    assert not list((data_dir / "dimse").iterdir())


def test_the_intake_takes_up_the_batches_of_a_receiver_that_is_gone(peer, data_dir, tmp_path):
    files = sorted(write_dicom_slide(tmp_path / "s", levels=1).iterdir())
    with running_receiver(data_dir) as receiver:
        send(receiver.port, *files)
        receiver.kill()
    sweep.sweep_uploads()
    assert only_upload().state == "receiving"
    UploadFile.objects.update(created_at=timezone.now() - timedelta(hours=1))
    sweep.sweep_uploads()
    process_all()
    assert SlideImage.objects.count() == 1


def test_memory_does_not_grow_with_what_is_sent(peer, data_dir, tmp_path):
    """An instance of 190 MB and PDUs that announce 4 GiB, within a limit and in steady memory."""
    rgb = picture(512, 512)
    big = rgb.repeat(16, axis=0).repeat(16, axis=1)
    (file,) = write_dicom_slide(tmp_path / "s", rgb=big, levels=1, jpeg=False).iterdir()
    assert file.stat().st_size > 190_000_000
    small = sorted(write_dicom_slide(tmp_path / "t", levels=1).iterdir())
    with running_receiver(data_dir) as receiver:
        send(receiver.port, *small)
        before = receiver.status("VmHWM")
        assert send(receiver.port, file) == [0x0000]
        for _n in range(3):
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
                connection.sendall(struct.pack(">BBI", 4, 0, 0xFFFFFFF0))
                assert connection.recv(10)[:1] == b"\x07"
        assert receiver.status("VmHWM") - before < 32 * 1024
        assert receiver.status("VmSize") < 1536 * 1024
    sent = max(SlideUpload.objects.get().files.all(), key=lambda row: row.size_bytes)
    assert sent.size_bytes == pytest.approx(file.stat().st_size, abs=1000)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return a folder with a CA, a server's and a client's certificate, and a stranger's."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def self_signed(name: str) -> None:
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        )

    self_signed("ca")
    self_signed("stranger")
    for name in ("server", "client"):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
        )
    return folder


def test_tls_with_and_without_a_certificate(peer, data_dir, certificates, tmp_path):
    tls = {
        "PATHSEARCH_DICOM_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "PATHSEARCH_DICOM_TLS_KEY": str(certificates / "server.key"),
        "PATHSEARCH_DICOM_TLS_CA": str(certificates / "ca.pem"),
        "PATHSEARCH_DICOM_TIMEOUT": "3",
    }
    (file,) = write_dicom_slide(tmp_path / "s", levels=1).iterdir()
    with running_receiver(data_dir, **tls) as receiver:

        def associate(name: str | None):
            context = ssl.create_default_context(cafile=certificates / "ca.pem")
            context.check_hostname = False
            if name:
                context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
            return scanner().associate(
                "127.0.0.1", receiver.port, ae_title="PATHSEARCH", tls_args=(context, "localhost")
            )

        # Somebody who never shakes hands holds up nobody.
        silent = socket.create_connection(("127.0.0.1", receiver.port))
        association = associate("client")
        assert association.send_c_echo().Status == 0x0000
        assert association.send_c_store(dcmread(file)).Status == 0x0000
        association.release()
        assert not associate(None).is_established
        assert not associate("stranger").is_established
        plain = scanner().associate("127.0.0.1", receiver.port, ae_title="PATHSEARCH")
        assert not plain.is_established
        silent.close()
    assert only_upload().files.count() == 1
