"""Builds STOW-RS bodies and sends them through Django's test client."""

from collections.abc import Iterable
from pathlib import Path

from django.test import Client

from cases.services import processing

BOUNDARY = "b0undary"
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
FAILED, STORED, OTHERS = "00081198", "00081199", "0008119A"


def body_of(
    instances: Iterable[bytes], *, headers: str = "Content-Type: application/dicom"
) -> bytes:
    """Return a multipart body of these instances."""
    parts = [
        f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + instance + b"\r\n" for instance in instances
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def instances_of(folder: Path) -> list[bytes]:
    """Return the files of a DICOM folder, sorted by name."""
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def send(
    client: Client, body: bytes, *, url: str = "/dicomweb/studies", type_: str = TYPE, **headers
):
    """POST a body as it is."""
    return client.post(url, body, content_type=type_, headers=headers)


def store(client: Client, instances: Iterable[bytes], **options):
    """Store instances and return the response."""
    return send(client, body_of(instances), **options)


def uids(answer: dict, sequence: str) -> list[str]:
    """Return the SOP Instance UIDs of one of the response's sequences."""
    return [item["00081155"]["Value"][0] for item in answer.get(sequence, {}).get("Value", [])]


def failures(answer: dict) -> list[tuple[int, str]]:
    """Return (FailureReason, our code) of every instance that was not stored."""
    items = [i for s in (FAILED, OTHERS) for i in answer.get(s, {}).get("Value", [])]
    return [(item["00081197"]["Value"][0], item["00991001"]["Value"][0]) for item in items]


def process_queued() -> None:
    """Let the intake take what was stored, as the worker would."""
    from cases.models import SlideUpload

    for upload in SlideUpload.objects.filter(state="queued"):
        processing.upload_process(upload.pk)
