"""The DICOM transfer syntaxes that slides may come in: those that can be decoded here."""

from __future__ import annotations

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from cases.wsi.wsidicom_reader import can_decode

TRANSFER_SYNTAXES: tuple[str, ...] = (
    JPEGBaseline8Bit,
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGExtended12Bit,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
"""Those that a slide may have, the commonest first."""


def readable_transfer_syntaxes() -> list[str]:
    """Return those of them for which a decoder is installed, for colour at least."""
    return [
        uid
        for uid in TRANSFER_SYNTAXES
        if any(can_decode(uid, 3, 8, photometric) for photometric in ("RGB", "YBR_RCT"))
    ]
