"""Reads answers the way a client does."""

import email
from email.policy import HTTP


def body_of(response) -> bytes:
    if response.streaming:
        return b"".join(response.streaming_content)
    return response.content


def parts_of(response) -> list:
    """Return (content type, bytes) of each part, parsed by Python's own MIME parser."""
    assert response.status_code == 200, body_of(response)[:500]
    assert response["Content-Type"].startswith("multipart/related")
    body = body_of(response)
    if "Content-Length" in response.headers:
        assert int(response["Content-Length"]) == len(body)
    head = f"Content-Type: {response['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=HTTP)
    boundary = message.get_boundary().encode()
    found = []
    for piece in body.split(b"\r\n--" + boundary)[1:-1]:
        _empty, _, rest = piece.partition(b"\r\n")
        part_head, _, content = rest.partition(b"\r\n\r\n")
        found.append((email.message_from_bytes(part_head)["Content-Type"], content))
    return found
