"""Reads HL7 v2 messages and writes their acknowledgements. Pure: knows nothing of records.

No more of the standard than an ADT message about patient numbers needs: segments, fields,
repetitions, components and the escapes of the five separators.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

ACCEPTED, ERROR, REJECTED = "AA", "AE", "AR"
SIZE_MOST = 64 * 1024
_CHARSETS = {
    "": "utf-8",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "8859/1": "latin-1",
    "8859/15": "iso-8859-15",
}
_VERSION = re.compile(r"2(\.\d){0,2}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPES = {
    ord(mark): f"\\{name}\\"
    for mark, name in (("|", "F"), ("^", "S"), ("~", "R"), ("\\", "E"), ("&", "T"))
}
_ENDS = re.compile(r"\r\n?|\n")


class MessageRefused(Exception):
    """The bytes are no message that can be read; the text says why, without patient data."""


@dataclass(frozen=True)
class PatientNumber:
    """One identifier of a patient (CX): the number, who assigned it and of what kind it is."""

    number: str
    issuer: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Segment:
    """One line of a message. `fields[0]` is its name; MSH is counted as the standard counts."""

    fields: tuple[str, ...]
    marks: str = "|^~\\&"

    @property
    def name(self) -> str:
        """Return the three letters."""
        return self.fields[0]

    def field(self, number: int) -> str:
        """Return a field as it was sent, or nothing."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> list[str]:
        """Return the repetitions of a field as they were sent."""
        return [part for part in self.field(number).split(self.marks[2]) if part]

    def component(self, number: int, part: int = 1) -> str:
        """Return a component of the first repetition, as text."""
        return self.part(next(iter(self.repetitions(number)), ""), part)

    def part(self, text: str, part: int, *, sub: int = 1) -> str:
        """Return a component of a repetition, the first subcomponent of it, as text."""
        parts = text.split(self.marks[1])
        found = parts[part - 1] if part <= len(parts) else ""
        subs = found.split(self.marks[4])
        told = subs[sub - 1] if sub <= len(subs) else ""
        told = _unescaped(told, self.marks).strip()
        return "" if told == '""' else told  # the standard's word for "nothing, on purpose"

    def numbers(self, number: int) -> list[PatientNumber]:
        """Return the patient identifiers of a field."""
        found = (
            PatientNumber(self.part(text, 1), self.part(text, 4), self.part(text, 5))
            for text in self.repetitions(number)
        )
        return [one for one in found if one.number]


@dataclass(frozen=True)
class Message:
    """A message as it was read."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """Return MSH."""
        return self.segments[0]

    @property
    def event(self) -> str:
        """Return type and event, as "ADT^A40"."""
        return f"{self.header.component(9, 1)}^{self.header.component(9, 2)}"

    @property
    def control_id(self) -> str:
        """Return the id that the acknowledgement repeats."""
        return self.header.component(10)[:199]


def read(data: bytes) -> Message:
    """Return the message of these bytes (with or without the frame of MLLP)."""
    if len(data) > SIZE_MOST:
        raise MessageRefused("The message is too long.")
    data = data.strip(b"\x0b\x1c\r\n ")
    if not data.startswith(b"MSH") or len(data) < 9:
        raise MessageRefused("A message begins with MSH.")
    text = _decoded(data)
    lines = [line for line in _ENDS.split(text) if line.strip()]
    field, marks = text[3], text[4:8]
    if len({field, *marks}) != 5 or any(mark.isalnum() or mark.isspace() for mark in field + marks):
        raise MessageRefused("MSH-1 and MSH-2 must be five separators.")
    marks = field + marks
    segments = [Segment(tuple(line.split(field)), marks) for line in lines]
    # MSH-1 is the separator itself: so that field 9 is the ninth, it is put in.
    head = segments[0].fields
    if head[1] != marks[1:]:
        raise MessageRefused("MSH-1 and MSH-2 must be five separators.")
    segments[0] = Segment(("MSH", field, *head[1:]), marks)
    return Message(tuple(segments))


def acknowledgement(message: Message | None, code: str, text: str = "") -> str:
    """Return the ACK. message: None where what came could not be read."""
    now = f"{datetime.now(UTC):%Y%m%d%H%M%S}+0000"
    application = facility = own = event = control_id = ""
    version = "2.5.1"
    if message is not None:
        head = message.header
        application, facility, own = head.component(3), head.component(4), head.component(6)
        event, control_id = message.header.component(9, 2)[:3], message.control_id
        version = head.component(12) if _VERSION.fullmatch(head.component(12)) else version
    kind = "^".join(("ACK", escaped(event), "ACK")) if event else "ACK"
    header = (
        "MSH", "^~\\&", "PATHSEARCH", escaped(own), escaped(application), escaped(facility), now,
        "", kind, escaped(control_id) or now[:14], "P", version, "", "", "", "", "",
        "UNICODE UTF-8",
    )  # fmt: skip
    answer = ("MSA", code, escaped(control_id), escaped(text))
    return "\r".join(("|".join(header), "|".join(answer), ""))


def escaped(text: str) -> str:
    """Return a text as it stands in a field of a message with the usual separators."""
    return _ENDS.sub(" ", text.translate(_ESCAPES))


def _decoded(data: bytes) -> str:
    head = re.split(rb"[\r\n]", data, maxsplit=1)[0].split(data[3:4])
    said = head[17].split(data[5:6])[0].decode("ascii", "replace") if len(head) > 17 else ""
    charset = _CHARSETS.get(said.strip().upper())
    if charset is None:
        raise MessageRefused("The character set of MSH-18 is not known here.")
    try:
        text = data.decode(charset)
    except UnicodeDecodeError as error:
        raise MessageRefused("The bytes are not of the character set of MSH-18.") from error
    if _CONTROL.search(text):
        raise MessageRefused("The message holds control characters.")
    return text


def _unescaped(text: str, marks: str) -> str:
    escape = marks[3]
    if escape not in text:
        return text
    values = {"F": marks[0], "S": marks[1], "R": marks[2], "E": escape, "T": marks[4]}
    parts: Sequence[str] = text.split(escape)
    told = [parts[0]]
    # Between two escape marks stands a name; a mark that has no second is text.
    for at in range(1, len(parts), 2):
        if at + 1 < len(parts):
            told += [values.get(parts[at], ""), parts[at + 1]]
        else:
            told += [escape, parts[at]]
    return "".join(told)
