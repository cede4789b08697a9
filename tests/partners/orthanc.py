"""Debian's Orthanc with its DICOMweb plug-in, on free ports and in a folder of its own.

    with running_orthanc(tmp_path, servers={"us": {"Url": ours, "HttpHeaders": {...}}}) as orthanc:
        orthanc.upload(file)                       # its own REST, no DICOMweb
        orthanc.send("us", [orthanc_instance_id])  # it sends to us by STOW-RS
        orthanc.url + "/dicom-web"                 # its QIDO, WADO and STOW

    with running_orthanc(folder, modalities={"us": ("PATHSEARCH", "127.0.0.1", port)}) as orthanc:
        orthanc.store("us", [orthanc_instance_id])  # it sends to us by C-STORE

`orthanc.aet` and `orthanc.dicom_port` take C-STORE from anybody on loopback.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

PROGRAM = "Orthanc"
_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")
STARTUP_SECONDS = 60


class OrthancMissing(RuntimeError):
    """The program or its plug-in is not installed."""


def plugin(name: str) -> Path:
    """Return the plug-in's library (`OrthancDicomWeb`, `OrthancWSI`)."""
    for folder in _FOLDERS:
        file = Path(folder) / f"lib{name}.so"
        if file.exists():
            return file
    raise OrthancMissing(f"Orthanc's plug-in {name} is not installed")


def require_orthanc(*plugins: str) -> None:
    """Skip the test with the name of what is missing."""
    import pytest

    try:
        _require(plugins or ("OrthancDicomWeb",))
    except OrthancMissing as error:
        pytest.skip(str(error))


def _require(plugins: Sequence[str]) -> list[Path]:
    if shutil.which(PROGRAM) is None:
        raise OrthancMissing("Orthanc is not installed")
    return [plugin(name) for name in plugins]


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    port: int
    dicom_port: int
    process: subprocess.Popen
    folder: Path
    aet: str = "ORTHANC"

    @property
    def url(self) -> str:
        """Return the address of its REST interface; DICOMweb lies at `/dicom-web` under it."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """Return the JSON of a GET to its REST interface."""
        answer = requests.get(self.url + path, timeout=600)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON of a POST; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = requests.post(self.url + path, data=data, timeout=600)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json()

    def upload(self, file: Path) -> str:
        """Give it a DICOM file; returns its own id of the instance."""
        return self.post("/instances", file.read_bytes())["ID"]

    def send(self, server: str, resources: Sequence[str]) -> Any:
        """Let it send instances (series, studies) to a configured server by STOW-RS."""
        body = {"Resources": list(resources), "Synchronous": True}
        return self.post(f"/dicom-web/servers/{server}/stow", body)

    def store(self, modality: str, resources: Sequence[str]) -> Any:
        """Let it send instances to a configured modality by C-STORE."""
        return self.post(f"/modalities/{modality}/store", list(resources))


@contextmanager
def running_orthanc(
    folder: Path,
    *,
    servers: Mapping[str, Any] | None = None,
    modalities: Mapping[str, tuple[str, str, int]] | None = None,
    plugins: Sequence[str] = ("OrthancDicomWeb",),
    **configuration: Any,
) -> Iterator[Orthanc]:
    """Start Orthanc and stop it at the end. Raises OrthancMissing where it is not installed.

    servers: DICOMweb servers that it may send to, as in its documentation.
    modalities: {name: (AE title, host, port)} that it may send to by C-STORE.
    configuration: more of its options (`HttpThreadsCount=50`).
    """
    libraries = _require(plugins)
    folder = folder / "orthanc"
    folder.mkdir(parents=True, exist_ok=True)
    port, dicom_port = _free_ports()
    options = {
        "Name": "partner",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(library) for library in libraries],
        "HttpPort": port,
        "DicomPort": dicom_port,
        "DicomAet": Orthanc.aet,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {name: list(address) for name, address in (modalities or {}).items()},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": dict(servers or {})},
        **configuration,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(options, indent=1))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(file)], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(port, process, folder / "orthanc.log")
        yield Orthanc(port, dicom_port, process, folder)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _wait(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            requests.get(f"http://127.0.0.1:{port}/system", timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-4000:]}")
