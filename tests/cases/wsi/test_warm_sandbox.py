"""The warm sandbox: a file that hangs or swallows memory is named, and the others go on."""

import os
import signal
import struct

import psutil
import pytest

from cases.wsi.errors import ParseCrashError
from cases.wsi.warm_sandbox import CheckServer, InstanceChecker
from tests.synthetic_slide import write_dicom_slide


@pytest.fixture(scope="module")
def check_server():
    server = CheckServer()
    yield server
    server.stop()


@pytest.fixture
def slide(tmp_path):
    return sorted(write_dicom_slide(tmp_path / "slide").iterdir())


def facts_of(server, files, **limits):
    with InstanceChecker(server, **limits) as checker:
        for file in files:
            checker.put(file)
        return checker.facts()


def test_many_files_in_their_order(check_server, slide):
    facts = facts_of(check_server, slide * 40)
    assert [one.code for one in facts] == [""] * len(slide) * 40
    assert [one.sop_instance_uid for one in facts] == [
        one.sop_instance_uid for one in facts[: len(slide)]
    ] * 40
    assert facts[0].patient_id == "MRN-1"


def test_a_file_that_hangs_is_named_and_the_rest_goes_on(check_server, slide, tmp_path):
    endless = tmp_path / "endless"
    os.mkfifo(endless)  # reading it never returns
    facts = facts_of(check_server, [slide[0], endless, slide[1], slide[2]], seconds=1)
    assert [one.code for one in facts] == ["", "parse_crash", "", ""]


def test_a_header_that_takes_all_memory_is_named(check_server, slide, tmp_path):
    data = slide[0].read_bytes()
    position = data.index(b"\x08\x00\x16\x00UI")
    huge = tmp_path / "huge.dcm"
    element = b"\x08\x00\x01\x00UN\0\0" + struct.pack("<I", 2**31)
    huge.write_bytes(data[:position] + element)
    os.truncate(huge, 2**31 + 10**6)  # zeros that take no room on the disk
    facts = facts_of(check_server, [huge, slide[0]], memory_bytes=256 * 2**20)
    assert facts[0].code in ("parse_memory", "truncated")
    assert facts[1].code == ""


def test_a_server_that_died_is_no_fault_of_a_file_and_is_started_again(check_server, slide):
    facts_of(check_server, slide)
    process = check_server._process
    assert process is not None
    with InstanceChecker(check_server) as checker:
        checker.put(slide[0])
        checker.facts()
        for child in psutil.Process(process.pid).children():
            child.send_signal(signal.SIGSTOP)  # its answers stay away
        checker.put(slide[1])
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()
        process.wait()
        with pytest.raises(ParseCrashError):
            checker.facts()
    assert [one.code for one in facts_of(check_server, slide)] == [""] * len(slide)


def test_the_server_ends_with_its_parent_and_knows_no_secrets(slide, monkeypatch):
    monkeypatch.setenv("PATHSEARCH_SECRET_KEY", "secret")
    server = CheckServer()
    facts_of(server, slide)
    assert server._process is not None
    process = psutil.Process(server._process.pid)
    assert "PATHSEARCH_SECRET_KEY" not in process.environ()
    assert server._control is not None
    server._control.close()  # what the kernel does when the parent is gone
    assert process.wait(timeout=30) == 0
    server.stop()
