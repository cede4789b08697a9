"""Other vendors' DICOM programs that the tests talk to, started on loopback and stopped again.

A test whose partner is not installed skips with the partner's name (`make partners` installs
them).
"""

import shutil

import pytest


def program(name: str, package: str = "") -> str:
    """Return the path of a program, or skip the test with the name of what is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{package or name} is not installed")
    return path
