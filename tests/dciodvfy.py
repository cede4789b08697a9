"""Debian's dciodvfy (dicom3tools) on DICOM files: no errors, and only warnings that are known."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Each with its reason; docs/dicom-conformance.md lists them too.
TOLERATED = (
    # The tool looks for the coordinate type in the group, where it never is, and then reports
    # an attribute that is not there; the tests check that it is not.
    r"Only valid for AnnotationCoordinateType of 3D - attribute <CommonZCoordinateValue> = <>",
    # Type 2 and empty, as de-identification leaves it; says only that no DICOMDIR can be built.
    r"Missing attribute or value that would be needed to build DICOMDIR",
    # A pseudonym has no family and given name.
    r"Value dubious for this VR - \(0x0010,0x0010\) PN .* Retired Person Name form",
    # PS3.3 C.8.32.2 has QUANTITY; this release of the tool does not know it.
    r"Unrecognized defined term <QUANTITY>",
    # Ours; the object identifies it in its Coding Scheme Identification Sequence.
    r"Unrecognized defined term <99PATHSEARCH>",
    # Copied from the image, which the tool's table of this young IOD does not foresee.
    r"Attribute is not present in standard DICOM IOD",
    r"Dicom dataset contains attributes not present in standard DICOM IOD",
)


def complaints(file: Path) -> list[str]:
    """Return what the tool says of a file beyond the tolerated; skips where it is missing."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    done = subprocess.run([tool, str(file)], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    found = [line for line in lines if re.match(r"\s*(Error|Warning|Abort)", line)]
    return [line for line in found if not any(re.search(known, line) for known in TOLERATED)]


def kind_of(file: Path) -> str:
    """Return the IOD that the tool takes the file for."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    done = subprocess.run([tool, str(file)], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    return next((line for line in lines if re.fullmatch(r"\w+", line)), "")
