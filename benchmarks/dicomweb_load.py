"""A client that asks as fast as a server answers: raw HTTP/1.1 over kept connections.

Little more is done per answer than finding its end, so that the server is what is measured.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass
class Load:
    """What one measurement gave."""

    seconds: float
    spent: list[float]
    received_bytes: int
    dropped: int = 0  # connections that the server ended without an answer

    def summary(self) -> dict[str, float]:
        """Return answers per second, median and 95th percentile of the wait in ms, MB/s."""
        ordered = sorted(self.spent)
        return {
            "per_second": round(len(ordered) / self.seconds, 1),
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
            "p95_ms": round(ordered[int(len(ordered) * 0.95)] * 1000, 2),
            "megabytes_per_second": round(self.received_bytes / self.seconds / 1e6, 1),
            "dropped_connections": self.dropped,
        }


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, headers and body."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ", 2)[1]), headers, body

    async def _chunks(self) -> bytes:
        pieces = []
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(pieces)


def request_bytes(host: str, path: str, headers: dict[str, str]) -> bytes:
    """Return a GET as bytes."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def load(
    host: str,
    port: int,
    connections: int,
    seconds: float,
    requests: Callable[[int], Sequence[bytes]],
    check: Callable[[int, dict[str, str], bytes], None],
) -> Load:
    """Ask over so many connections at once for so long.

    Parameters
    ----------
    requests
        What connection number n asks for, over and over.
    check
        Raises when an answer is not what it should be; called for each.
    """
    return asyncio.run(_load(host, port, connections, seconds, requests, check))


async def _load(host, port, connections, seconds, requests, check) -> Load:
    open_ones = [
        Connection(*await asyncio.open_connection(host, port, limit=1 << 24))
        for _ in range(connections)
    ]
    for connection in open_ones:  # each server warms up on every connection
        for request in requests(0)[:4]:
            check(*await connection.ask(request))
    result = Load(0.0, [], 0)
    began = time.perf_counter()
    end = began + seconds

    async def work(number: int) -> None:
        connection = open_ones[number]
        asked = requests(number)
        place = 0
        while (start := time.perf_counter()) < end:
            try:
                status, headers, body = await connection.ask(asked[place % len(asked)])
            except (asyncio.IncompleteReadError, ConnectionError):
                # The time until the answer to the next try counts as no answer's.
                result.dropped += 1
                connection.writer.close()
                connection = Connection(*await asyncio.open_connection(host, port, limit=1 << 24))
                open_ones[number] = connection
                continue
            result.spent.append(time.perf_counter() - start)
            check(status, headers, body)
            result.received_bytes += len(body)
            place += 1

    await asyncio.gather(*(work(number) for number in range(len(open_ones))))
    result.seconds = time.perf_counter() - began
    for connection in open_ones:
        connection.writer.close()
    return result
