"""Media types of DICOM web services, and which of them a client accepts.

PS3.18 8.7.4 and 8.7.5: the Accept header, or the `accept` query parameter where a browser
cannot set it; RFC 9110 12.5.1 for ranges and weights, RFC 2387 for multipart/related.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_HEADER_CHARS = 4096
MAX_RANGES = 64


@dataclass(frozen=True)
class MediaType:
    """One media type or range.

    Attributes
    ----------
    name
        `type/subtype` in lower case; either may be `*`.
    parameters
        Without `q`; names in lower case, values without their quotes.
    quality
        Weight of a range, 0 to 1; 0 means "not this".
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def root(self) -> str:
        """Return what a multipart/related wraps (its `type`), or the type itself."""
        if self.name == "multipart/related":
            return self.parameters.get("type", "*/*").lower()
        return self.name

    @property
    def transfer_syntax(self) -> str:
        """Return the `transfer-syntax` parameter: a UID, `*`, or empty when not said."""
        return self.parameters.get("transfer-syntax", "")


def parse_media_type(text: str) -> MediaType:
    """Return the media type of a Content-Type header, or one entry of an Accept header.

    Raises
    ------
    ValueError
        When it is none.
    """
    if len(text) > MAX_HEADER_CHARS:
        raise ValueError("the media type is too long")
    name, *rest = _split(text, ";")
    name = name.strip().lower()
    kind, slash, subtype = name.partition("/")
    if not (slash and _is_token(kind) and _is_token(subtype)):
        raise ValueError("this is no media type")
    parameters: dict[str, str] = {}
    quality = 1.0
    for part in rest:
        key, equals, value = part.partition("=")
        key, value = key.strip().lower(), _unquoted(value.strip())
        if not key and not equals:
            continue
        if not (equals and _is_token(key)) or key in parameters:
            raise ValueError("a parameter of the media type cannot be read")
        if key == "q":
            quality = min(1.0, max(0.0, float(value)))
        else:
            parameters[key] = value
    return MediaType(name, parameters, quality)


def parse_accept(text: str) -> list[MediaType]:
    """Return what is accepted, the most wanted first; what cannot be read is left out.

    An empty text accepts everything.
    """
    if not text.strip():
        return [MediaType("*/*")]
    found = []
    for entry in _split(text[:MAX_HEADER_CHARS], ",")[:MAX_RANGES]:
        try:
            found.append(parse_media_type(entry))
        except ValueError:
            continue
    # Stable: among equal weights the order of the client counts.
    return sorted((r for r in found if r.quality > 0), key=lambda r: -r.quality)


def choose(accepted: Sequence[MediaType], offers: Sequence[str]) -> tuple[str, MediaType] | None:
    """Return the first offer that the client accepts, and by which range; None for none.

    Parameters
    ----------
    accepted
        From `parse_accept`.
    offers
        Media types, best first. A multipart offer is written by what it wraps:
        `multipart/related; type="application/dicom"`.
    """
    kinds = [parse_media_type(offer) for offer in offers]
    for accept in accepted:
        for offer, kind in zip(offers, kinds, strict=True):
            if _covers(accept, kind):
                return offer, accept
    return None


def _covers(accept: MediaType, offer: MediaType) -> bool:
    if accept.name == "*/*":
        return True
    if accept.name.endswith("/*"):
        return offer.name.startswith(accept.name[:-1])
    if accept.name != offer.name:
        return False
    return accept.name != "multipart/related" or accept.root in ("*/*", offer.root)


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quoted strings."""
    parts, current, is_quoted, is_escaped = [], "", False, False
    for character in text:
        if is_quoted and is_escaped:
            is_escaped = False
        elif is_quoted and character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == separator and not is_quoted:
            parts.append(current)
            current = ""
            continue
        current += character
    return [*parts, current]


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
        return value.replace('\\"', '"').replace("\\\\", "\\")
    return value


def _is_token(text: str) -> bool:
    return bool(text) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in text)
