"""Sends files as a client of the API does: announce, tus pieces, finish."""

from pathlib import Path

from django.test import Client

from cases.models import SlideUpload
from cases.services import processing

PIECE = 200_000
TUS = {"Tus-Resumable": "1.0.0"}


def announce(client: Client, files: list[tuple[str, int]], **form) -> dict:
    """Return the answer to a new upload, which must be accepted."""
    listed = [{"name": name, "size_bytes": size} for name, size in files]
    body = {"department": "lung", "files": listed, **form}
    response = client.post("/api/v1/uploads/", body, content_type="application/json")
    assert response.status_code == 201, response.content
    return response.json()


def patch(client: Client, url: str, offset: int, data: bytes):
    """Send one piece."""
    return client.patch(
        url,
        data,
        content_type="application/offset+octet-stream",
        headers={**TUS, "Upload-Offset": str(offset)},
    )


def send_file(client: Client, url: str, data: bytes) -> None:
    """Send a whole file in pieces."""
    for offset in range(0, len(data), PIECE):
        response = patch(client, url, offset, data[offset : offset + PIECE])
        assert response.status_code == 204, response.content


def send(client: Client, folder: Path, **form) -> dict:
    """Send a file or folder, process it, return the upload as the API shows it then."""
    base = folder if folder.is_dir() else folder.parent
    paths = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    names = [str(path.relative_to(base)) for path in paths]
    created = announce(client, [(n, p.stat().st_size) for n, p in zip(names, paths, strict=True)])
    if form:
        SlideUpload.objects.filter(pk=created["id"]).update(**form)
    for announced in created["files"]:
        send_file(client, announced["tus_url"], (base / announced["name"]).read_bytes())
    finished = client.post(f"/api/v1/uploads/{created['id']}/finish/")
    assert finished.json()["state"] == "queued", finished.content
    processing.upload_process(created["id"])
    return client.get(f"/api/v1/uploads/{created['id']}/").json()
