"""Ids as forms send them."""

from uuid import UUID


def uuids_of(texts: list[str]) -> list[UUID]:
    """Return those of the texts that are ids; what is none is passed over."""
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
