"""What of a VL Whole Slide Microscopy Image (PS3.3 A.32.8) goes into an export, and how.

An attribute that is not listed here is removed (action X of PS3.15 Table E.1-1): private ones,
unknown ones, and all of the standard's that an image of tissue does not need. Actions are those
of PS3.15 E.1: K keep, after a check; C clean; D replace by a dummy; Z empty; U new UID.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """How one attribute is treated.

    Attributes
    ----------
    action
        Letter of PS3.15 E.1.
    kind
        `number`, `word` (one of `words`), `tag`, `uid`, `date`, `midnight`, `moment`, `empty`,
        `constant`, `patient`, `case`, `container`, `specimen`, `device`, `maker`, `model`,
        `codes`, `steps`, `path`, `profile`, `position`, `items`.
    words
        The values that may stay, of `word` and `constant`; the first is the constant.
    items
        Of `items`: the rules inside.
    always
        Written even where the source says nothing.
    note
        What the conformance statement says.
    """

    action: str
    kind: str
    words: tuple[str, ...] = ()
    items: Mapping[str, Rule] = field(default_factory=dict)
    always: bool = False
    note: str = ""


def _keep(kind: str, *words: str, note: str = "") -> Rule:
    return Rule("K", kind, words=words, note=note)


def _each(rule: Rule, *keywords: str) -> dict[str, Rule]:
    return dict.fromkeys(keywords, rule)


_NUMBER = _keep("number")
_UID = Rule("U", "uid", note="HMAC of the original under the project's key, as 2.25 UID")
_YES_NO = _keep("word", "YES", "NO")
_CODES = Rule("C", "codes", note="only concepts of PS3.16, with the standard's own meaning")
_FLAVOR = _keep(
    "word", "ORIGINAL", "DERIVED", "PRIMARY", "VOLUME", "NONE", "RESAMPLED", note="VOLUME only"
)
_PATH = Rule("D", "path", note="numbered anew")

_MEASURES = Rule(
    "K",
    "items",
    items=_each(_NUMBER, "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
)
_FRAME_TYPE = Rule("K", "items", items={"FrameType": _FLAVOR})
_PATH_OF_FRAME = Rule("K", "items", items={"OpticalPathIdentifier": _PATH})
_POSITION = Rule(
    "K",
    "items",
    items=_each(
        _NUMBER,
        "ColumnPositionInTotalImagePixelMatrix",
        "RowPositionInTotalImagePixelMatrix",
        "XOffsetInSlideCoordinateSystem",
        "YOffsetInSlideCoordinateSystem",
        "ZOffsetInSlideCoordinateSystem",
    ),
)
_GROUPS = {
    "PixelMeasuresSequence": _MEASURES,
    "WholeSlideMicroscopyImageFrameTypeSequence": _FRAME_TYPE,
    "OpticalPathIdentificationSequence": _PATH_OF_FRAME,
    "PlanePositionSlideSequence": _POSITION,
}

PATIENT_AND_STUDY = {
    "PatientName": Rule("D", "patient", always=True, note="the patient's pseudonym"),
    "PatientID": Rule("D", "patient", always=True, note="the patient's pseudonym"),
    "PatientBirthDate": Rule("Z", "empty", always=True),
    "PatientSex": Rule("Z", "empty", always=True),
    "PatientIdentityRemoved": Rule("D", "constant", ("YES",), always=True),
    "StudyInstanceUID": _UID,
    "StudyDate": Rule("C", "date", always=True, note="moved with all dates of the patient"),
    "StudyTime": Rule("Z", "empty", always=True),
    "ReferringPhysicianName": Rule("Z", "empty", always=True),
    "StudyID": Rule("Z", "empty", always=True),
    "AccessionNumber": Rule("D", "case", always=True, note="the case's pseudonym"),
    "Modality": Rule("K", "constant", ("SM",), always=True),
    "SeriesInstanceUID": _UID,
    "SeriesNumber": Rule("D", "constant", ("1",), always=True),
    "FrameOfReferenceUID": _UID,
    "PositionReferenceIndicator": Rule("K", "constant", ("SLIDE_CORNER",), always=True),
}

EQUIPMENT = {
    "Manufacturer": Rule("C", "maker", always=True, note="a known maker, else Unknown"),
    "ManufacturerModelName": Rule("C", "model", always=True, note="a known model, else Unknown"),
    "DeviceSerialNumber": Rule("D", "device", always=True, note="the scanner's pseudonym"),
    "SoftwareVersions": Rule("D", "constant", ("Removed",), always=True),
}

IMAGE = {
    "SOPClassUID": Rule("K", "constant", ("1.2.840.10008.5.1.4.1.1.77.1.6",), always=True),
    "SOPInstanceUID": _UID,
    "SpecificCharacterSet": Rule("D", "constant", ("ISO_IR 192",), always=True),
    "ImageType": _FLAVOR,
    "InstanceNumber": Rule("D", "position", always=True, note="numbered anew"),
    "ContentDate": Rule("C", "date", always=True, note="moved with all dates of the patient"),
    "ContentTime": Rule("D", "midnight", always=True, note="midnight"),
    "AcquisitionDateTime": Rule("C", "moment", note="day moved, time midnight"),
    "AcquisitionDuration": _NUMBER,
    "BurnedInAnnotation": Rule("K", "constant", ("NO",), always=True),
    "SpecimenLabelInImage": Rule("K", "constant", ("NO",), always=True),
    "LossyImageCompression": _keep("word", "00", "01"),
    "LossyImageCompressionRatio": _NUMBER,
    "LossyImageCompressionMethod": _keep(
        "word", "ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_13818_2"
    ),
    "VolumetricProperties": _keep("word", "VOLUME", "SAMPLED"),
    "FocusMethod": _keep("word", "AUTO", "MANUAL"),
    "ExtendedDepthOfField": _YES_NO,
    "PhotometricInterpretation": _keep(
        "word",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_ICT",
        "YBR_RCT",
        "MONOCHROME2",
    ),
    "DimensionOrganizationType": _keep("word", "TILED_FULL", "TILED_SPARSE"),
    "PresentationLUTShape": _keep("word", "IDENTITY"),
    "PyramidUID": _UID,
    "ConcatenationUID": _UID,
    "SOPInstanceUIDOfConcatenationSource": _UID,
    **_each(
        _NUMBER,
        "InConcatenationNumber",
        "InConcatenationTotalNumber",
        "ConcatenationFrameOffsetNumber",
        "SamplesPerPixel",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "RescaleIntercept",
        "RescaleSlope",
        "RepresentativeFrameNumber",
        "ImagedVolumeWidth",
        "ImagedVolumeHeight",
        "ImagedVolumeDepth",
        "TotalPixelMatrixColumns",
        "TotalPixelMatrixRows",
        "TotalPixelMatrixFocalPlanes",
        "NumberOfFocalPlanes",
        "DistanceBetweenFocalPlanes",
        "RecommendedAbsentPixelCIELabValue",
        "ImageOrientationSlide",
        "NumberOfOpticalPaths",
    ),
    "FrameIncrementPointer": _keep("tag"),
    "TotalPixelMatrixOriginSequence": Rule(
        "K",
        "items",
        items=_each(
            _NUMBER,
            "XOffsetInSlideCoordinateSystem",
            "YOffsetInSlideCoordinateSystem",
            "ZOffsetInSlideCoordinateSystem",
        ),
    ),
    "DimensionOrganizationSequence": Rule("K", "items", items={"DimensionOrganizationUID": _UID}),
    "DimensionIndexSequence": Rule(
        "K",
        "items",
        items={
            "DimensionOrganizationUID": _UID,
            "DimensionIndexPointer": _keep("tag", note="of the standard only"),
            "FunctionalGroupPointer": _keep("tag", note="of the standard only"),
        },
    ),
    "OpticalPathSequence": Rule(
        "K",
        "items",
        items={
            "OpticalPathIdentifier": _PATH,
            **_each(
                _CODES,
                "IlluminationTypeCodeSequence",
                "IlluminationColorCodeSequence",
                "LensesCodeSequence",
                "ChannelDescriptionCodeSequence",
                "LightPathFilterTypeStackCodeSequence",
                "ImagePathFilterTypeStackCodeSequence",
            ),
            **_each(
                _NUMBER,
                "IlluminationWaveLength",
                "ObjectiveLensPower",
                "ObjectiveLensNumericalAperture",
                "CondenserLensPower",
            ),
            "ICCProfile": Rule("C", "profile", note="built anew without its texts"),
            "ColorSpace": _keep("word", "SRGB", "ADOBERGB", "ROMMRGB"),
        },
    ),
    "SharedFunctionalGroupsSequence": Rule("K", "items", items=_GROUPS),
    "PerFrameFunctionalGroupsSequence": Rule(
        "K",
        "items",
        items={
            **_GROUPS,
            "FrameContentSequence": Rule("K", "items", items={"DimensionIndexValues": _NUMBER}),
        },
        note="not of TILED_FULL images, where it says nothing",
    ),
}

SPECIMEN = {
    "ContainerIdentifier": Rule("D", "container", always=True, note="the glass slide's pseudonym"),
    "IssuerOfTheContainerIdentifierSequence": Rule("Z", "empty", always=True),
    "ContainerTypeCodeSequence": Rule("C", "codes", always=True, note=_CODES.note),
    "AcquisitionContextSequence": Rule("Z", "empty", always=True),
    "SpecimenDescriptionSequence": Rule(
        "C",
        "items",
        always=True,
        items={
            "SpecimenIdentifier": Rule(
                "D", "specimen", always=True, note="the specimen's pseudonym"
            ),
            "IssuerOfTheSpecimenIdentifierSequence": Rule("Z", "empty", always=True),
            "SpecimenUID": _UID,
            "SpecimenTypeCodeSequence": _CODES,
            "SpecimenPreparationSequence": Rule(
                "C",
                "steps",
                always=True,
                note="coded steps only (staining, fixative, embedding); no text, person or time",
            ),
            "PrimaryAnatomicStructureSequence": _CODES,
        },
    ),
}

# Written by the export itself.
METHOD = {
    "DeidentificationMethod": Rule("D", "constant", ("PS3.15 Annex E by allowlist",), always=True),
    "DeidentificationMethodCodeSequence": Rule(
        "D",
        "constant",
        always=True,
        note="113100, 113101, 113104, 113105, 113107",
    ),
}

TABLE: dict[str, Rule] = {**PATIENT_AND_STUDY, **EQUIPMENT, **IMAGE, **SPECIMEN, **METHOD}

# PS3.16 CID 7050: the profile and its options that hold for every export.
OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113104", "Clean Structured Content Option"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)


def listed(table: Mapping[str, Rule] = TABLE, inside: str = "") -> Iterator[tuple[str, Rule]]:
    """Yield (path of keywords, rule) of every attribute that an export may hold."""
    for keyword in table:
        rule = table[keyword]
        path = f"{inside}{keyword}"
        yield path, rule
        yield from listed(rule.items, f"{path} > ")
