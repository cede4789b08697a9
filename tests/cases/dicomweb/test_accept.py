"""Which media type a client wants, and what a header that cannot be read does."""

import pytest

from cases.dicomweb.wire.accept import choose, parse_accept, parse_media_type

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'


def chosen(header: str, *offers: str) -> str | None:
    found = choose(parse_accept(header), offers)
    return found and found[0]


@pytest.mark.parametrize(
    ("header", "offers", "expected"),
    [
        ("", (DICOM,), DICOM),
        ("*/*", (DICOM, OCTETS), DICOM),
        ("multipart/*", (OCTETS,), OCTETS),
        (OCTETS, (DICOM, OCTETS), OCTETS),
        ("multipart/related", (DICOM, OCTETS), DICOM),
        ('multipart/related; type="image/jpeg"', (DICOM, OCTETS), None),
        ("image/jpeg;q=0.5, image/jp2", ("image/jpeg", "image/jp2"), "image/jp2"),
        ("image/jpeg;q=0, */*", ("image/jp2",), "image/jp2"),
        ("application/dicom+json", ("application/dicom+json",), "application/dicom+json"),
        ("text/html", ("application/dicom+json",), None),
        ("nonsense, application/json", ("application/json",), "application/json"),
    ],
)
def test_the_first_acceptable_offer_is_chosen(header, offers, expected):
    assert chosen(header, *offers) == expected


def test_parameters_keep_what_quotes_hold():
    media = parse_media_type('multipart/related; type="application/dicom"; boundary="a;b,c\\"d"')
    assert media.parameters == {"type": "application/dicom", "boundary": 'a;b,c"d'}
    (accept,) = parse_accept(
        'multipart/related; type="application/octet-stream"; transfer-syntax=*; q=0.3'
    )
    assert (accept.root, accept.transfer_syntax) == ("application/octet-stream", "*")
    assert accept.quality == 0.3


@pytest.mark.parametrize(
    "text", ["", "dicom", "a/b; c", "a/b; q=x", "a/b; c=1; c=2", "a b/c", "a/b; c=" + "1" * 5000]
)
def test_what_is_no_media_type_is_refused(text):
    with pytest.raises(ValueError):
        parse_media_type(text)
