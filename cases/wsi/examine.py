"""Find the slides in a folder of delivered files."""

from __future__ import annotations
from pathlib import Path
from cases.wsi.delivery import Delivery, FoundInstance, FoundSlide, Limits, RefusedFile

__all__ = ["Delivery", "FoundInstance", "FoundSlide", "Limits", "RefusedFile", "examine"]
