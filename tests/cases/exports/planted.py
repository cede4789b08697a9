"""A slide that is full of identifiers: in every text attribute, nested, private, in its frames."""

import struct
from pathlib import Path

from PIL import ImageCms
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from tests.synthetic_slide import write_dicom_slide

NAME = "Quixadelbaum"
TEXT = "Quixadelbaum was here 7731995"
NUMBER = "7731995-XKCD"
DATE = "19430817"
UID = "1.2.826.0.1.3680043.10.9999.7731995.42"
SECRETS = (NAME, NUMBER, "7731995", UID)

_BY_VR = {
    "AE": "QUIXADELBAUM",
    "LO": NAME,
    "LT": TEXT,
    "PN": f"{NAME}^Zwendoline",
    "SH": "Quixadelbaum",
    "ST": TEXT,
    "UC": TEXT,
    "UR": f"http://{NAME}.example/7731995",
    "UT": TEXT,
    "DA": DATE,
    "DT": f"{DATE}121314",
    "TM": "121314",
}
# Identify the instance, or are what the intake reads and compares.
_STAYS = {
    "PatientID", "PatientName", "PatientBirthDate", "IssuerOfPatientID", "AccessionNumber",
    "ContainerIdentifier", "SpecificCharacterSet", "TimezoneOffsetFromUTC",
}  # fmt: skip


def plant(dataset: Dataset) -> None:
    """Put an identifier into every text attribute of the standard, and more places."""
    for tag, (_vr, _vm, _name, retired, keyword) in DicomDictionary.items():
        vr = dictionary_VR(tag)
        if retired or not keyword or tag < 0x00080000 or keyword in _STAYS:
            continue
        if vr in _BY_VR:
            setattr(dataset, keyword, _BY_VR[vr])
    item = Dataset()
    item.PersonName = f"{NAME}^Zwendoline"
    item.TextValue = TEXT
    item.ReferencedSOPInstanceUID = UID
    deep = Dataset()
    deep.ContentItemModifierSequence = Sequence([item])
    dataset.RequestAttributesSequence = Sequence([deep])
    specimen = dataset.SpecimenDescriptionSequence[0]
    specimen.SpecimenIdentifier = NAME
    specimen.SpecimenShortDescription = NAME
    specimen.SpecimenDetailedDescription = TEXT
    step = specimen.SpecimenPreparationSequence[0].SpecimenPreparationStepContentItemSequence
    text = Dataset()
    text.ValueType = "TEXT"
    text.TextValue = TEXT
    step.append(text)
    # A code of the standard whose meaning lies.
    organ = specimen.PrimaryAnatomicStructureSequence[0]
    organ.CodeValue, organ.CodingSchemeDesignator, organ.CodeMeaning = "39607008", "SCT", NAME
    path = dataset.OpticalPathSequence[0]
    path.OpticalPathIdentifier, path.OpticalPathDescription = NAME[:16], TEXT
    path.ICCProfile = profile()
    dataset.SharedFunctionalGroupsSequence[
        0
    ].UnassignedSharedConvertedAttributesSequence = Sequence([item])
    block = dataset.private_block(0x0011, f"{NAME} private", create=True)
    block.add_new(1, "LO", NAME)
    block.add_new(2, "UN", TEXT.encode("utf-16-le"))
    block.add_new(3, "SQ", Sequence([item]))


def profile() -> bytes:
    """Return an ICC profile that is copyrighted by the patient."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    note = b"text" + bytes(4) + TEXT.encode() + b"\0"
    (count,) = struct.unpack_from(">I", made, 128)
    table = b""
    for number in range(count):
        name, offset, size = struct.unpack_from(">4sII", made, 132 + 12 * number)
        table += struct.pack(">4sII", name, offset + 12, size)
    body = made[132 + 12 * count :]
    entry = struct.pack(">4sII", b"targ", 132 + 12 * (count + 1) + len(body), len(note))
    whole = made[4:128] + struct.pack(">I", count + 1) + table + entry + body + note
    return struct.pack(">I", len(whole) + 4) + whole


def comment_frames(dataset: Dataset) -> None:
    """Put the name into each JPEG frame: a comment, EXIF, and bytes after the end."""
    frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
    dataset.PixelData = encapsulate([_with_texts(frame) for frame in frames])
    dataset["PixelData"].VR = "OB"


def _with_texts(frame: bytes) -> bytes:
    text = TEXT.encode()
    comment = b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text
    exif = b"\xff\xe1" + struct.pack(">H", len(text) + 8) + b"Exif\0\0" + text
    end = frame.rindex(b"\xff\xd9") + 2
    return frame[:2] + comment + exif + frame[2:end] + text


def write_planted_slide(folder: Path, **fields) -> Path:
    """Write the slide, with a label that carries the identifiers too."""

    def change(number: int, dataset: Dataset) -> None:
        plant(dataset)
        dataset.Modality = "SM"
        dataset.ImageType[0] = "ORIGINAL" if number == 0 else "DERIVED"
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            comment_frames(dataset)
        if number == -1:
            dataset.BarcodeValue = NUMBER
            dataset.LabelText = TEXT

    defaults = {
        "patient_id": NUMBER,
        "patient_name": f"{NAME}^Zwendoline",
        "birth_date": DATE,
        "accession_number": "S26-7731995",
        "container_id": "7731995-A1",
        "label": True,
        "change": change,
    }
    write_dicom_slide(folder, **(defaults | fields))
    for file in folder.iterdir():  # the preamble is 128 bytes that nobody looks at
        data = bytearray(file.read_bytes())
        data[: len(TEXT)] = TEXT.encode()
        file.write_bytes(bytes(data))
    return folder


def secrets_in(data: bytes) -> list[str]:
    """Return the planted values that the bytes hold, in any usual encoding and case."""
    small = data.lower()
    return [
        secret
        for secret in SECRETS
        for encoding in ("utf-8", "utf-16-le", "utf-16-be")
        if secret.lower().encode(encoding) in small
    ]
