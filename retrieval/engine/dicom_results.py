"""What a model saw in a slide, as DICOM objects that other viewers show.

Microscopy Bulk Simple Annotations (PS3.3 A.87): the mosaic's regions, and the patches behind
each token. Parametric Map (PS3.3 A.75): how like its token each patch is, one pixel a patch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

FORMAT = 1
"""Counts up when the objects are written in another way, so that they get new UIDs."""

SCHEME = "99PATHSEARCH"
SHARE = Code("TISSUE_SHARE", SCHEME, "Share of the tissue")
COSINE = Code("TOKEN_COSINE", SCHEME, "Cosine similarity to the token")
TISSUE = Code("85756007", "SCT", "Tissue")
CATEGORY = Code("91723000", "SCT", "Anatomical structure")
NO_UNITS = Code("1", "UCUM", "no units")
OUTSIDE = -1.0
"""Pixel of the map where there is no patch: the least cosine there can be."""

MANUFACTURER = "PathSearch"
# What the patient, study and equipment modules need and an incomplete source may lack.
_TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class SlideResult:
    """What a model saw.

    Attributes
    ----------
    model, version
        The algorithm's name and version.
    places
        Per token ``x_l0``, ``y_l0``, ``size_l0`` and ``share`` (0 to 1) of its region.
    coords_l0 : int64 (N, 2)
        Upper left corners (x, y) of all patches in level-0 pixels; multiples of `size_l0`.
    size_l0
        Side of a patch in level-0 pixels.
    nearest : int64 (N,)
        The token that each patch belongs to.
    likeness : float32 (N,)
        Its cosine to that token, -1 to 1.
    """

    model: str
    version: str
    places: Sequence[dict[str, float]]
    coords_l0: npt.NDArray[np.int64]
    size_l0: int
    nearest: npt.NDArray[np.int64]
    likeness: npt.NDArray[np.float32]

    def digest(self) -> str:
        """Return a hash of all of it: another result is another instance."""
        found = hashlib.sha256(f"{FORMAT} {self.model} {self.version} {self.size_l0}".encode())
        found.update(repr([sorted(place.items()) for place in self.places]).encode())
        for values in (self.coords_l0, self.nearest, self.likeness):
            found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class ResultUids:
    """The UIDs of an object to be written."""

    series_instance_uid: str
    sop_instance_uid: str
    series_number: int


def _complete(source: Dataset) -> Dataset:
    """Return the source's header with the attributes that every study has, empty where missing."""
    completed = Dataset()
    completed.update(source)
    completed.file_meta = source.file_meta
    for keyword in _TYPE_2:
        if keyword not in completed:
            setattr(completed, keyword, "")
    if "ContainerIdentifier" in completed:
        for keyword in ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence"):
            if keyword not in completed:
                setattr(completed, keyword, [])
    specimens = [_copied(item) for item in completed.get("SpecimenDescriptionSequence") or []]
    for specimen in specimens:
        for keyword in ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence"):
            if keyword not in specimen:
                setattr(specimen, keyword, [])
    if specimens:
        completed.SpecimenDescriptionSequence = specimens
    return completed


def _copied(item: Dataset) -> Dataset:
    copied = Dataset()
    copied.update(item)
    return copied


def _algorithm(result: SlideResult) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=result.model,
        family=codes.cid7162.ArtificialIntelligence,
        version=result.version,
        source=MANUFACTURER,
    )


def _rectangle(x: float, y: float, size: float) -> npt.NDArray[np.float64]:
    """Return the corners of a patch, clockwise; pixel edges, so that patches touch."""
    return np.array([[x, y], [x + size, y], [x + size, y + size], [x, y + size]], np.float64)


def bulk_annotations(source: Dataset, result: SlideResult, uids: ResultUids) -> Dataset:
    """Return the regions of a slide as annotations in pixels of its finest level.

    Group 1 holds the region of each token, with the share of the tissue it stands for; the
    groups after it the patches of each token, with their likeness to it.

    Parameters
    ----------
    source
        Header of the finest VOLUME instance.
    result, uids
        What the model saw, and under which UIDs to write it.
    """
    groups = [
        _group(
            result,
            uids,
            number=1,
            label="Mosaic regions",
            boxes=[_rectangle(p["x_l0"], p["y_l0"], p["size_l0"]) for p in result.places],
            measured=(SHARE, np.array([p["share"] for p in result.places], np.float32)),
        )
    ]
    for token in range(len(result.places)):
        members = np.flatnonzero(result.nearest == token)
        if not len(members):
            continue
        groups.append(
            _group(
                result,
                uids,
                number=len(groups) + 1,
                label=f"Patches of token {token + 1}",
                boxes=[
                    _rectangle(float(x), float(y), result.size_l0)
                    for x, y in result.coords_l0[members]
                ],
                measured=(COSINE, result.likeness[members].astype(np.float32)),
            )
        )
    made = hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[_complete(source)],
        annotation_coordinate_type=hd.ann.AnnotationCoordinateTypeValues.SCOORD,
        annotation_groups=groups,
        content_label="MOSAIC",
        content_description="Regions that a model took as the mosaic of the slide",
        **_common(result, uids),
    )
    return _described(made, f"Mosaic by {result.model}")


def _group(
    result: SlideResult,
    uids: ResultUids,
    *,
    number: int,
    label: str,
    boxes: list[npt.NDArray[np.float64]],
    measured: tuple[Code, npt.NDArray[np.float32]],
) -> hd.ann.AnnotationGroup:
    name, values = measured
    return hd.ann.AnnotationGroup(
        number=number,
        uid=_part_uid(uids, label),
        label=label,
        annotated_property_category=CATEGORY,
        annotated_property_type=TISSUE,
        graphic_type=hd.ann.GraphicTypeValues.RECTANGLE,
        graphic_data=boxes,
        algorithm_type=hd.ann.AnnotationGroupGenerationTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(result),
        measurements=[hd.ann.Measurements(name=name, values=values, unit=NO_UNITS)],
    )


def _part_uid(uids: ResultUids, label: str) -> str:
    digest = bytearray(hashlib.sha256(f"{uids.sop_instance_uid}/{label}".encode()).digest()[:16])
    digest[6], digest[8] = 0x80 | digest[6] & 0x0F, 0x80 | digest[8] & 0x3F
    return f"2.25.{int.from_bytes(digest, 'big')}"


def likeness_map(source: Dataset, result: SlideResult, uids: ResultUids) -> Dataset:
    """Return a Parametric Map of one pixel a patch: its cosine to its token.

    The map lies on the slide as the source does: same frame of reference, orientation and
    origin, with pixels of the size of a patch. Where there is no patch it says `OUTSIDE`.

    Parameters
    ----------
    source
        Header of the finest VOLUME instance, with pixel spacing and origin.

    Raises
    ------
    ValueError
        When the source does not say where it lies or how large its pixels are.
    """
    completed = _complete(source)
    spacing, orientation, origin = _geometry(completed)
    columns = max(1, int(source.TotalPixelMatrixColumns) // result.size_l0)
    rows = max(1, int(source.TotalPixelMatrixRows) // result.size_l0)
    values = np.full((1, rows, columns), OUTSIDE, np.float32)
    at = result.coords_l0 // result.size_l0
    values[0, at[:, 1], at[:, 0]] = result.likeness
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="COSINE",
        lut_explanation="Cosine similarity of a patch to its mosaic token",
        unit=NO_UNITS,
        value_range=(-1.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=COSINE,
    )
    made = hd.pm.ParametricMap(
        source_images=[completed],
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        pixel_measures=hd.PixelMeasuresSequence(
            [value * result.size_l0 for value in spacing], slice_thickness=0.001
        ),
        plane_orientation=hd.PlaneOrientationSequence("SLIDE", orientation),
        plane_positions=[hd.PlanePositionSequence("SLIDE", origin, (1, 1))],
        tile_pixel_array=True,
        tile_size=(rows, columns),
        content_label="LIKENESS",
        content_description="How like its mosaic token each patch is",
        **_common(result, uids),
    )
    made.DerivationDescription = (
        f"{result.model}, version {result.version}. One pixel is one patch; {OUTSIDE:g} is none."
    )
    return _described(made, f"Likeness by {result.model}")


def _common(result: SlideResult, uids: ResultUids) -> dict[str, Any]:
    return {
        "series_instance_uid": uids.series_instance_uid,
        "series_number": uids.series_number,
        "sop_instance_uid": uids.sop_instance_uid,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": result.model[:64],
        "software_versions": result.version[:64],
        "device_serial_number": "1",
    }


def _described(made: Any, description: str) -> Dataset:
    made.SeriesDescription = description[:64]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Measurements of PathSearch"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    made.CodingSchemeIdentificationSequence = [scheme]
    result: Dataset = made
    return result


def _geometry(source: Dataset) -> tuple[list[float], list[float], tuple[float, float, float]]:
    """Return pixel spacing in mm (rows, columns), orientation, and origin in mm."""
    try:
        groups = source.SharedFunctionalGroupsSequence[0]
        spacing = [float(value) for value in groups.PixelMeasuresSequence[0].PixelSpacing]
        orientation = [float(value) for value in source.ImageOrientationSlide]
        place = source.TotalPixelMatrixOriginSequence[0]
        origin = (
            float(place.XOffsetInSlideCoordinateSystem),
            float(place.YOffsetInSlideCoordinateSystem),
            float(place.get("ZOffsetInSlideCoordinateSystem") or 0.0),
        )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError("the slide does not say where its pixels lie") from error
    return spacing, orientation, origin
