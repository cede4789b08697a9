"""A progress bar on a terminal, and plain lines where there is none."""

import time
from typing import TextIO

_WIDTH = 30
_SECONDS = 0.2


class ProgressBar:
    """Shows how many of all steps are done, with the time that is left.

    Parameters
    ----------
    stream : text stream
        On a terminal the bar is drawn over itself; elsewhere each tenth is a line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began: tuple[float, int] | None = None
        self._shown_at = 0.0
        self._tenth = -1
        self._is_open = False

    def say(self, message: str) -> None:
        """Write a line; a bar that is being drawn stays above it."""
        if self._is_open:
            self._stream.write("\n")
            self._is_open = False
        self._stream.write(f"{message}\n")
        self._stream.flush()

    def show(self, done: int, total: int) -> None:
        """Show that `done` of `total` steps are done."""
        now = time.monotonic()
        if self._began is None:
            # What an earlier, killed run did is not counted into the speed.
            self._began = (now, done)
        tenth = 10 * done // max(1, total)
        if self._stream.isatty():
            if done < total and now - self._shown_at < _SECONDS:
                return
            filled = _WIDTH * done // max(1, total)
            bar = "#" * filled + "." * (_WIDTH - filled)
            self._stream.write(f"\r[{bar}] {done}/{total}{self._left(now, done, total)}   ")
            self._is_open = True
        elif tenth > self._tenth:
            self._stream.write(f"{done} of {total} steps{self._left(now, done, total)}\n")
        self._shown_at, self._tenth = now, tenth
        self._stream.flush()

    def _left(self, now: float, done: int, total: int) -> str:
        assert self._began is not None
        began, first = self._began
        if done <= first or done >= total:
            return ""
        seconds = (now - began) / (done - first) * (total - done)
        return f", {seconds // 60:.0f} min {seconds % 60:.0f} s left"
