"""What wsidicom is too strict about, put right for reading. The only place that changes it."""

from __future__ import annotations

import io
from typing import Any

import wsidicom.file.io.wsidicom_reader as file_reader
import wsidicom.file.wsidicom_file_image_data as file_image_data
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.uid import HTJ2K as HTJ2KUid
from pydicom.uid import UID, HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless, JPEGBaseline8Bit
from wsidicom.codec import Codec, Decoder
from wsidicom.codec.encoder import Encoder
from wsidicom.file.io import WsiDicomReader as WsiDicomFile
from wsidicom.geometry import Size

HIGH_THROUGHPUT = frozenset((HTJ2KUid, HTJ2KLossless, HTJ2KLosslessRPCL))


class ReadingCodec(Codec):
    """Opens what can be decoded, although nothing installed can encode it."""

    @classmethod
    def create(
        cls,
        transfer_syntax: UID,
        samples_per_pixel: int,
        bits: int,
        size: Size,
        photometric_interpretation: str,
    ) -> Codec:
        """Return a codec; its encoder, of missing tiles, is JPEG 2000's for the new syntaxes."""
        if transfer_syntax not in HIGH_THROUGHPUT:
            return super().create(
                transfer_syntax, samples_per_pixel, bits, size, photometric_interpretation
            )
        decoder = Decoder.create(
            transfer_syntax, samples_per_pixel, bits, size, photometric_interpretation
        )
        return cls(decoder, Encoder.create(JPEG2000Lossless, bits, photometric_interpretation))

    @classmethod
    def is_supported(
        cls,
        transfer_syntax: UID,
        samples_per_pixel: int,
        bits: int,
        photometric_interpretation: str,
    ) -> bool:
        """Return whether frames of this kind can be decoded with what is installed."""
        if transfer_syntax in HIGH_THROUGHPUT:
            return Decoder.select_decoder(transfer_syntax, samples_per_pixel, bits) is not None
        return super().is_supported(
            transfer_syntax, samples_per_pixel, bits, photometric_interpretation
        )


# wsidicom asks for its codec by these two names only.
file_image_data.Codec = ReadingCodec
file_reader.Codec = ReadingCodec


def repair(reader: WsiDicomFile) -> None:
    """Let an instance be read whose header is right, or nearly, and not as wsidicom expects."""
    dataset: Any = reader.dataset.as_dataset()
    _correct_colour_space(reader, dataset)
    # It takes 12 bits in words of 16 for words of 8.
    if not reader.transfer_syntax.is_encapsulated:
        allocated = int(dataset.BitsAllocated)
        if int(dataset.BitsStored) != allocated:
            dataset.BitsStored, dataset.HighBit = allocated, allocated - 1


def _correct_colour_space(reader: WsiDicomFile, dataset: Any) -> None:
    """Let an instance that wrongly declares RGB be decoded by what its JPEG frames say.

    Some converters write YCbCr frames under PhotometricInterpretation RGB; taken at its word
    the slide turns red and green. A JFIF marker or subsampled colour means YCbCr for certain.
    """
    if (
        reader.transfer_syntax == JPEGBaseline8Bit
        and reader.dataset.photometric_interpretation == "RGB"
        and is_ycbcr_jpeg(reader.read_frame(reader.frame_offset))
    ):
        dataset.PhotometricInterpretation = "YBR_FULL_422"


def is_ycbcr_jpeg(frame: bytes) -> bool:
    """Return whether the JPEG header itself says YCbCr; False when it says nothing."""
    try:
        image = Image.open(io.BytesIO(frame))
    except OSError:
        return False
    if not isinstance(image, JpegImageFile) or "adobe_transform" in image.info:
        return False
    subsampled = any(layer[1:3] != (1, 1) for layer in image.layer)
    return len(image.layer) == 3 and ("jfif" in image.info or subsampled)
