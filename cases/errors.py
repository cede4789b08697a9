"""Errors that people can act on: each has a code, a sentence and an HTTP status.

One handler turns them into problem+json in the API; pages show the same sentence.
"""

from http import HTTPStatus

from django.utils.translation import gettext_lazy as _


class DomainError(Exception):
    """Something was asked for that the rules of the house refuse, with the reason."""

    http_status = HTTPStatus.BAD_REQUEST
    code = "refused"
    message = _("The request was refused.")

    def __init__(self, message: str = "", *, code: str = "") -> None:
        # In the language of who is answered: a worker's, which is kept, is English.
        self.message = str(message or self.message)
        self.code = code or self.code
        super().__init__(self.message)


class Conflict(DomainError):
    """The request contradicts what is on record."""

    http_status = HTTPStatus.CONFLICT
    code = "conflict"


class LeaseLost(DomainError):
    """Another worker took this job over; whatever was computed must not be written."""

    http_status = HTTPStatus.CONFLICT
    code = "lease_lost"
    message = _("This job was taken over by another worker.")


class Refused(DomainError):
    """A slide cannot be taken in; `code` names the reason (see cases.wsi.errors)."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY


class InsufficientStorage(DomainError):
    """There is no room on the disk for this upload."""

    http_status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "no_disk_space"
    message = _("The server has no free disk space for this upload. Ask the operator to make room.")
