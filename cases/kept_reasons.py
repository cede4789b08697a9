"""Reasons that workers keep in rows, said in the language of who reads them.

A worker knows no reader: it writes English. What it writes is here a second time, for the
catalogue of translations, with %(name)s for what differs from row to row; a test holds the two
together.
"""

import re
from functools import cache

from django.utils.translation import get_language, gettext, gettext_noop

REASONS: list[str] = [
    gettext_noop("The file cannot be taken as a slide."),
    gettext_noop("This is no whole slide image that can be read here."),
    gettext_noop("The file is cut off: image data that it announces is missing. Send it again."),
    gettext_noop("The file is damaged: its image data cannot be decoded."),
    gettext_noop("This DICOM object is not a VL Whole Slide Microscopy Image."),
    gettext_noop("The DICOM transfer syntax is not supported."),
    gettext_noop("The series has no VOLUME instance, so there is no image of the tissue."),
    gettext_noop("Instances of one series name different patients."),
    gettext_noop("Two different files of this delivery carry the same SOP instance UID."),
    gettext_noop("This kind of slide image is not supported."),
    gettext_noop("The image claims dimensions that no slide has."),
    gettext_noop("Files that belong to this slide are missing. Send it zipped with its folder."),
    gettext_noop("The archive unpacks to more data or files than is allowed."),
    gettext_noop("The archive holds an entry whose path is not allowed."),
    gettext_noop("The archive is encrypted. Send it without a password."),
    gettext_noop("There is an archive inside the archive. Send its content directly."),
    gettext_noop("The archive is damaged or of a kind that is not supported."),
    gettext_noop("The delivery holds more files than is allowed."),
    gettext_noop("Reading the file took too long, so it was stopped."),
    gettext_noop("Reading the file needed more memory than is allowed, so it was stopped."),
    gettext_noop("The reader stopped unexpectedly on this file, so it is refused."),
    gettext_noop("The slide's file cannot be opened."),
    gettext_noop("The server has no free disk space to unpack this delivery."),
    gettext_noop("No image of the tissue has come yet; the rest of the series may follow."),
    gettext_noop("Parts of an image that was split have not come yet."),
    gettext_noop("An instance with the same SOP Instance UID and other content is on record."),
    gettext_noop("The same slide is already here."),
    gettext_noop("The same instances wait already."),
    gettext_noop("The same slide already waits to be matched."),
    gettext_noop("The same slide came again with what was missing."),
    gettext_noop("The records kept changing while the slide was taken in."),
    gettext_noop("Neither file nor form states an accession number."),
    gettext_noop("Neither file nor form states an MRN for this new case."),
    gettext_noop("Another patient's slides are on record in the same study."),
    gettext_noop("The file does not state its resolution (µm per pixel)."),
    gettext_noop("This series is on record under another accession number."),
    gettext_noop("Nothing arrived for seven days."),
    gettext_noop("The rest of the series did not come in two weeks."),
    gettext_noop("The file arrived with another SHA-256 than announced. Send it again."),
    gettext_noop("The delivery holds no slide."),
    gettext_noop("File and upload form state another %(what)s."),
    gettext_noop("The worker stopped without a word (attempt %(attempt)s)."),
    gettext_noop("The export stopped unexpectedly (%(kind)s)."),
    gettext_noop("The deletion stopped unexpectedly (%(kind)s)."),
]


def reasons_declare(texts: list[str]) -> None:
    """Add the reasons of another app's workers, each marked for translation there."""
    REASONS.extend(text for text in texts if text not in REASONS)


def in_words(reason: str) -> str:
    """Return the kept reason, its sentences translated as far as they are known."""
    if not reason or (get_language() or "en").startswith("en"):
        return reason
    told = gettext(reason)
    if told != reason:
        return told
    for text in REASONS:
        told = _pattern(text).sub(lambda found, text=text: gettext(text) % found.groupdict(), told)
    return told


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return what finds the sentence, with anything short in place of each %(name)s."""
    parts = re.split(r"%\((\w+)\)s", text.replace("%%", "%"))
    made = [
        f"(?P<{part}>[^.]{{1,80}}?)" if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    ]
    return re.compile("".join(made))
