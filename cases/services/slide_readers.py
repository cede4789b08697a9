"""Open slides of this process: opening one takes longer than reading a tile of it.

Least recently used readers are closed; one that another thread still reads from is closed
when that thread is done.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from cases.errors import DomainError
from cases.models import SlideImage
from cases.services.veiled_pixels import require_clean
from cases.wsi.errors import WsiError
from cases.wsi.reader import SlideReader, open_slide


class SlideUnreadable(DomainError):
    """The slide is on record, but its file cannot be read now; `code` says why."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "slide_unreadable"
    message = _("The file of this slide cannot be read. Tell the operator of the site.")


@dataclass(eq=False)
class _Open:
    """A reader that is kept, and how many threads read from it now."""

    lock: Lock = field(default_factory=Lock)
    reader: SlideReader | None = None
    users: int = 0
    is_evicted: bool = False


class ReaderCache:
    """Keeps up to `capacity` readers open. Safe to use from several threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, _Open] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @contextmanager
    def reader(self, key: Hashable, open_: Callable[[], SlideReader]) -> Iterator[SlideReader]:
        """Lend the reader of the key, opening it at the first call."""
        entry = self._acquire(key)
        try:
            # Only those who wait for the same slide wait here.
            with entry.lock:
                if entry.reader is None:
                    entry.reader = open_()
            yield entry.reader
        except WsiError:
            # It may have been replaced or repaired on disk: open it anew next time.
            self._forget(key, entry)
            raise
        finally:
            self._release(entry)

    def clear(self) -> None:
        """Close every reader that is not in use; the others when they are given back."""
        with self._lock:
            entries = list(self._kept.values())
            self._kept.clear()
            idle = self._evict(entries)
        self._close(idle)

    def _acquire(self, key: Hashable) -> _Open:
        with self._lock:
            entry = self._kept.setdefault(key, _Open())
            self._kept.move_to_end(key)
            entry.users += 1
            surplus = [
                self._kept.popitem(last=False)[1]
                for _ in range(max(0, len(self._kept) - self._capacity))
            ]
            idle = self._evict(surplus)
        self._close(idle)
        return entry

    def _release(self, entry: _Open) -> None:
        with self._lock:
            entry.users -= 1
            idle = [entry] if entry.is_evicted and not entry.users else []
        self._close(idle)

    def _forget(self, key: Hashable, entry: _Open) -> None:
        with self._lock:
            if self._kept.get(key) is entry:
                del self._kept[key]
            entry.is_evicted = True

    @staticmethod
    def _evict(entries: list[_Open]) -> list[_Open]:
        for entry in entries:
            entry.is_evicted = True
        return [entry for entry in entries if not entry.users]

    @staticmethod
    def _close(entries: list[_Open]) -> None:
        for entry in entries:
            if entry.reader is not None:
                entry.reader.close()


_cache = ReaderCache(settings.OPEN_SLIDES_MAX)


@contextmanager
def slide_reader(slide_image: SlideImage) -> Iterator[SlideReader]:
    """Lend the open reader of a slide image. Raises SlideUnreadable with the named reason."""
    require_clean(slide_image)
    path = settings.DATA_DIR / slide_image.path
    # A series that gained instances has another hash, and must be opened anew.
    key = (slide_image.pk, slide_image.path, slide_image.mpp, slide_image.content_sha256)
    try:
        with _cache.reader(key, lambda: open_slide(path, mpp=slide_image.mpp)) as reader:
            yield reader
    except WsiError as error:
        raise SlideUnreadable(error.message, code=error.code) from error
    except OSError as error:
        raise SlideUnreadable from error
