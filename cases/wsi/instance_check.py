"""Checks DICOM instances in a process that may die: what a store tells its sender at once.

As a program (`python -m cases.wsi.instance_check`) it is the server of cases.wsi.warm_sandbox: it
imports the decoders once and forks a child for each job, with little memory and time. A job is
a socket: one path per line comes, one JSON line per path goes back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cases.wsi.delivery import Limits
from cases.wsi.dicom import SERIES_UID, read_header
from cases.wsi.errors import CorruptError, ParseMemoryError, WsiError
from cases.wsi.instance_facts import InstanceFacts
from cases.wsi.reader import is_dicom
from cases.wsi.values import clean_text

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
MAX_LINE_BYTES = 8192


def check_instance(path: Path, limits: Limits) -> InstanceFacts:
    """Return what the instance is, and whether it can be a part of a slide.

    The header is parsed whole and the pixel data walked over, not decoded.
    """
    try:
        if not is_dicom(path):
            return InstanceFacts(code="not_dicom", message="This is no DICOM file.")
        return _facts(read_header(path, limits).dataset)
    except MemoryError:
        return _refused(path, ParseMemoryError())
    except WsiError as error:
        return _refused(path, error)
    except Exception:  # a parser may raise anything on a broken file
        return _refused(path, CorruptError("The DICOM header cannot be read."))


def _refused(path: Path, error: WsiError) -> InstanceFacts:
    """Return why the instance is refused, with as much of its identity as can be read."""
    try:
        facts = _identifiers(path)
    except Exception:  # MemoryError, too: the reason is known already
        facts = InstanceFacts()
    if facts.code:
        return facts
    return replace(facts, code=error.code, message=error.message)


def _identifiers(path: Path) -> InstanceFacts:
    """Return the identifiers, which lie before anything large. Raises on a broken header."""
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # A deflated dataset would be inflated whole; it is refused for what it is.
        return _facts(meta, ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", *_NAMES[2:]))
    with path.open("rb") as file:
        return _facts(read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES_UID))


def _facts(head: Dataset, names: tuple[str, ...] = _NAMES) -> InstanceFacts:
    """Return the identifiers of a dataset, refused where one of its UIDs is none."""
    texts = [str(head.get(name) or "") for name in names]
    uids = [text if len(text) <= 64 and _UID.fullmatch(text) else "" for text in texts]
    wrong = [name for name, text, uid in zip(names, texts, uids, strict=True) if text and not uid]
    message = f"The {wrong[0]} is no UID: digits and dots, at most 64 characters." if wrong else ""
    sop_class, instance, study, series = uids
    return InstanceFacts(
        sop_class_uid=sop_class,
        sop_instance_uid=instance,
        study_instance_uid=study,
        series_instance_uid=series,
        patient_id=clean_text(head.get("PatientID"), 64),
        patient_id_issuer=clean_text(head.get("IssuerOfPatientID"), 120),
        code="invalid_uid" if wrong else "",
        message=message,
    )


def main() -> None:
    """Serve jobs until the control socket closes: orders as JSON, each with a socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children need no burial
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        data, descriptors, _flags, _address = socket.recv_fds(control, MAX_LINE_BYTES, 1)
        if not data:
            return
        if os.fork() == 0:
            control.close()
            _serve(json.loads(data), descriptors[0])
        for descriptor in descriptors:
            os.close(descriptor)


def _serve(orders: dict[str, int], descriptor: int) -> None:
    """Answer one job's paths in a forked child, which ends here."""
    try:
        memory = _address_space() + orders["memory_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux only
        with socket.socket(fileno=descriptor) as job, job.makefile("rb") as lines:
            for line in lines:
                # No handler: a file that takes too long ends this process, also inside C.
                signal.alarm(orders["seconds"])
                facts = check_instance(Path(os.fsdecode(line[:-1])), Limits())
                signal.alarm(0)
                job.sendall(json.dumps(facts.to_json()).encode() + b"\n")
    finally:
        os._exit(0)


def _address_space() -> int:
    """Return the bytes of address space in use; what the libraries take is not the file's fault."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
