"""DICOM instances as DICOMweb sends them: their files, and the index made at their intake.

Instances that were taken in before there was an index, or whose header was too large to travel
from the examining child, get theirs at the first request or by `manage.py index_instances`.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from cases.models import SlideInstance, SlideInstanceHeader, SlideInstanceIndex
from cases.services.slide_readers import SlideUnreadable
from cases.wsi.attributes import searchable
from cases.wsi.errors import WsiError
from cases.wsi.frames import FrameTable, read_frame_table
from cases.wsi.metadata import instance_path, metadata_parts

FILES_MAX = 256


def instance_file(instance: SlideInstance) -> Path:
    """Return the file of an instance; `slide_image` is at hand."""
    return settings.DATA_DIR / instance.slide_image.path / instance.file_name


def without_index() -> QuerySet[SlideInstance]:
    """Return the instances that have none yet."""
    lacking = Q(index__isnull=True) | Q(header__isnull=True)
    return SlideInstance.objects.filter(lacking).select_related("slide_image")


def index_ensure(instances: Sequence[SlideInstance]) -> dict[UUID, SlideInstanceIndex]:
    """Return the index of each instance, by its id, making what is missing.

    Two that make one at the same time write one row.
    """
    keys = [instance.pk for instance in instances]
    found = SlideInstanceIndex.objects.in_bulk(keys)
    missing = [instance for instance in instances if instance.pk not in found]
    for instance in missing:
        SlideInstanceIndex.objects.bulk_create([_made(instance)], ignore_conflicts=True)
    if missing:
        found |= SlideInstanceIndex.objects.in_bulk([instance.pk for instance in missing])
    return found


def _made(instance: SlideInstance) -> SlideInstanceIndex:
    """Return a new index by the instance's file. Raises SlideUnreadable."""
    try:
        dataset, table = read_frame_table(instance_file(instance))
        metadata = metadata_parts(dataset, instance_path(dataset))
        attributes = searchable(dataset)
    except WsiError as error:
        raise SlideUnreadable(error.message, code=error.code) from error
    except Exception as error:  # gone, or damaged since: pydicom raises what that leads to
        raise SlideUnreadable from error
    SlideInstanceHeader.objects.bulk_create(
        [SlideInstanceHeader(instance=instance, attributes=attributes)], ignore_conflicts=True
    )
    return SlideInstanceIndex(instance=instance, metadata=metadata, frame_table=table.pack())


class Kept:
    """A bounded memory of things that never change, the latest used; safe between threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)


class InstanceFile:
    """An open file of an instance and where its frames lie. Closed when nobody holds it."""

    def __init__(self, path: Path, table: FrameTable) -> None:
        self.table = table
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def read(self, number: int) -> bytes:
        """Return the bytes of a frame (from 1). Raises IndexError, SlideUnreadable."""
        return b"".join(self.pread(offset, length) for offset, length in self.table.spans(number))

    def pread(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes. Raises SlideUnreadable."""
        data = os.pread(self.descriptor, length, offset)
        if len(data) != length:
            raise SlideUnreadable
        return data


_open_files = Kept(FILES_MAX)


def open_instance_if_kept(pk: UUID) -> InstanceFile | None:
    """Return the open file, None when this process has not opened it (lately)."""
    return _open_files.get(pk)


def open_instance(instance: SlideInstance) -> InstanceFile:
    """Return the instance's file, opened, with its frame table. Ask `visible_to` before."""
    kept = open_instance_if_kept(instance.pk)
    if kept is not None:
        return kept
    index = index_ensure([instance])[instance.pk]
    try:
        opened = InstanceFile(instance_file(instance), FrameTable.unpack(bytes(index.frame_table)))
    except OSError as error:
        raise SlideUnreadable from error
    _open_files.put(instance.pk, opened)
    return opened


def index_all(instances: Iterable[SlideInstance]) -> tuple[int, list[tuple[UUID, str]]]:
    """Make the index of each; returns how many, and what could not be: (id, code)."""
    made, failed = 0, []
    for instance in instances:
        try:
            SlideInstanceIndex.objects.bulk_create([_made(instance)], ignore_conflicts=True)
            made += 1
        except SlideUnreadable as error:
            failed.append((instance.pk, error.code))
    return made, failed
