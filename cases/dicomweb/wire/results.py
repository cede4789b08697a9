"""The Store Instances Response (PS3.18 10.5.3): what became of each instance, and the status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

PRIVATE_CREATOR = "PATHSEARCH"

# PS3.18 Annex I.2.2 and PS3.7 Annex C. Cxxx means "cannot understand"; its last digits are ours.
FAILURE_REASONS = {
    "not_wsi_dicom": 0x0122,  # SOP class not supported
    "unsupported_transfer_syntax": 0xC122,  # transfer syntax not supported
    "unsupported_image": 0xA900,  # the dataset does not match its SOP class
    "absurd_dimensions": 0xA900,
    "sop_instance_conflict": 0x0111,  # duplicate SOP instance
    "study_mismatch": 0xC409,
    "mixed_patients": 0xC410,
    "no_disk_space": 0xA700,  # out of resources
    "parse_memory": 0xA700,
}
CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True)
class Outcome:
    """What became of one part.

    Attributes
    ----------
    code
        Empty when it is stored (or was already); else why not, with the sentence in `message`.
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid
        As far as they could be read.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    code: str = ""
    message: str = ""


def status_of(outcomes: Sequence[Outcome]) -> HTTPStatus:
    """Return 200 when all are stored, 202 when some are, 409 when none is."""
    failed = sum(1 for outcome in outcomes if outcome.code)
    if not failed:
        return HTTPStatus.OK
    return HTTPStatus.CONFLICT if failed == len(outcomes) else HTTPStatus.ACCEPTED


def response_dataset(outcomes: Sequence[Outcome], root: str) -> dict[str, Any]:
    """Return the response in the DICOM JSON model.

    A failure also carries its code and sentence as private text, for whoever reads a log.

    Parameters
    ----------
    root
        Address of the DICOMweb root, for the Retrieve URLs.
    """
    stored = [outcome for outcome in outcomes if not outcome.code]
    failed = [outcome for outcome in outcomes if outcome.code and outcome.sop_instance_uid]
    others = [outcome for outcome in outcomes if outcome.code and not outcome.sop_instance_uid]
    dataset: dict[str, Any] = {}
    studies = {outcome.study_instance_uid for outcome in stored}
    # One URL for all: where there are several studies, each instance says its own.
    if len(studies) == 1:
        dataset["00081190"] = _attribute("UR", f"{root}/studies/{studies.pop()}")
    if failed:
        dataset["00081198"] = {"vr": "SQ", "Value": [_failure(outcome) for outcome in failed]}
    if stored:
        items = [{**_reference(o), "00081190": _attribute("UR", _url(o, root))} for o in stored]
        dataset["00081199"] = {"vr": "SQ", "Value": items}
    if others:
        dataset["0008119A"] = {"vr": "SQ", "Value": [_failure(outcome) for outcome in others]}
    return dataset


def _failure(outcome: Outcome) -> dict[str, Any]:
    reason = FAILURE_REASONS.get(outcome.code, CANNOT_UNDERSTAND)
    return {
        **(_reference(outcome) if outcome.sop_instance_uid else {}),
        "00081197": _attribute("US", reason),
        "00990010": _attribute("LO", PRIVATE_CREATOR),
        "00991001": _attribute("LO", outcome.code[:64]),
        "00991002": _attribute("LT", outcome.message[:1024]),
    }


def _reference(outcome: Outcome) -> dict[str, Any]:
    return {
        "00081150": _attribute("UI", outcome.sop_class_uid),
        "00081155": _attribute("UI", outcome.sop_instance_uid),
    }


def _url(outcome: Outcome, root: str) -> str:
    return (
        f"{root}/studies/{outcome.study_instance_uid}/series/{outcome.series_instance_uid}"
        f"/instances/{outcome.sop_instance_uid}"
    )


def _attribute(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value not in ("", None) else {"vr": vr}
