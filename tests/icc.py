"""ICC profiles that tests can tell apart by eye."""

from functools import cache

from PIL import ImageCms


@cache  # its date of making would differ
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """Return a profile in whose numbers red and green have changed places."""
    profile = srgb()
    one, other = b"rXYZ", b"gXYZ"
    at = [profile.index(name, 128) for name in (one, other)]
    assert max(at) < 512  # names in the table of tags, not data
    profile = profile.replace(one, b"????", 1).replace(other, one, 1)
    return profile.replace(b"????", other, 1)
