"""The allowlist as the accepting thread asks it: in memory, read again every few seconds."""

import ipaddress
import logging
import time

from cases.models import DicomPeer

log = logging.getLogger(__name__)
REFRESH_SECONDS = 2.0


def plain_address(address: str) -> str:
    """Return an IP address as the peers' rows spell it (an IPv4 one never inside IPv6)."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


class PeerBook:
    """The active peers by (AE title, address)."""

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], DicomPeer] = {}
        self._addresses: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def refresh(self) -> None:
        """Read the peers again when the last reading is some seconds old."""
        if time.monotonic() - self._read_at < REFRESH_SECONDS:
            return
        rows = list(DicomPeer.objects.filter(is_active=True))
        self._peers = {(row.ae_title, plain_address(row.address)): row for row in rows}
        self._addresses = frozenset(address for _title, address in self._peers)
        self._read_at = time.monotonic()

    def is_listed(self, address: str) -> bool:
        """Return whether any peer has this address."""
        return plain_address(address) in self._addresses

    def find(self, ae_title: str, address: str) -> DicomPeer | None:
        """Return the active peer of this AE title at this address."""
        return self._peers.get((ae_title.strip(), plain_address(address)))
