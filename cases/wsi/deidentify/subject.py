"""Whose slide is exported, and under which pseudonyms."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta

from cases.wsi.deidentify.keys import ProjectKey, shifted


@dataclass(frozen=True)
class Subject:
    """What tells patient, case, glass and specimen apart; never written, only hashed.

    Attributes
    ----------
    patient
        The same for all slides of one person: issuer and number.
    case, container, specimen
        The same for all scans of one case, glass slide or part.
    """

    patient: str
    case: str
    container: str
    specimen: str


@dataclass
class Pseudonyms:
    """The pseudonyms of one slide under a key; `issued` remembers everything given out."""

    key: ProjectKey
    subject: Subject
    issued: set[str] = field(default_factory=set)
    _paths: dict[str, str] = field(default_factory=dict)

    def _give(self, value: str) -> str:
        self.issued.add(value)
        return value

    def uid(self, original: str) -> str:
        """Return the new UID."""
        return self._give(self.key.uid(original))

    @property
    def patient(self) -> str:
        """Return the patient's pseudonym."""
        return self._give(self.key.name("patient", "P", self.subject.patient))

    @property
    def case(self) -> str:
        """Return the case's pseudonym."""
        return self._give(self.key.name("case", "C", self.subject.case))

    @property
    def container(self) -> str:
        """Return the glass slide's pseudonym."""
        return self._give(self.key.name("container", "S", self.subject.container))

    @property
    def specimen(self) -> str:
        """Return the specimen's pseudonym."""
        return self._give(self.key.name("specimen", "T", self.subject.specimen))

    def device(self, serial_number: str) -> str:
        """Return the scanner's pseudonym."""
        return self._give(self.key.name("device", "D", serial_number))

    def date(self, text: str) -> str:
        """Return a DICOM date (YYYYMMDD...) moved by the patient's shift, empty for none."""
        match = re.match(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", text.strip())
        try:
            original = date(*map(int, match.groups())) if match else None
        except ValueError:
            original = None
        if original is None:
            return ""
        return self._give(shifted(original, self.shift).strftime("%Y%m%d"))

    @property
    def shift(self) -> timedelta:
        """Return the shift of the patient's dates."""
        return self.key.shift(self.subject.patient)

    def path(self, identifier: str) -> str:
        """Return the number that stands for an optical path's identifier within the slide."""
        return self._paths.setdefault(identifier, str(len(self._paths) + 1))
