"""What was found in a delivery: slides to take in, files to refuse, and the limits used.

These travel as JSON from the examining child process to the intake, so they hold plain
values only. Nothing here imports a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


class _Plain:
    """Dataclass to plain JSON values and back."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values that `json.dumps` takes."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the object that `to_json` described; unknown keys are left out."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class FoundInstance(_Plain):
    """One DICOM SOP instance.

    Attributes
    ----------
    flavor
        `volume`, `thumbnail`, `label` or `overview` (PS3.3 C.8.12.4.1.1, ImageType value 3).
    file
        Path relative to the examined folder.
    total_columns, total_rows
        Size of the total pixel matrix in pixels of this instance's own level.
    metadata, frame_table
        Base64 of `cases.wsi.metadata.metadata_parts` and of the packed
        `cases.wsi.frames.FrameTable`; empty when too large to travel: made on demand then.
    attributes
        What `cases.wsi.attributes.searchable` keeps of the header.
    """

    sop_instance_uid: str
    sha256: str
    flavor: str
    file: str
    size_bytes: int
    total_columns: int
    total_rows: int
    frame_count: int
    transfer_syntax_uid: str
    metadata: str = ""
    frame_table: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundSlide(_Plain):
    """One slide: a DICOM series or a vendor's file with what belongs to it.

    Attributes
    ----------
    key
        Tells the slide apart within its delivery (at most 200 characters).
    name
        The file or series as people know it.
    files
        Paths relative to the examined folder, sorted; all of them belong to the slide.
    main_file
        What to open: the vendor's file. Empty for a DICOM series (its folder is opened).
    content_sha256
        Of the file; of a series or folder: sha256 over the sorted hex sha256 of its files.
    width_l0, height_l0
        Level-0 pixels.
    mpp
        Micrometres per level-0 pixel, geometric mean of both axes; None when the file says
        nothing that it could be taken from. `mpp_source` is then empty.
    scanned_at, birth_date
        ISO texts, empty when unknown. `scanned_at` carries no zone unless the file gives one.
    lacks
        Code of what is missing to make a slide of it, of a series that came in pieces: then
        its size and levels are 0.
    """

    key: str
    name: str
    files: tuple[str, ...]
    main_file: str
    source_format: str
    vendor: str
    content_sha256: str
    size_bytes: int
    width_l0: int
    height_l0: int
    level_count: int
    mpp: float | None = None
    mpp_source: str = ""
    objective_power: float | None = None
    scanner: str = ""
    scanned_at: str = ""
    is_fluorescence: bool = False
    has_label_image: bool = False
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    lacks: str = ""
    instances: tuple[FoundInstance, ...] = ()
    mrn: str = ""
    mrn_issuer: str = ""
    family_name: str = ""
    given_name: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    accession_issuer: str = ""
    organ: str = ""
    stain: str = ""
    container_id: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the slide that `to_json` described."""
        plain = dict(values)
        plain["files"] = tuple(plain["files"])
        plain["instances"] = tuple(
            FoundInstance.from_json(instance) for instance in plain.get("instances", ())
        )
        return super().from_json(plain)


@dataclass(frozen=True)
class RefusedFile(_Plain):
    """A file, archive entry or series that is not taken in; `code` as in cases.wsi.errors."""

    key: str
    name: str
    code: str
    message: str


@dataclass(frozen=True)
class Delivery(_Plain):
    """All that one folder held."""

    slides: tuple[FoundSlide, ...] = ()
    refused: tuple[RefusedFile, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the delivery that `to_json` described."""
        return cls(
            slides=tuple(FoundSlide.from_json(slide) for slide in values["slides"]),
            refused=tuple(RefusedFile.from_json(refused) for refused in values["refused"]),
        )


@dataclass(frozen=True)
class Limits(_Plain):
    """What a delivery may hold at most.

    Attributes
    ----------
    max_unpacked_bytes, max_files
        Of all archives of the delivery together; `max_files` also counts plain files.
    room_bytes
        What the disk has for unpacking now: more is `no_disk_space`, not a bomb.
    max_zip_ratio
        Unpacked over packed size of one archive. Slides are compressed images already, so
        an honest archive stays near 1; uncompressed label images may reach some tens.
    max_side, max_pixels
        Of level 0. A 50 x 75 mm slide at 0.1 um per pixel has 500,000 x 750,000.
    max_instance_header_bytes
        DICOM files are read up to their pixel data; a header larger than this is refused.
    keeps_pieces
        A DICOM series that is not whole yet is found (`FoundSlide.lacks`), not refused.
    """

    max_unpacked_bytes: int = 200 * 2**30
    max_files: int = 20_000
    room_bytes: int = 2**62
    max_zip_ratio: float = 100.0
    max_side: int = 2_000_000
    max_pixels: int = 400_000_000_000
    max_instance_header_bytes: int = 256 * 2**20
    keeps_pieces: bool = False
