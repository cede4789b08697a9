"""Watches every log record of the test run for patients: names, MRNs, accession numbers.

Logs carry ids, never names. What is watched for is every patient and case that a test makes.
"""

import logging
import re

from django.db.models.signals import post_save

from pathsearch_site.log_filters import RouteForPath

_WORD = re.compile(r"[\w.-]+")
# Words of test data that also mean something else in a log line.
_COMMON = {"patient", "unknown", "anonymous", "given", "family", "none", "test", "case"}


class LogWatch(logging.Handler):
    """Collects records that hold the name, MRN or accession number of a patient made so far."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.addFilter(RouteForPath())  # as on the site's own handler
        self.seeded: set[str] = set()
        self.found: list[str] = []

    def remember(self, sender, instance, **_kwargs) -> None:
        """Signal receiver: note what must not be logged of a new patient or case."""
        kind = sender._meta.label_lower
        if kind == "cases.patient":
            texts = (instance.family_name, instance.given_name, instance.mrn)
        elif kind == "cases.case":
            texts = (instance.accession_number,)
        else:
            return
        for text in texts:
            # Short texts stand for anything.
            if len(text or "") >= 4 and text.lower() not in _COMMON:
                self.seeded.add(text)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" {record.exc_info[1]}"
        words = set(_WORD.findall(text))
        words |= {word.strip("-._") for word in words}
        if shown := words & self.seeded:
            self.found.append(f"{record.name} ({record.pathname}:{record.lineno}) logs {shown}")

    def start(self) -> None:
        """Listen from now on."""
        post_save.connect(self.remember, weak=False, dispatch_uid=id(self))
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """Listen no more."""
        logging.getLogger().removeHandler(self)
        post_save.disconnect(dispatch_uid=id(self))
