"""Makes an export: slide by slide de-identified, read anew and searched, put into one ZIP.

Nothing can be fetched before all of it is proved clean. Killed at any point, it begins anew in
an empty folder; the file is renamed into place before the row says that it is ready.
"""

import logging
import time
import traceback
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import DomainError, InsufficientStorage, LeaseLost
from cases.models import Export, ExportItem, SlideImage
from cases.services import store, work
from cases.services.audit import Action, access_events_listed
from cases.services.export_manifest import (
    diagnosis_of,
    manifest_csv,
    manifest_json,
    manifest_row,
    manifest_values,
    manifest_words,
)
from cases.services.export_projects import project_key
from cases.services.export_sources import slide_sources, subject_of
from cases.services.exports import (
    RUN_TASK,
    NothingToExport,
    expiry,
    export_file,
    export_folder,
)
from cases.services.queue import enqueue
from cases.services.slide_readers import SlideUnreadable
from cases.wsi.deidentify import (
    Identifiers,
    LeakError,
    ProjectKey,
    Pseudonyms,
    export_instance,
    scan_file,
    scan_words,
)
from cases.wsi.errors import WsiError
from cases.wsi.values import sha256_of_file

log = logging.getLogger(__name__)

_MIB = 2**20
_BEAT_SECONDS = 1.0
# The zip says of every entry that it was written then: no time of ours.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class RightsGone(DomainError):
    """Whoever asked for the export may not have it any more."""

    code = "rights_gone"
    message = _("The person who asked for this export may not export any more.")


def export_run(export_id: UUID | str) -> None:
    """Make a queued export; nothing happens when it is not to be had."""
    lease = work.claim(Export, export_id)
    if lease is None:
        return
    try:
        _Run(lease).make()
    except LeaseLost:
        log.warning("export %s was taken over by another worker", export_id)
    except InsufficientStorage as error:
        _give_back(lease, error.code, error.message)
    except (DomainError, WsiError) as error:
        # Another attempt would end in the same way: fail now, and loudly.
        log.error("export %s failed: %s", export_id, error.code)
        _fail(lease, error.code, error.message)
    except Exception as error:
        # The message may quote a header, so only the kind and the place are logged.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("export %s: %s\n%s", export_id, type(error).__name__, where)
        _give_back(
            lease, "unexpected_error", f"The export stopped unexpectedly ({type(error).__name__})."
        )


def _fail(lease: work.Lease, code: str, reason: str) -> None:
    try:
        lease.finish(work.FAILED, reason_code=code, reason=reason[:500])
    except LeaseLost:
        return
    store.remove(export_folder(lease.pk))


def _give_back(lease: work.Lease, code: str, reason: str) -> None:
    try:
        with transaction.atomic():
            if lease.give_back(reason_code=code, reason=reason):
                enqueue(RUN_TASK, Export.objects.get(pk=lease.pk))
    except LeaseLost:
        log.warning("export %s was taken over by another worker", lease.pk)


@dataclass
class _Run:
    """One attempt at one export."""

    lease: work.Lease
    rows: list[dict[str, Any]] = field(default_factory=list)
    issued: set[str] = field(default_factory=set)
    identifiers: Identifiers = field(default_factory=Identifiers)
    patients: set[tuple[Any, int]] = field(default_factory=set)
    items: list[ExportItem] = field(default_factory=list)
    _done: int = 0
    _total: int = 0
    _beat_at: float = 0.0

    def make(self) -> None:
        """Make the whole of it."""
        export = Export.objects.select_related("project", "requested_by").get(pk=self.lease.pk)
        self.export, self.user = export, export.requested_by
        key = project_key(export.project)
        folder = export_folder(export.pk)
        store.remove(folder)
        # A folder per attempt: a worker that lost its lease cannot disturb its successor.
        work_folder = folder / f"{self.lease.token}.partial"
        work_folder.mkdir(parents=True)
        items = list(export.items.select_related(*_ITEM_ROWS).order_by("created_at", "pk"))
        sizes = [item.slide_image.size_bytes for item in items]
        self._total = sum(sizes)
        store.require_free_space(self._total + max(sizes, default=0))
        archive = work_folder / "export.zip"
        with store.naming_a_full_disk():
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
                for item in items:
                    self._item(item, key, work_folder, target)
                    self._done += item.slide_image.size_bytes
                if not self.rows:
                    raise NothingToExport
                self._manifest(key, target)
            store.fsync(archive)
        self._finish(archive, sha256_of_file(archive, self._beat))
        store.remove(work_folder)

    def _finish(self, archive: Path, sha256: str) -> None:
        self._beat(force=True)
        archive.replace(export_file(self.export))
        store.fsync(export_folder(self.export.pk))
        with work.result_transaction(
            self.lease,
            Export.State.FINISHED,
            size_bytes=export_file(self.export).stat().st_size,
            sha256=sha256,
            expires_at=expiry(),
            slide_count=sum(item.state == ExportItem.State.EXPORTED for item in self.items),
            patient_count=len({row["patient"] for row in self.rows}),
            instance_count=len(self.rows),
        ):
            ExportItem.objects.bulk_update(
                self.items, ["state", "reason_code", "reason", "instance_count"], batch_size=500
            )
            access_events_listed(
                user=self.user,
                action=Action.EXPORT,
                object_type="export",
                object_id=str(self.export.pk),
                subjects=self.patients,
                detail={"act": "exported"},
            )

    def _item(
        self, item: ExportItem, key: ProjectKey, folder: Path, target: zipfile.ZipFile
    ) -> None:
        """Export one slide, or note why it is left out. An identifier left ends everything."""
        self._beat(force=True)
        self.items.append(item)
        # Asked anew for each slide: a role or a membership may end while this runs.
        user = type(self.user).objects.get(pk=self.user.pk)
        if not permissions.may(user, "export_deidentified", self.export.department_id):
            raise RightsGone
        visible = SlideImage.objects.visible_to(user).filter(
            pk=item.slide_image_id, department_id=self.export.department_id
        )
        if not visible.exists():
            self._leave_out(item, "not_visible", "The slide is not open to the requester any more.")
            return
        try:
            item.instance_count = self._slide(item.slide_image, key, folder, target)
        except LeakError:
            log.error("export %s: slide image %s", self.export.pk, item.slide_image_id)
            raise
        except (WsiError, SlideUnreadable) as error:
            self._leave_out(item, error.code, error.message)
            return
        except OSError as error:
            if error.errno in store.FULL:
                raise
            self._leave_out(item, "unreadable", "The slide's file cannot be read.")
            return
        item.state, item.reason_code, item.reason = ExportItem.State.EXPORTED, "", ""

    @staticmethod
    def _leave_out(item: ExportItem, code: str, reason: str) -> None:
        item.state, item.instance_count = ExportItem.State.LEFT_OUT, 0
        item.reason_code, item.reason = code, reason[:500]

    def _slide(
        self, slide_image: SlideImage, key: ProjectKey, folder: Path, target: zipfile.ZipFile
    ) -> int:
        """Write all instances of a slide, prove them clean, then add them; return how many."""
        names = Pseudonyms(key, subject_of(slide_image))
        sources = slide_sources(slide_image)
        rows: list[dict[str, Any]] = []
        files: list[Path] = []
        try:
            for number, source in enumerate(sources.instances, start=1):
                file = folder / f"{number}.dcm"
                files.append(file)
                written = export_instance(
                    source,
                    file,
                    names,
                    instance_number=number,
                    tick=lambda done: self._beat(),
                )
                scan_file(file, sources.identifiers, names.issued, self._beat)
                series = key.name("folder", "", written.series_instance_uid)
                row = manifest_row(
                    file=f"{names.patient}/{names.container}-{series}/{number}.dcm",
                    sha256=sha256_of_file(file, self._beat),
                    written=written,
                    names=names,
                    slide_image=slide_image,
                )
                if self.export.with_diagnoses:
                    row |= diagnosis_of(slide_image.slide.case.current_report)
                rows.append(row)
            for file, row in zip(files, rows, strict=True):
                self._add(target, row["file"], file)
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        self.rows += rows
        self.issued |= names.issued | {row["file"] for row in rows} | {r["sha256"] for r in rows}
        self.identifiers.texts |= sources.identifiers.texts
        self.identifiers.uids |= sources.identifiers.uids
        self.patients.add((slide_image.slide.case.patient_id, slide_image.department_id))
        return len(rows)

    def _add(self, target: zipfile.ZipFile, name: str, file: Path) -> None:
        entry = zipfile.ZipInfo(name, _NO_TIME)
        with file.open("rb") as reader, target.open(entry, "w", force_zip64=True) as writer:
            while piece := reader.read(store.COPY_BYTES):
                writer.write(piece)
                self._beat()

    def _manifest(self, key: ProjectKey, target: zipfile.ZipFile) -> None:
        project = key.name("project", "X")
        issued = self.issued | {project} | manifest_words(self.rows)
        for name, data in (
            ("manifest.csv", manifest_csv(self.rows, with_diagnoses=self.export.with_diagnoses)),
            ("manifest.json", manifest_json(self.rows, project=project)),
        ):
            scan_words(manifest_values(name, data), name, self.identifiers, issued)
            target.writestr(zipfile.ZipInfo(name, _NO_TIME), data)

    def _beat(self, force: bool = False) -> None:
        """Renew the lease about once a second. Raises LeaseLost when it was taken over."""
        now = time.monotonic()
        if force or now - self._beat_at >= _BEAT_SECONDS:
            self._beat_at = now
            self.lease.heartbeat(
                done=self._done // _MIB, total=max(1, self._total // _MIB), step="exporting"
            )


_ITEM_ROWS = (
    "slide_image__department",
    "slide_image__slide__specimen",
    "slide_image__slide__block",
    "slide_image__slide__case__patient",
)
