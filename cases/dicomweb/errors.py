"""What DICOMweb refuses, by name. The site's handler makes problem+json of each."""

from http import HTTPStatus

from django.utils.translation import gettext_lazy as _

from cases.errors import Conflict, DomainError


class BadDicomRequest(DomainError):
    """The request is not what PS3.18 says it should be."""

    code = "bad_request"
    message = _("The request is not a DICOMweb request that can be read.")


class NotAcceptable(DomainError):
    """No representation that we have is one that the client accepts."""

    http_status = HTTPStatus.NOT_ACCEPTABLE
    code = "not_acceptable"
    message = _("None of the accepted media types can be sent.")


class UnsupportedMediaType(DomainError):
    """The body is of a type that is not taken here."""

    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    message = _("The body must be multipart/related with parts of application/dicom.")


class PayloadTooLarge(DomainError):
    """More was sent than one request may hold."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "request_too_large"
    message = _("The request is too large. Send the instances in several requests.")


class DepartmentNeeded(Conflict):
    """The sender acts for several departments and names none."""

    code = "department_needed"
    message = _(
        "You may upload for several departments. Name one with ?department=<code>, "
        "or use a token of one department."
    )
