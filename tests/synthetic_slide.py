"""Writes tiny slides: a DICOM WSI series with pydicom and Pillow, a pyramidal TIFF.

    folder = write_dicom_slide(tmp_path / "slide", patient_id="M1", accession_number="S26-1")
    file = write_tiff_slide(tmp_path / "slide.tiff", mpp=None)

Pictures are made from a seed, so that two calls with one seed show the same tissue.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
)

ROOT_UID = "1.2.826.0.1.3680043.10.9999"
TILE = 256


def make_uid(*parts: object) -> str:
    """Return a UID that depends on the parts alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return f"{ROOT_UID}.{int.from_bytes(digest[:12], 'big')}"


def picture(width: int = 1024, height: int = 768, seed: int = 0) -> np.ndarray:
    """Return uint8 (height, width, 3): purple nuclei in pink tissue on white glass."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.full((height, width, 3), 244, np.float32)
    reach = np.hypot((x - width / 2) / (width * 0.4), (y - height / 2) / (height * 0.4))
    waves = 0.12 * np.sin(x / 23 + seed) * np.cos(y / 31)
    rgb[reach + waves < 1] = (228, 172, 200)
    for _ in range(width * height // 1600):
        cx, cy = random.uniform(0.15, 0.85, 2) * (width, height)
        radius = random.uniform(4, 8)
        x0, x1 = int(max(0, cx - radius)), int(min(width, cx + radius + 1))
        y0, y1 = int(max(0, cy - radius)), int(min(height, cy + radius + 1))
        near = np.hypot(x[y0:y1, x0:x1] - cx, y[y0:y1, x0:x1] - cy) < radius
        rgb[y0:y1, x0:x1][near & (reach[y0:y1, x0:x1] < 0.95)] = (96, 62, 138)
    rgb += random.normal(0, 3, rgb.shape)
    return rgb.clip(0, 255).astype(np.uint8)


def pyramid(rgb: np.ndarray, levels: int) -> list[np.ndarray]:
    """Return the picture and its halvings."""
    result = [rgb]
    for _ in range(levels - 1):
        image = Image.fromarray(result[-1])
        result.append(np.array(image.reduce(2)))
    return result


def write_dicom_slide(
    folder: Path,
    *,
    rgb: np.ndarray | None = None,
    seed: int = 0,
    levels: int = 3,
    mpp: float | None = 0.5,
    patient_id: str = "MRN-1",
    patient_issuer: str = "hospital",
    patient_name: str = "Doe^Jane",
    birth_date: str = "19500102",
    sex: str = "F",
    accession_number: str = "S26-1",
    accession_issuer: str = "lis",
    organ: str = "Lung",
    stain: str = "H&E",
    container_id: str = "SLIDE-1",
    objective_power: float | None = 20.0,
    study_uid: str | None = None,
    series_uid: str | None = None,
    label: bool = False,
    jpeg: bool = True,
    change: Callable[[int, Dataset], None] | None = None,
) -> Path:
    """Write a DICOM series, one file per level, and return its folder.

    Parameters
    ----------
    rgb, seed
        The picture of level 0; without one, it is made from the seed.
    levels
        Pyramid levels, each half of the one before.
    mpp
        Micrometres per level-0 pixel; None leaves the spacing out.
    patient_id ... container_id
        Header values; empty ones are left out.
    study_uid, series_uid
        Made from the seed and the accession number when not given.
    label
        Also write a LABEL instance.
    jpeg
        JPEG baseline frames, else uncompressed.
    change
        Called with (number, dataset) before each instance is written; number -1 is the label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if rgb is None:
        rgb = picture(seed=seed)
    identity = (seed, accession_number, patient_id, rgb.shape)
    study = study_uid or make_uid("study", *identity)
    series = series_uid or make_uid("series", *identity)
    planes = [(number, image, "VOLUME") for number, image in enumerate(pyramid(rgb, levels))]
    if label:
        planes.append((-1, picture(200, 160, seed=99), "LABEL"))
    for number, image, flavor in planes:
        dataset = _instance(image, flavor, None if flavor == "LABEL" else mpp, number, jpeg)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = make_uid("instance", series, number)
        dataset.FrameOfReferenceUID = make_uid("frame", series)
        _describe_patient(dataset, patient_id, patient_issuer, patient_name, birth_date, sex)
        _describe_case(dataset, accession_number, accession_issuer, container_id)
        _describe_specimen(dataset, organ, stain)
        if objective_power:
            dataset.OpticalPathSequence[0].ObjectiveLensPower = objective_power
        if change is not None:
            change(number, dataset)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        name = "label.dcm" if number < 0 else f"level-{number}.dcm"
        dataset.save_as(folder / name, enforce_file_format=True)
    return folder


def _instance(
    image: np.ndarray, flavor: str, mpp: float | None, number: int, jpeg: bool
) -> FileDataset:
    height, width = image.shape[:2]
    tile_width, tile_height = (width, height) if flavor == "LABEL" else (TILE, TILE)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian)
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    resampled = "RESAMPLED" if number > 0 else "NONE"
    dataset.ImageType = ["DERIVED" if number > 0 else "ORIGINAL", "PRIMARY", flavor, resampled]
    dataset.Modality = "SM"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Example", "Scanner 1"
    dataset.AcquisitionDateTime = "20260102030405"
    dataset.ContentDate, dataset.ContentTime = "20260102", "030405"
    dataset.InstanceNumber = number + 2
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.VolumetricProperties = "VOLUME"
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.Columns, dataset.Rows = tile_width, tile_height
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = width, height
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.NumberOfOpticalPaths = 1
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.TotalPixelMatrixOriginSequence = Sequence([_origin()])
    dataset.SpecimenLabelInImage = "YES" if flavor == "LABEL" else "NO"
    dataset.BurnedInAnnotation = dataset.SpecimenLabelInImage
    dataset.LossyImageCompression = "01" if jpeg else "00"
    dataset.OpticalPathSequence = Sequence([_optical_path()])
    shared = Dataset()
    if mpp is not None:
        spacing = round(mpp / 1000 * 2**number, 10)
        measures = Dataset()
        measures.PixelSpacing = [spacing, spacing]
        measures.SliceThickness = 0.001
        shared.PixelMeasuresSequence = Sequence([measures])
        dataset.ImagedVolumeWidth = width * spacing
        dataset.ImagedVolumeHeight = height * spacing
        dataset.ImagedVolumeDepth = 0.001
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = _frames(image, tile_width, tile_height, jpeg)
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = encapsulate(frames) if jpeg else b"".join(frames)
    dataset["PixelData"].VR = "OB"
    return dataset


def _origin() -> Dataset:
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = 20.0
    origin.YOffsetInSlideCoordinateSystem = 40.0
    return origin


def _optical_path() -> Dataset:
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    path.IlluminationTypeCodeSequence = Sequence(
        [_code("111744", "DCM", "Brightfield illumination")]
    )
    return path


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _frames(image: np.ndarray, tile_width: int, tile_height: int, jpeg: bool) -> list[bytes]:
    """Return the tiles row by row, the last ones filled up with white."""
    height, width = image.shape[:2]
    frames = []
    for row in range(math.ceil(height / tile_height)):
        for column in range(math.ceil(width / tile_width)):
            tile = np.full((tile_height, tile_width, 3), 255, np.uint8)
            part = image[
                row * tile_height : (row + 1) * tile_height,
                column * tile_width : (column + 1) * tile_width,
            ]
            tile[: part.shape[0], : part.shape[1]] = part
            if jpeg:
                buffer = io.BytesIO()
                Image.fromarray(tile).save(buffer, "JPEG", quality=90)
                frames.append(buffer.getvalue())
            else:
                frames.append(tile.tobytes())
    return frames


def _describe_patient(
    dataset: Dataset, patient_id: str, issuer: str, name: str, birth_date: str, sex: str
) -> None:
    dataset.PatientID, dataset.PatientName = patient_id, name
    dataset.PatientBirthDate, dataset.PatientSex = birth_date, sex
    if issuer:
        dataset.IssuerOfPatientID = issuer


def _describe_case(dataset: Dataset, accession: str, issuer: str, container_id: str) -> None:
    dataset.AccessionNumber = accession
    if issuer:
        entity = Dataset()
        entity.LocalNamespaceEntityID = issuer
        dataset.IssuerOfAccessionNumberSequence = Sequence([entity])
    dataset.ContainerIdentifier = container_id


def _describe_specimen(dataset: Dataset, organ: str, stain: str) -> None:
    specimen = Dataset()
    specimen.SpecimenIdentifier = "A"
    specimen.SpecimenUID = make_uid("specimen", organ, stain)
    if organ:
        specimen.PrimaryAnatomicStructureSequence = Sequence([_code("0", "SCT", organ)])
    step = Dataset()
    step.SpecimenPreparationStepContentItemSequence = Sequence(
        [
            _content_item(("111701", "DCM", "Processing type"), ("127790008", "SCT", "Staining")),
            *(
                _content_item(("424361007", "SCT", "Using substance"), ("0", "SCT", substance))
                for substance in _substances(stain)
            ),
        ]
    )
    specimen.SpecimenPreparationSequence = Sequence([step])
    dataset.SpecimenDescriptionSequence = Sequence([specimen])


def _substances(stain: str) -> list[str]:
    if stain == "H&E":
        return ["hematoxylin stain", "water soluble eosin stain"]
    return [stain] if stain else []


def _content_item(concept: tuple[str, str, str], value: tuple[str, str, str]) -> Dataset:
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = Sequence([_code(*concept)])
    item.ConceptCodeSequence = Sequence([_code(*value)])
    return item


def write_tiff_slide(
    file: Path,
    *,
    rgb: np.ndarray | None = None,
    seed: int = 0,
    levels: int = 3,
    mpp: float | None = 0.5,
    description: str | None = None,
    compression: str | None = None,
) -> Path:
    """Write a tiled pyramidal TIFF and return it.

    Parameters
    ----------
    mpp
        Micrometres per level-0 pixel in the resolution tags; None leaves them unset.
    description
        ImageDescription; one that begins with `Aperio` makes OpenSlide read it as SVS.
    compression
        tifffile's name of a codec; None leaves the tiles as they are.
    """
    if rgb is None:
        rgb = picture(seed=seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"photometric": "rgb", "tile": (TILE, TILE), "compression": compression}
    with tifffile.TiffWriter(file) as tiff:
        for number, image in enumerate(pyramid(rgb, levels)):
            resolution = {}
            if mpp is not None:
                dots = 10_000 / (mpp * 2**number)
                resolution = {"resolution": (dots, dots), "resolutionunit": "CENTIMETER"}
            tiff.write(
                image,
                subfiletype=1 if number else 0,
                description=description if number == 0 else None,
                metadata=None,
                **options,
                **resolution,
            )
    return file
