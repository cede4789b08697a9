"""What a store must know of a DICOM instance. Nothing here imports a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from cases.wsi.delivery import _Plain


@dataclass(frozen=True)
class InstanceFacts(_Plain):
    """What an instance says of itself; `code` and `message` say why it is refused.

    UIDs are empty where the header is broken before them or holds no UID there.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    patient_id: str = ""
    patient_id_issuer: str = ""
    code: str = ""
    message: str = ""
