"""Writes a DICOM whole-slide series with pydicom alone.

VL Whole Slide Microscopy Image IOD (PS3.3 A.32.8): one instance per level, TILED_FULL, JPEG
baseline, and a label image.
"""

import hashlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

from cases.demo.pyramid import Level, jpeg

MANUFACTURER = "PathSearch demo generator (synthetic)"
_NAMESPACE = uuid.UUID("8a0e6f0c-3a9a-4b57-9d15-62a1a5c1a1f4")
_SLIDE = Code("433466003", "SCT", "Microscope slide")
_BRIGHTFIELD = Code("111744", "DCM", "Brightfield illumination")
_WHITE = Code("371251000", "SCT", "White color")
_STAINING = Code("127790008", "SCT", "Staining")
_PROCESSING_TYPE = Code("111701", "DCM", "Processing type")
_USING = Code("424361007", "SCT", "Using substance")
_STAINS = (
    Code("12710003", "SCT", "hematoxylin stain"),
    Code("36879007", "SCT", "water soluble eosin stain"),
)
ORGANS = {
    "Lung": Code("39607008", "SCT", "Lung"),
    "Colon": Code("71854001", "SCT", "Colon"),
    "Breast": Code("76752008", "SCT", "Breast"),
    "Lymph node": Code("59441001", "SCT", "Lymph node"),
}


@dataclass(frozen=True)
class SlideHeader:
    """What the headers say beside the pixels. Dates are YYYYMMDD."""

    mrn: str
    mrn_issuer: str
    family_name: str
    given_name: str
    birth_date: str
    sex: str
    accession_number: str
    accession_issuer: str
    container_id: str
    specimen_id: str
    organ: str
    scanned_on: str
    scanner: str
    mpp: float


def stable_uid(*parts: str) -> str:
    """Return a UID (2.25 form) that is the same for the same parts."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def write_series(folder: Path, levels: Sequence[Level], header: SlideHeader) -> None:
    """Write level and label instances into the folder.

    UIDs follow from the content: the same slide made again is the same series, other pixels
    are another one.
    """
    digest = hashlib.sha256(b"".join(levels[0].tiles)).hexdigest()
    series = stable_uid("series", header.accession_number, header.container_id, digest)
    for number, level in enumerate(levels):
        flavor = ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", "VOLUME"]
        flavor.append("NONE" if number == 0 else "RESAMPLED")
        mpp = header.mpp * levels[0].width / level.width
        dataset = _instance(header, series, number + 1, flavor)
        _pixels(dataset, level, mpp)
        _save(dataset, folder / f"level-{number}.dcm")
    label = _label(header)
    dataset = _instance(header, series, len(levels) + 1, ["ORIGINAL", "PRIMARY", "LABEL", "NONE"])
    height, width = label.shape[:2]
    side = Level(width, height, max(width, height), [jpeg(label, 90)])
    _pixels(dataset, side, 50.0, (width, height))
    dataset.BarcodeValue = header.container_id
    dataset.LabelText = "\n".join(_label_lines(header))
    _save(dataset, folder / "label.dcm")


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _sequence(*items: Dataset) -> DicomSequence:
    return DicomSequence(items)


def _issuer(name: str) -> DicomSequence:
    item = Dataset()
    item.LocalNamespaceEntityID = name
    return _sequence(item)


def _instance(header: SlideHeader, series: str, number: int, flavor: list[str]) -> Dataset:
    """Return the dataset of an instance without its pixels."""
    d = Dataset()
    is_label = flavor[2] == "LABEL"
    d.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    d.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    d.SOPInstanceUID = stable_uid("instance", series, str(number))
    d.PatientName = f"{header.family_name}^{header.given_name}"
    d.PatientID = header.mrn
    d.IssuerOfPatientID = header.mrn_issuer
    d.PatientBirthDate = header.birth_date
    d.PatientSex = header.sex
    d.StudyInstanceUID = stable_uid("study", header.accession_issuer, header.accession_number)
    d.StudyDate = header.scanned_on
    d.StudyTime = "080000"
    d.StudyID = header.accession_number[:16]
    d.ReferringPhysicianName = ""
    d.AccessionNumber = header.accession_number
    d.IssuerOfAccessionNumberSequence = _issuer(header.accession_issuer)
    d.Modality = "SM"
    d.SeriesInstanceUID = series
    d.SeriesNumber = 1
    d.FrameOfReferenceUID = stable_uid("frame of reference", series)
    d.PositionReferenceIndicator = "SLIDE_CORNER"
    d.Manufacturer = MANUFACTURER
    d.ManufacturerModelName = header.scanner
    d.DeviceSerialNumber = "0"
    d.SoftwareVersions = "1"
    d.InstanceNumber = number
    d.ContentDate = d.AcquisitionDate = header.scanned_on
    d.ContentTime = d.AcquisitionTime = "090000"
    d.AcquisitionDateTime = header.scanned_on + "090000"
    d.ImageType = flavor
    d.VolumetricProperties = "VOLUME"
    d.SpecimenLabelInImage = "YES" if is_label else "NO"
    d.BurnedInAnnotation = "YES" if is_label else "NO"
    d.FocusMethod = "AUTO"
    d.ExtendedDepthOfField = "NO"
    d.AcquisitionContextSequence = _sequence()
    _specimen(d, header)
    return d


def _specimen(d: Dataset, header: SlideHeader) -> None:
    d.ContainerIdentifier = header.container_id
    d.IssuerOfTheContainerIdentifierSequence = _sequence()
    d.ContainerTypeCodeSequence = _sequence(_coded(_SLIDE))
    specimen = Dataset()
    specimen.SpecimenIdentifier = header.specimen_id
    specimen.IssuerOfTheSpecimenIdentifierSequence = _sequence()
    specimen.SpecimenUID = stable_uid("specimen", header.accession_number, header.container_id)
    steps = [_content("CODE", _PROCESSING_TYPE, _STAINING)]
    steps += [_content("CODE", _USING, stain) for stain in _STAINS]
    preparation = Dataset()
    preparation.SpecimenPreparationStepContentItemSequence = _sequence(*steps)
    specimen.SpecimenPreparationSequence = _sequence(preparation)
    specimen.PrimaryAnatomicStructureSequence = _sequence(_coded(ORGANS[header.organ]))
    specimen.SpecimenShortDescription = f"{header.organ}, H&E"
    d.SpecimenDescriptionSequence = _sequence(specimen)


def _content(kind: str, name: Code, value: Code) -> Dataset:
    item = Dataset()
    item.ValueType = kind
    item.ConceptNameCodeSequence = _sequence(_coded(name))
    item.ConceptCodeSequence = _sequence(_coded(value))
    return item


def _pixels(d: Dataset, level: Level, mpp: float, tile: tuple[int, int] | None = None) -> None:
    """Add the pixel modules. `mpp` of this level; `tile` (width, height) when not square."""
    columns, rows = tile or (level.tile_px, level.tile_px)
    d.NumberOfFrames = len(level.tiles)
    d.Columns, d.Rows = columns, rows
    d.TotalPixelMatrixColumns, d.TotalPixelMatrixRows = level.width, level.height
    d.TotalPixelMatrixFocalPlanes = 1
    d.ImagedVolumeWidth = level.width * mpp / 1000
    d.ImagedVolumeHeight = level.height * mpp / 1000
    d.ImagedVolumeDepth = 4.0
    d.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = 20.0
    origin.YOffsetInSlideCoordinateSystem = 40.0
    d.TotalPixelMatrixOriginSequence = _sequence(origin)
    d.SamplesPerPixel = 3
    d.PhotometricInterpretation = "YBR_FULL_422"
    d.PlanarConfiguration = 0
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit = 7
    d.PixelRepresentation = 0
    d.LossyImageCompression = "01"
    d.LossyImageCompressionMethod = "ISO_10918_1"
    raw = len(level.tiles) * columns * rows * 3
    d.LossyImageCompressionRatio = round(raw / level.size_bytes, 2)
    d.DimensionOrganizationType = "TILED_FULL"
    organization = Dataset()
    organization.DimensionOrganizationUID = stable_uid("dimensions", d.SOPInstanceUID)
    d.DimensionOrganizationSequence = _sequence(organization)
    d.NumberOfOpticalPaths = 1
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    path.IlluminationTypeCodeSequence = _sequence(_coded(_BRIGHTFIELD))
    path.IlluminationColorCodeSequence = _sequence(_coded(_WHITE))
    path.ICCProfile = _SRGB
    path.ColorSpace = "SRGB"
    d.OpticalPathSequence = _sequence(path)
    d.SharedFunctionalGroupsSequence = _sequence(_shared_groups(d.ImageType, mpp))
    d.PixelData = encapsulate(list(level.tiles))
    d["PixelData"].is_undefined_length = True


def _shared_groups(image_type: list[str], mpp: float) -> Dataset:
    shared, measures, frame, path = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{mpp / 1000:.10g}"] * 2
    measures.SliceThickness = "0.004"
    measures.SpacingBetweenSlices = "0.004"
    shared.PixelMeasuresSequence = _sequence(measures)
    frame.FrameType = list(image_type)
    shared.WholeSlideMicroscopyImageFrameTypeSequence = _sequence(frame)
    path.OpticalPathIdentifier = "1"
    shared.OpticalPathIdentificationSequence = _sequence(path)
    return shared


def _profile() -> bytes:
    """Return an sRGB profile whose creation time is fixed: one slide, the same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    return profile[:24] + made + profile[36:]


_SRGB = _profile()


def _save(d: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = d.SOPClassUID
    meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    d.file_meta = meta
    d.save_as(path, enforce_file_format=True)


def _label_lines(header: SlideHeader) -> tuple[str, ...]:
    return (header.accession_number, header.container_id, header.family_name, "H&E  DEMO")


def _label(header: SlideHeader) -> np.ndarray:
    """Return a photo of the printed label (rows, columns, 3): what only some roles may see."""
    image = Image.new("RGB", (384, 256), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(20)
    for row, line in enumerate(_label_lines(header)):
        draw.text((16, 14 + 30 * row), line, fill=(20, 20, 30), font=font)
    bits = hashlib.sha256(header.container_id.encode()).digest()
    for n in range(256):
        if bits[n // 8] >> (n % 8) & 1:
            left, top = 296 + 4 * (n % 16), 160 + 4 * (n // 16)
            draw.rectangle((left, top, left + 3, top + 3), fill=(20, 20, 30))
    return np.asarray(image)
