"""Re-codes instances of tests.synthetic_slide: transfer syntaxes, tilings, concatenations, paths.

write_dicom_slide(folder, jpeg=False, change=lambda n, d: recode(d, "JPEG2000Lossless"))
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import jpeg_ls
import numpy as np
import pydicom.uid
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence as DicomSequence

from tests.synthetic_slide import make_uid


def frames_of(dataset: Dataset) -> np.ndarray:
    """Return the uncompressed frames: (count, rows, columns, samples)."""
    dtype = np.uint16 if dataset.BitsAllocated == 16 else np.uint8
    shape = (-1, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    return np.frombuffer(dataset.PixelData, dtype).reshape(shape)


def _jpeg2000(*, irreversible: bool) -> Callable[[np.ndarray], bytes]:
    def code(frame: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        image = Image.fromarray(frame if frame.shape[-1] == 3 else frame[..., 0])
        options = {"quality_mode": "rates", "quality_layers": [4]} if irreversible else {}
        image.save(buffer, "JPEG2000", irreversible=irreversible, no_jp2=True, **options)
        return buffer.getvalue()

    return code


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _jpeg_ls(frame: np.ndarray) -> bytes:
    return bytes(jpeg_ls.encode_array(np.ascontiguousarray(frame)))


# Transfer syntax -> how a frame is coded, and the photometric interpretation of what comes out.
CODERS: dict[str, tuple[Callable[[np.ndarray], bytes], str]] = {
    "JPEGBaseline8Bit": (_jpeg, "YBR_FULL_422"),
    "JPEG2000Lossless": (_jpeg2000(irreversible=False), "YBR_RCT"),
    "JPEG2000": (_jpeg2000(irreversible=True), "YBR_ICT"),
    "JPEGLSLossless": (_jpeg_ls, "RGB"),
}


def recode(dataset: Dataset, syntax: str, *, offsets: str = "basic", fragments: int = 1) -> None:
    """Code the frames of an uncompressed dataset by `syntax`.

    offsets: "basic", "extended" or "none".
    """
    code, photometric = CODERS[syntax]
    store_frames(dataset, [code(frame) for frame in frames_of(dataset)], offsets, fragments)
    dataset.PhotometricInterpretation = photometric
    dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)


def store_frames(
    dataset: Dataset, frames: Sequence[bytes], offsets: str = "basic", fragments: int = 1
) -> None:
    """Put coded frames into the dataset."""
    if offsets == "extended":
        data, table, lengths = encapsulate_extended(list(frames))
        dataset.PixelData = data
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table, lengths
    else:
        dataset.PixelData = encapsulate(
            list(frames), fragments_per_frame=fragments, has_bot=offsets == "basic"
        )
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def make_sparse(dataset: Dataset, *, missing: Sequence[int] = (), reverse: bool = False) -> None:
    """Turn TILED_FULL into TILED_SPARSE: tiles with positions, some left out, in any order."""
    per_row = -(-dataset.TotalPixelMatrixColumns // dataset.Columns)
    frames = frames_of(dataset)
    kept = [number for number in range(len(frames)) if number not in missing]
    if reverse:
        kept.reverse()
    items = []
    for number in kept:
        position = Dataset()
        position.ColumnPositionInTotalImagePixelMatrix = number % per_row * dataset.Columns + 1
        position.RowPositionInTotalImagePixelMatrix = number // per_row * dataset.Rows + 1
        position.XOffsetInSlideCoordinateSystem = 0
        position.YOffsetInSlideCoordinateSystem = 0
        position.ZOffsetInSlideCoordinateSystem = 0
        item = Dataset()
        item.PlanePositionSlideSequence = DicomSequence([position])
        items.append(item)
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(items)
    dataset.NumberOfFrames = len(kept)
    dataset.PixelData = b"".join(frames[number].tobytes() for number in kept)


def split_concatenation(file: Path, parts: int) -> list[Path]:
    """Replace an uncompressed instance by the parts of a concatenation (PS3.3 C.7.6.16.2.2.4)."""
    whole = dcmread(file)
    frames = frames_of(whole)
    bounds = np.linspace(0, len(frames), parts + 1).astype(int)
    paths = []
    for number in range(parts):
        part = dcmread(file)
        begin, end = int(bounds[number]), int(bounds[number + 1])
        part.SOPInstanceUIDOfConcatenationSource = whole.SOPInstanceUID
        part.SOPInstanceUID = make_uid("part", whole.SOPInstanceUID, number)
        part.file_meta.MediaStorageSOPInstanceUID = part.SOPInstanceUID
        part.ConcatenationUID = make_uid("concatenation", whole.SOPInstanceUID)
        part.ConcatenationFrameOffsetNumber = begin
        part.InConcatenationNumber = number + 1
        part.InConcatenationTotalNumber = parts
        part.NumberOfFrames = end - begin
        part.PixelData = frames[begin:end].tobytes()
        path = file.with_name(f"{file.stem}-part{number + 1}.dcm")
        part.save_as(path, enforce_file_format=True)
        paths.append(path)
    file.unlink()
    return paths


def make_fluorescence(dataset: Dataset, channels: Sequence[np.ndarray]) -> None:
    """Turn an instance into monochrome optical paths, one per channel: uint16 (height, width)."""
    rows, columns = dataset.Rows, dataset.Columns
    frames = []
    for channel in channels:
        height, width = channel.shape
        padded = np.zeros((-(-height // rows) * rows, -(-width // columns) * columns), "<u2")
        padded[:height, :width] = channel
        for y in range(0, padded.shape[0], rows):
            for x in range(0, padded.shape[1], columns):
                frames.append(padded[y : y + rows, x : x + columns].tobytes())
    paths = []
    for number, (wavelength, name) in enumerate(((385, "DAPI"), (490, "FITC"))[: len(channels)]):
        path = Dataset()
        path.OpticalPathIdentifier = str(number)
        path.OpticalPathDescription = name
        path.IlluminationWaveLength = wavelength
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "111743", "DCM"
        code.CodeMeaning = "Epifluorescence illumination"
        path.IlluminationTypeCodeSequence = DicomSequence([code])
        paths.append(path)
    dataset.OpticalPathSequence = DicomSequence(paths)
    dataset.NumberOfOpticalPaths = len(channels)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if "PlanarConfiguration" in dataset:
        del dataset.PlanarConfiguration
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join(frames)
    dataset["PixelData"].VR = "OW"
