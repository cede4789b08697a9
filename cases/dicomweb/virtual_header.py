"""The header of a vendor's slide as a VL Whole Slide Microscopy Image (PS3.3 A.32.8).

Patient, case and glass are what the records say now; geometry and compression what the file
says. What nobody knows is left empty, as the standard's type 2 attributes may be.
"""

from collections.abc import Sequence
from datetime import UTC
from functools import cache
from typing import Any

from PIL import ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage
from pydicom.valuerep import DSfloat

from cases.models import SlideImage
from cases.wsi.uids import LABEL_NUMBER, instance_uid, related_uid, uid_of
from cases.wsi.vendor_frames import VendorLevel

_SLIDE = Code("433466003", "SCT", "Microscope slide")
_BRIGHTFIELD = Code("111744", "DCM", "Brightfield illumination")
_EPIFLUORESCENCE = Code("111743", "DCM", "Epifluorescence illumination")
_WHITE = Code("371251000", "SCT", "White color")
_STAINING = Code("127790008", "SCT", "Staining")
_PROCESSING_TYPE = Code("111701", "DCM", "Processing type")
_USING = Code("424361007", "SCT", "Using substance")
_STAINS = {
    "H&E": (
        Code("12710003", "SCT", "hematoxylin stain"),
        Code("36879007", "SCT", "water soluble eosin stain"),
    )
}
THICKNESS_MM = 0.004
UNKNOWN_MM_PER_PIXEL = 0.05
"""Of a label: nobody says its resolution, and the standard wants one."""


def virtual_header(image: SlideImage, number: int, level: VendorLevel) -> Dataset:
    """Return the dataset of one virtual instance, without pixel data.

    Parameters
    ----------
    image
        With slide, specimen, case and patient at hand.
    number
        Of the instance: 1 for the finest level and so on, LABEL_NUMBER for the label.
    """
    is_label = number == LABEL_NUMBER
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    d.SOPInstanceUID = instance_uid(image.pk, number)
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    _patient_and_study(d, image)
    _series(d, image)
    flavor = ["DERIVED" if 1 < number < LABEL_NUMBER else "ORIGINAL", "PRIMARY"]
    flavor += ["LABEL", "NONE"] if is_label else ["VOLUME", "NONE" if number == 1 else "RESAMPLED"]
    d.ImageType = flavor
    d.InstanceNumber = number
    d.VolumetricProperties = "VOLUME"
    d.SpecimenLabelInImage = d.BurnedInAnnotation = "YES" if is_label else "NO"
    d.FocusMethod = "AUTO"
    d.ExtendedDepthOfField = "NO"
    d.AcquisitionContextSequence = DicomSequence()
    _specimen(d, image)
    if is_label:
        d.BarcodeValue = image.slide.label_barcode
        d.LabelText = image.slide.label
    spacing = UNKNOWN_MM_PER_PIXEL
    if not is_label:
        spacing = image.mpp / 1000 * image.width_l0 / level.width
    _pixels(d, image, level, spacing)
    return d


def described(image: SlideImage) -> Dataset:
    """Return what the records alone say of a slide: patient, study, series, specimen."""
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    _patient_and_study(d, image)
    _series(d, image)
    _specimen(d, image)
    return d


def _patient_and_study(d: Dataset, image: SlideImage) -> None:
    case, patient = image.slide.case, image.slide.case.patient
    d.PatientName = f"{patient.family_name}^{patient.given_name}".strip("^")[:64]
    d.PatientID = patient.mrn[:64]
    d.IssuerOfPatientID = patient.mrn_issuer[:64]
    d.PatientBirthDate = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    d.PatientSex = patient.sex if patient.sex in ("F", "M", "O") else ""
    d.StudyInstanceUID = uid_of(case.pk)
    when = (image.scanned_at or image.created_at).astimezone(UTC)
    d.StudyDate, d.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    d.StudyID = case.accession_number[:16]
    d.ReferringPhysicianName = ""
    d.AccessionNumber = case.accession_number[:16]
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = case.accession_issuer[:64]
    d.IssuerOfAccessionNumberSequence = DicomSequence([issuer])


def _series(d: Dataset, image: SlideImage) -> None:
    when = (image.scanned_at or image.created_at).astimezone(UTC)
    d.Modality = "SM"
    d.SeriesInstanceUID = uid_of(image.pk)
    d.SeriesNumber = 1
    d.SeriesDescription = f"{image.slide.label} ({image.vendor})"[:64]
    d.FrameOfReferenceUID = related_uid(image.pk, "frame of reference")
    d.PositionReferenceIndicator = "SLIDE_CORNER"
    d.Manufacturer = (image.scanner.split(" ")[0] or image.vendor or "unknown")[:64]
    d.ManufacturerModelName = (image.scanner or "unknown")[:64]
    d.DeviceSerialNumber = d.SoftwareVersions = "unknown"
    d.ContentDate = d.AcquisitionDate = when.strftime("%Y%m%d")
    d.ContentTime = d.AcquisitionTime = when.strftime("%H%M%S")
    d.AcquisitionDateTime = when.strftime("%Y%m%d%H%M%S")


def _specimen(d: Dataset, image: SlideImage) -> None:
    slide = image.slide
    d.ContainerIdentifier = (slide.label_barcode or slide.label)[:64]
    d.IssuerOfTheContainerIdentifierSequence = DicomSequence()
    d.ContainerTypeCodeSequence = _coded(_SLIDE)
    item = Dataset()
    item.SpecimenIdentifier = slide.label[:64]
    item.IssuerOfTheSpecimenIdentifierSequence = DicomSequence()
    item.SpecimenUID = related_uid(slide.pk, "specimen")
    organ = slide.specimen.organ if slide.specimen else ""
    item.SpecimenShortDescription = ", ".join(filter(None, (organ, slide.stain)))[:64]
    step = Dataset()
    contents = [_content(_PROCESSING_TYPE, _STAINING)]
    contents += [_content(_USING, stain) for stain in _STAINS.get(slide.stain, ())]
    if slide.stain and slide.stain not in _STAINS:
        contents.append(_text(_USING, slide.stain))
    step.SpecimenPreparationStepContentItemSequence = DicomSequence(contents)
    item.SpecimenPreparationSequence = DicomSequence([step] if slide.stain else [])
    d.SpecimenDescriptionSequence = DicomSequence([item])


def _pixels(d: Dataset, image: SlideImage, level: VendorLevel, spacing: float) -> None:
    d.NumberOfFrames = level.frame_count
    d.Columns, d.Rows = level.tile_width, level.tile_height
    d.TotalPixelMatrixColumns, d.TotalPixelMatrixRows = level.width, level.height
    d.TotalPixelMatrixFocalPlanes = 1
    d.ImagedVolumeWidth, d.ImagedVolumeHeight = level.width * spacing, level.height * spacing
    d.ImagedVolumeDepth = THICKNESS_MM * 1000
    # Rows run along the slide's x axis, columns against its y axis (PS3.3 C.8.12.4.1.4).
    d.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = DSfloat(20.0)
    origin.YOffsetInSlideCoordinateSystem = DSfloat(40.0)
    d.TotalPixelMatrixOriginSequence = DicomSequence([origin])
    d.SamplesPerPixel = 3
    d.PhotometricInterpretation = level.photometric
    d.PlanarConfiguration = 0
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit = 7
    d.PixelRepresentation = 0
    d.LossyImageCompression = "01"
    d.LossyImageCompressionMethod = "ISO_10918_1"
    raw = level.width * level.height * 3
    stored = level.stored_bytes or image.size_bytes * raw / (
        image.width_l0 * image.height_l0 * 3 * 4 / 3
    )
    d.LossyImageCompressionRatio = DSfloat(round(max(1.0, raw / max(1.0, stored)), 2))
    d.DimensionOrganizationType = "TILED_FULL"
    organization = Dataset()
    organization.DimensionOrganizationUID = related_uid(image.pk, f"dimensions {level.number}")
    d.DimensionOrganizationSequence = DicomSequence([organization])
    d.NumberOfOpticalPaths = 1
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    light = _EPIFLUORESCENCE if image.is_fluorescence else _BRIGHTFIELD
    path.IlluminationTypeCodeSequence = _coded(light)
    path.IlluminationColorCodeSequence = _coded(_WHITE)
    if image.objective_power:
        path.ObjectiveLensPower = DSfloat(image.objective_power, auto_format=True)
    path.ICCProfile = _srgb()
    path.ColorSpace = "SRGB"
    d.OpticalPathSequence = DicomSequence([path])
    d.SharedFunctionalGroupsSequence = DicomSequence([_shared_groups(d.ImageType, spacing)])


def _shared_groups(image_type: Sequence[str], spacing: float) -> Dataset:
    shared, measures, frame, path = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [DSfloat(spacing, auto_format=True)] * 2
    measures.SliceThickness = DSfloat(THICKNESS_MM)
    measures.SpacingBetweenSlices = DSfloat(THICKNESS_MM)
    shared.PixelMeasuresSequence = DicomSequence([measures])
    frame.FrameType = list(image_type)
    shared.WholeSlideMicroscopyImageFrameTypeSequence = DicomSequence([frame])
    path.OpticalPathIdentifier = "1"
    shared.OpticalPathIdentificationSequence = DicomSequence([path])
    return shared


@cache
def _srgb() -> bytes:
    """Return an sRGB profile; its time is fixed, so that one slide always is the same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes((0x07, 0xEA, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)) + profile[36:]


def _coded(code: Code) -> DicomSequence:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return DicomSequence([item])


def _content(name: Code, value: Code) -> Dataset:
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = _coded(name)
    item.ConceptCodeSequence = _coded(value)
    return item


def _text(name: Code, value: Any) -> Dataset:
    item = Dataset()
    item.ValueType = "TEXT"
    item.ConceptNameCodeSequence = _coded(name)
    item.TextValue = str(value)
    return item
