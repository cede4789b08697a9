"""The child process: its limits hold, and what it dies on is named."""

import io
import os
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from cases.wsi.errors import ParseCrashError
from cases.wsi.examine import examine
from cases.wsi.sandbox import examine_in_child
from tests.synthetic_slide import picture, write_dicom_slide, write_tiff_slide

# A child whose readers misbehave on files named for it.
MISBEHAVING = """
import os, signal, sys, time
from cases.wsi import examine
honest = examine.examine_vendor_file
def reader(folder, file, limits, **rest):
    if "hang" in file:
        time.sleep(600)
    if "spin" in file:
        while True:
            pass
    if "crash" in file:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in file:
        os._exit(3)
    if "swallow" in file:
        hoard = []
        while True:
            hoard.append(bytearray(64 << 20))
    if "chatter" in file:
        print("noise on standard output", flush=True)
    return honest(folder, file, limits, **rest)
examine.examine_vendor_file = reader
examine.main()
"""


@pytest.fixture
def misbehaving(tmp_path) -> tuple[str, ...]:
    program = tmp_path / "child.py"
    program.write_text(MISBEHAVING)
    return (sys.executable, str(program))


def slides(folder: Path, *names: str) -> Path:
    for name in names:
        write_tiff_slide(folder / name, rgb=picture(300, 200), levels=1)
    return folder


def test_the_child_finds_what_the_process_itself_would(tmp_path):
    slides(tmp_path / "in", "a.tiff")
    write_dicom_slide(tmp_path / "in/d", label=True)
    (tmp_path / "in/x.txt").write_text("x")
    assert examine_in_child(tmp_path / "in") == examine(tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hang.tiff", "parse_timeout"),
        ("spin.tiff", "parse_timeout"),
        ("crash.tiff", "parse_crash"),
        ("exit.tiff", "parse_crash"),
        ("swallow.tiff", "parse_memory"),
    ],
)
def test_what_breaks_the_child_is_refused_and_the_rest_examined(tmp_path, misbehaving, name, code):
    folder = slides(tmp_path / "in", "a.tiff", name, "z.tiff")
    # Only what never ends may meet the time limit, also on a busy machine.
    patience = 8 if code == "parse_timeout" else 120
    found = examine_in_child(
        folder, memory_bytes=2**30, timeout_seconds=patience, command=misbehaving
    )
    assert [slide.name for slide in found.slides] == ["a.tiff", "z.tiff"]
    assert [(refused.name, refused.code) for refused in found.refused] == [(name, code)]


def test_several_bad_files_cost_a_child_each_and_no_more(tmp_path, misbehaving):
    folder = slides(tmp_path / "in", "a.tiff", "crash1.tiff", "crash2.tiff", "exit.tiff", "z.tiff")
    found = examine_in_child(folder, command=misbehaving)
    assert [slide.name for slide in found.slides] == ["a.tiff", "z.tiff"]
    assert [refused.code for refused in found.refused] == ["parse_crash"] * 3


def test_output_of_libraries_does_not_disturb(tmp_path, misbehaving):
    folder = slides(tmp_path / "in", "chatter.tiff")
    assert len(examine_in_child(folder, command=misbehaving).slides) == 1


def test_a_frame_that_needs_too_much_memory_is_named(tmp_path):
    """A small JPEG of 80 million pixels: real bytes, real decoder, real limit."""

    def inflate(number: int, dataset: Dataset) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (9000, 9000), "white").save(buffer, "JPEG", quality=20)
        dataset.Columns = dataset.Rows = 9000
        dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 9000
        dataset.NumberOfFrames = 1
        dataset.PixelData = encapsulate([buffer.getvalue()])

    write_dicom_slide(tmp_path / "in/big", levels=1, change=inflate)
    slides(tmp_path / "in", "a.tiff")
    found = examine_in_child(tmp_path / "in", memory_bytes=500 * 2**20)
    assert [slide.name for slide in found.slides] == ["a.tiff"]
    assert [refused.code for refused in found.refused] == ["parse_memory"]
    assert len(examine_in_child(tmp_path / "in", memory_bytes=4 * 2**30).slides) == 2


def test_a_child_that_cannot_even_start_is_a_fault_and_no_refusal(tmp_path):
    folder = slides(tmp_path / "in", "a.tiff")
    with pytest.raises(ParseCrashError):
        examine_in_child(folder, command=(sys.executable, "-c", "raise SystemExit(9)"))


def test_the_child_gets_no_secrets(tmp_path, monkeypatch, misbehaving):
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    seen = tmp_path / "seen"
    Path(misbehaving[1]).write_text(
        f"import os\nopen({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n" + MISBEHAVING
    )
    examine_in_child(slides(tmp_path / "in", "a.tiff"), command=misbehaving)
    assert "PATH" in seen.read_text()
    assert "secret" not in seen.read_text()


def test_no_child_is_left_behind(tmp_path, misbehaving):
    Path(misbehaving[1]).write_text(
        f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + MISBEHAVING
    )
    examine_in_child(slides(tmp_path / "in", "hang.tiff"), timeout_seconds=8, command=misbehaving)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the child still runs")
