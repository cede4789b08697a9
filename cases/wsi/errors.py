"""Why a file cannot be taken as a slide: one class per named reason.

`code` is stable (pages, API and tests name it); `message` is a sentence for people and holds
no patient data.
"""


class WsiError(Exception):
    """A file or series is refused.

    Parameters
    ----------
    message
        A sentence for people; the class's own one when empty.
    """

    code = "refused"
    message = "The file cannot be taken as a slide."

    def __init__(self, message: str = "") -> None:
        self.message = message or type(self).message
        super().__init__(self.message)


class NotASlideError(WsiError):
    """No reader knows the content."""

    code = "not_a_slide"
    message = "This is no whole slide image that can be read here."


class TruncatedError(WsiError):
    """The file ends before its image data does."""

    code = "truncated"
    message = "The file is cut off: image data that it announces is missing. Send it again."


class CorruptError(WsiError):
    """The content contradicts itself or cannot be decoded."""

    code = "corrupt"
    message = "The file is damaged: its image data cannot be decoded."


class NotWsiDicomError(WsiError):
    """A DICOM object of another kind than VL Whole Slide Microscopy Image."""

    code = "not_wsi_dicom"
    message = "This DICOM object is not a VL Whole Slide Microscopy Image."


class UnsupportedTransferSyntaxError(WsiError):
    """A DICOM transfer syntax that no decoder here reads."""

    code = "unsupported_transfer_syntax"
    message = "The DICOM transfer syntax is not supported."


class NoVolumeError(WsiError):
    """A DICOM series with a label or overview, and no image of the tissue."""

    code = "no_volume_image"
    message = "The series has no VOLUME instance, so there is no image of the tissue."


class MixedPatientsError(WsiError):
    """Instances of one series name different patients."""

    code = "mixed_patients"
    message = "Instances of one series name different patients."


class ConflictingInstancesError(WsiError):
    """One SOP instance UID stands for different bytes, or one series for several images."""

    code = "conflicting_instances"
    message = "Two different files of this delivery carry the same SOP instance UID."


class UnsupportedImageError(WsiError):
    """A slide of a kind that is not read yet, such as a z-stack."""

    code = "unsupported_image"
    message = "This kind of slide image is not supported."


class AbsurdDimensionsError(WsiError):
    """Width, height or resolution that no scanner produces."""

    code = "absurd_dimensions"
    message = "The image claims dimensions that no slide has."


class MissingFilesError(WsiError):
    """A slide of several files came without some of them."""

    code = "missing_files"
    message = "Files that belong to this slide are missing. Send it zipped with its folder."


class ZipBombError(WsiError):
    """An archive unpacks to far more than it should."""

    code = "zip_bomb"
    message = "The archive unpacks to more data or files than is allowed."


class UnsafePathError(WsiError):
    """An archive entry points outside the archive, or is no plain file."""

    code = "unsafe_path"
    message = "The archive holds an entry whose path is not allowed."


class EncryptedArchiveError(WsiError):
    """An archive that needs a password."""

    code = "encrypted_archive"
    message = "The archive is encrypted. Send it without a password."


class NestedArchiveError(WsiError):
    """An archive in an archive."""

    code = "nested_archive"
    message = "There is an archive inside the archive. Send its content directly."


class BadArchiveError(WsiError):
    """An archive that cannot be read."""

    code = "bad_archive"
    message = "The archive is damaged or of a kind that is not supported."


class TooManyFilesError(WsiError):
    """A delivery of more files than is allowed."""

    code = "too_many_files"
    message = "The delivery holds more files than is allowed."


class ParseTimeoutError(WsiError):
    """Reading the file took longer than is allowed."""

    code = "parse_timeout"
    message = "Reading the file took too long, so it was stopped."


class ParseMemoryError(WsiError):
    """Reading the file needed more memory than is allowed."""

    code = "parse_memory"
    message = "Reading the file needed more memory than is allowed, so it was stopped."


class ParseCrashError(WsiError):
    """The reader itself died on the file."""

    code = "parse_crash"
    message = "The reader stopped unexpectedly on this file, so it is refused."


class UnreadableError(WsiError):
    """The store's file could not be opened: gone, or not readable by this process."""

    code = "unreadable"
    message = "The slide's file cannot be opened."


class NoDiskSpaceError(WsiError):
    """There is no room to unpack or examine the delivery."""

    code = "no_disk_space"
    message = "The server has no free disk space to unpack this delivery."
