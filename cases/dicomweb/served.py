"""What one SOP instance must be able to do to be sent over WADO-RS."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

from pydicom.dataset import Dataset

from cases.models import SlideImage, SlideInstance
from cases.wsi.frame_pixels import FrameFormat
from cases.wsi.metadata import list_text

PRIVATE_FLAVORS = frozenset((SlideInstance.Flavor.LABEL, SlideInstance.Flavor.OVERVIEW))


class DicomObject(ABC):
    """One SOP instance that can be sent.

    Attributes
    ----------
    slide_image
        The scan that it is of, with its slide and case at hand.
    flavor
        volume, thumbnail, label, overview; empty for what is no slide image.
    matrix
        Columns and rows of the whole image (total pixel matrix).
    version
        Changes whenever the bytes do: the heart of its ETags.
    """

    slide_image: SlideImage
    study_uid: str
    series_uid: str
    sop_uid: str
    flavor: str
    transfer_syntax_uid: str
    frame_count: int
    matrix: tuple[int, int]
    version: str

    @property
    def is_private(self) -> bool:
        """Return whether it may show the printed label."""
        return self.flavor in PRIVATE_FLAVORS

    @property
    def path(self) -> str:
        """Return its address below the DICOMweb root."""
        return f"/studies/{self.study_uid}/series/{self.series_uid}/instances/{self.sop_uid}"

    @abstractmethod
    def packed_metadata(self) -> bytes:
        """Return the header in the parts of `cases.wsi.metadata`."""

    @abstractmethod
    def header(self) -> Dataset:
        """Return the header, for values that are sent apart."""

    @abstractmethod
    def frame(self, number: int) -> bytes:
        """Return the bytes of a frame as they are kept. Raises IndexError."""

    def frame_size(self, number: int) -> int | None:
        """Return the bytes of a frame where they are known without reading it."""
        return None

    @property
    def size_bytes(self) -> int | None:
        """Return the length of the whole file, None when it is made while it is sent."""
        return None

    @abstractmethod
    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the file (PS3.10) in pieces, from `start` up to `end`."""

    @cached_property
    def frame_format(self) -> FrameFormat:
        """Return how the frames are coded. Raises KeyError where there are none."""
        (told,) = json.loads(list_text([self.packed_metadata()], ""))
        return FrameFormat.of_json(told, self.transfer_syntax_uid)
