"""How fast slides come in by C-STORE: our receiver beside Orthanc, from the same storescu.

    python -m benchmarks.dimse [--megabytes 500] [--files 8] [--rounds 3] [--associations 1 4]

dcmtk's storescu sends the same DICOM files to both, in turn, on loopback; MB/s counts the bytes
of the files against the wall clock of the sender, which ends with the last acknowledgement. We
acknowledge when the bytes are flushed (fsync) and the row is committed; Orthanc (its storage
on the same disk) when it has written and indexed the file. A data folder, a database and both
servers are made for it and removed again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SENDER = "BENCH"


def make_files(folder: Path, count: int, total_bytes: int) -> list[Path]:
    """Write `count` DICOM instances of about that size together, each of another series."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    from tests.synthetic_slide import make_uid, write_dicom_slide

    write_dicom_slide(folder / "one", levels=1)
    template = dcmread(next((folder / "one").iterdir()))
    frame = template.PixelData[-20_000:]
    frames = max(1, total_bytes // count // len(frame))
    files = []
    for number in range(count):
        template.SOPInstanceUID = make_uid("bench", number)
        template.SeriesInstanceUID = make_uid("bench series", number)
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        template.NumberOfFrames = frames
        noise = os.urandom(len(frame) - 2) + b"\xff\xd9"
        template.PixelData = encapsulate([noise] * frames)
        template["PixelData"].VR = "OB"
        path = folder / f"{number}.dcm"
        template.save_as(path, enforce_file_format=True)
        files.append(path)
    shutil.rmtree(folder / "one")
    return files


def send(files: list[Path], port: int, called: str, associations: int) -> float:
    """Return the seconds until every file is acknowledged, over so many associations at once."""
    shares = [files[n::associations] for n in range(associations)]
    options = ["-aet", SENDER, "-aec", called, "-R", "-xy", "--max-pdu", "131072"]

    def one(share: list[Path]) -> None:
        command = ["storescu", *options, "127.0.0.1", str(port), *map(str, share)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    began = time.perf_counter()
    with ThreadPoolExecutor(associations) as pool:
        list(pool.map(one, [share for share in shares if share]))
    return time.perf_counter() - began


def prepare() -> None:
    """Make database and peer."""
    import django

    django.setup()
    from django.core.management import call_command

    from cases.models import DicomPeer
    from tests.factories import DepartmentFactory

    call_command("migrate", verbosity=0)
    department = DepartmentFactory(code="bench")
    DicomPeer.objects.create(ae_title=SENDER, address="127.0.0.1", department=department)


def clear() -> None:
    """Forget what was received: the next round sends the same instances."""
    from cases.models import SlideUpload
    from cases.services import store

    for upload in SlideUpload.objects.all():
        store.remove(store.spool_folder(upload.pk))
    SlideUpload.objects.all().delete()


def run(megabytes: int, count: int, rounds: int, associations: list[int], folder: Path) -> dict:
    """Return the numbers of the whole run."""
    from tests.live_site import free_port
    from tests.partners.orthanc import running_orthanc

    prepare()
    files = make_files(folder / "files", count, megabytes * 10**6)
    size = sum(file.stat().st_size for file in files)
    port = free_port()
    environment = {**os.environ, "PATHSEARCH_DICOM_PORT": str(port)}
    receiver = subprocess.Popen(
        [sys.executable, "manage.py", "dicom_scp"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    result = {"files": count, "megabytes": round(size / 1e6), "cores": os.cpu_count()}
    try:
        assert receiver.stdout is not None
        receiver.stdout.readline()
        with running_orthanc(folder, OverwriteInstances=True) as orthanc:
            for many in associations:
                ours, theirs = [], []
                for _round in range(rounds):
                    ours.append(send(files, port, "PATHSEARCH", many))
                    clear()
                    theirs.append(send(files, orthanc.dicom_port, "ORTHANC", many))
                    for study in orthanc.get("/studies"):
                        _delete(orthanc.url, study)
                best = {"pathsearch": min(ours), "orthanc": min(theirs)}
                result[f"{many} associations, MB/s"] = {
                    name: round(size / 1e6 / seconds, 1) for name, seconds in best.items()
                } | {"ratio": round(best["orthanc"] / best["pathsearch"], 2)}
    finally:
        receiver.terminate()
        receiver.wait(timeout=60)
    return result


def _delete(url: str, study: str) -> None:
    import requests

    requests.delete(f"{url}/studies/{study}", timeout=600).raise_for_status()


def main() -> None:
    """Measure in a data folder, with a database, that are thrown away afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="the best of each counts")
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    for program in ("storescu", "Orthanc"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    from pathsearch_site import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="pathsearch-bench-") as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.development")
        os.environ["PATHSEARCH_DATA_DIR"] = str(Path(folder) / "data")
        os.environ["PATHSEARCH_DISK_RESERVE_GB"] = "0"
        os.environ["PATHSEARCH_DICOM_QUIET_SECONDS"] = "3600"
        os.environ["PATHSEARCH_LOG_LEVEL"] = "WARNING"
        (Path(folder) / "data").mkdir()
        os.environ.pop("DATABASE_URL", None)
        embedded_postgres.ensure_database_url()
        try:
            result = run(
                options.megabytes, options.files, options.rounds, options.associations, Path(folder)
            )
            print(json.dumps(result, indent=2))
        finally:
            from django.db import connections

            connections.close_all()
            embedded_postgres.stop()


if __name__ == "__main__":
    main()
