"""docs/intake.md names every reason that intake can give."""

import re
from pathlib import Path

import pytest

from cases.errors import InsufficientStorage
from cases.services import intake, matching, processing
from cases.views.unmatched import REASONS
from cases.wsi import errors

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "intake.md").read_text(encoding="utf-8")

CODES = {
    *(
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.WsiError)
        and kind is not errors.WsiError
    ),
    *(code for code, _label in REASONS),
    matching.MPP_MISSING,
    intake.ALREADY_HERE,
    intake.ALREADY_WAITING,
    intake.SOP_INSTANCE_CONFLICT,
    processing.CHECKSUM_MISMATCH,
    processing.NOTHING_FOUND,
    InsufficientStorage.code,
    *re.findall(
        r'^    code = "(\w+)"',
        "".join(
            (ROOT / "cases" / "services" / f"{name}.py").read_text(encoding="utf-8")
            for name in ("receive", "reconcile")
        ),
        re.MULTILINE,
    ),
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_reason_is_explained(code):
    assert f"`{code}`" in DOCUMENT
