"""What a QIDO-RS search answers: one dataset in the DICOM JSON model per study, series, instance.

PS3.18 10.6.3.3: the attributes of the standard's tables, and those that were asked for. Patient and
case are what the records say now, everything else what the header says. Counts are of what the
user may have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Count, QuerySet

from cases import identity
from cases.dicomweb import search, veiled
from cases.dicomweb.objects import may_see_label
from cases.dicomweb.virtual import VirtualObject, virtual_objects
from cases.dicomweb.virtual_header import described
from cases.dicomweb.wire.query import Query
from cases.models import DerivedInstance, SlideImage, SlideInstance, SlideInstanceHeader
from cases.wsi.attributes import searchable
from cases.wsi.uids import uid_of

Told = dict[str, Any]


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STUDY = _tags(
    """00080005 00080020 00080030 00080050 00080051 00080056 00080061 00080090
    00081030 00081190 00100010 00100020 00100021 00100030 00100040 0020000D
    00200010 00201206 00201208"""
)
_SERIES = _tags(
    """00080005 00080056 00080060 0008103E 00081190 0020000E 00200011 00201209
    00400244 00400245 00400275"""
)
_INSTANCE = _tags(
    """00080005 00080008 00080016 00080018 00080056 00081190 00083002 00200013
    00280008 00280010 00280011 00280100 00480006 00480007"""
)
# What else belongs to a study or a series, for includefield=all (PS3.3 A.32.8, C.7).
_OF_STUDIES = _STUDY | _tags(
    """00080080 00080081 00080201 00081032 00081048 00081060 00101000 00101002
    00101010 00101020 00101030 00102160 00104000 00321060 00401012"""
)
_OF_SERIES = _SERIES | _tags(
    """00080021 00080031 00080070 00081040 00081050 00081070 00081090 00181000
    00181020 00200052 00201040 00400512 00400518 00400560 00400253 00400254"""
)
LEVELS = {"study": (_STUDY, _OF_STUDIES), "series": (_SERIES, _OF_SERIES), "instance": (_INSTANCE,)}


def _of(vr: str, *values: Any) -> Told:
    kept = [value for value in values if value not in ("", None)]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def record_attributes(image: SlideImage) -> Told:
    """Return patient and case as they are on record."""
    case, patient = image.slide.case, image.slide.case.patient
    name = f"{patient.family_name}^{patient.given_name}".rstrip("^")
    birth_date = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    issuer = {"00400031": _of("UT", case.accession_issuer)}
    return {
        "00080005": _of("CS", "ISO_IR 192"),
        "00080050": _of("SH", case.accession_number),
        "00080051": {"vr": "SQ", "Value": [issuer]} if case.accession_issuer else {"vr": "SQ"},
        "00080056": _of("CS", "ONLINE"),
        "00100010": _of("PN", {"Alphabetic": name} if name else None),
        "00100020": _of("LO", patient.mrn),
        "00100021": _of("LO", patient.mrn_issuer),
        "00100030": _of("DA", birth_date),
        "00100040": _of("CS", patient.sex),
    }


class Results:
    """Makes the datasets of one page.

    levels: whose attributes each shows: ("study",), ("study", "series"), ...
    """

    def __init__(self, user: Any, query: Query, root: str, levels: Sequence[str]) -> None:
        self.user, self.query, self.root, self.levels = user, query, root, levels

    def studies(self, uids: Sequence[str], cases: Iterable[Any]) -> list[Told]:
        """Return stored studies by UID and virtual ones by their case's id."""
        images = self._images_of(uids)
        headers = self._headers(i for images_of in images.values() for i in images_of)
        counts = self._counts([i for found in images.values() for i in found])
        made = self._derived_of([i for found in images.values() for i in found])
        told = []
        for uid in uids:
            of_study = images[uid]
            derived = [one for image in of_study for one in made[image.pk]]
            series = {i.series_instance_uid for i in of_study}
            instances = sum(counts.get((uid, one), 0) for one in series)
            told.append(self._study(uid, of_study, headers, derived, len(series), instances))
        for case in cases:
            of_case = list(self._vendor_images(case))
            derived = [one for d in self._derived_of(of_case).values() for one in d]
            number = sum(len(self.virtual_instances(image)) for image in of_case)
            told.append(self._study(uid_of(case), of_case, {}, derived, len(of_case), number))
        return told

    def series(
        self, images: Sequence[SlideImage], derived: Sequence[DerivedInstance]
    ) -> list[Told]:
        """Return series: of stored images, of virtual ones, of derived objects."""
        stored = [image for image in images if image.series_instance_uid]
        headers, counts = self._headers(stored), self._counts(stored)
        told = []
        for image in images:
            if image.series_instance_uid:
                key = (image.study_instance_uid, image.series_instance_uid)
                told.append(self._one_series(image, *key, headers.get(image.pk), counts.get(key)))
            else:
                header, number = None, len(self.virtual_instances(image))
                uids = (uid_of(image.slide.case_id), uid_of(image.pk))
                told.append(self._one_series(image, *uids, header, number))
        return [*told, *(self._derived_told(one) for one in derived)]

    def instances(
        self,
        stored: Iterable[SlideInstance],
        derived: Iterable[DerivedInstance],
        virtual: Iterable[VirtualObject],
    ) -> list[Told]:
        """Return instances of every kind."""
        told = [self._stored_told(row) for row in stored]
        told += [self._derived_told(one) for one in derived]
        return told + [self._virtual_told(one) for one in virtual]

    def virtual_instances(self, image: SlideImage) -> list[VirtualObject]:
        """Return the instances of a vendor's slide that the user may have."""
        return [
            one
            for one in virtual_objects(image)
            if not one.is_private or may_see_label(self.user, one)
        ]

    def _study(
        self,
        uid: str,
        images: Sequence[SlideImage],
        headers: Mapping[Any, Told],
        derived: Sequence[DerivedInstance],
        series: int,
        instances: int,
    ) -> Told:
        first = images[0]
        header = headers.get(first.pk)
        told = self._common(first, described_told(first) if header is None else header)
        told["0020000D"] = _of("UI", uid)
        told["00081190"] = _of("UR", f"{self.root}/studies/{uid}")
        modalities = {"SM", *(one.modality for one in derived)}
        told["00080061"] = _of("CS", *sorted(modalities))
        told["00201206"] = _of("IS", series + len({d.series_instance_uid for d in derived}))
        told["00201208"] = _of("IS", instances + len(derived))
        return self._kept(told)

    def _one_series(
        self, image: SlideImage, study: str, series: str, header: Told | None, count: int | None
    ) -> Told:
        told = self._common(image, described_told(image) if header is None else header)
        told |= self._uids(study, series)
        told["00080060"] = _of("CS", "SM")
        told["00201209"] = _of("IS", count or 0)
        told["00081190"] = _of("UR", f"{self.root}/studies/{study}/series/{series}")
        return self._kept(told)

    def _stored_told(self, row: SlideInstance) -> Told:
        image = row.slide_image
        try:
            header = row.header.attributes
        except SlideInstanceHeader.DoesNotExist:
            header = {}
        told = self._common(image, header)
        told |= self._uids(
            image.study_instance_uid, image.series_instance_uid, row.sop_instance_uid
        )
        told["00083002"] = _of("UI", row.transfer_syntax_uid)
        told.setdefault("00080016", _of("UI", "1.2.840.10008.5.1.4.1.1.77.1.6"))
        told.setdefault("00080060", _of("CS", "SM"))
        told.setdefault("00280008", _of("IS", row.frame_count))
        told.setdefault("00480006", _of("UL", row.total_columns))
        told.setdefault("00480007", _of("UL", row.total_rows))
        return self._kept(told)

    def _virtual_told(self, one: VirtualObject) -> Told:
        told = self._common(one.slide_image, searchable(one.header()))
        told |= self._uids(one.study_uid, one.series_uid, one.sop_uid)
        told["00083002"] = _of("UI", one.transfer_syntax_uid)
        return self._kept(told)

    def _derived_told(self, row: DerivedInstance) -> Told:
        told = self._common(row.slide_image, {})
        is_instance = self.levels[-1] == "instance"
        told |= self._uids(
            row.study_instance_uid,
            row.series_instance_uid,
            row.sop_instance_uid if is_instance else "",
        )
        told["00080060"] = _of("CS", row.modality)
        told["00200011"] = _of("IS", row.series_number)
        told["0008103E"] = _of("LO", row.series_description)
        told["00201209"] = _of("IS", 1)
        if is_instance:
            told["00080016"] = _of("UI", row.sop_class_uid)
            told["00083002"] = _of("UI", row.transfer_syntax_uid)
            told["00280008"] = _of("IS", row.frame_count)
            told["00280010"] = _of("US", row.rows)
            told["00280011"] = _of("US", row.columns)
        return self._kept(told)

    def _common(self, image: SlideImage, header: Told) -> Told:
        if identity.is_veiled(image):
            header = veiled.told(header, image)
        return {**header, **record_attributes(image)}

    def _uids(self, study: str, series: str, sop: str = "") -> Told:
        told = {"0020000D": _of("UI", study), "0020000E": _of("UI", series)}
        url = f"{self.root}/studies/{study}/series/{series}"
        if sop:
            told["00080018"] = _of("UI", sop)
            url += f"/instances/{sop}"
        return {**told, "00081190": _of("UR", url)}

    def _kept(self, told: Told) -> Told:
        """Return the attributes of the levels and those that were asked for, in order."""
        if self.query.all_fields and "instance" in self.levels:
            return dict(sorted(told.items()))
        which = -1 if self.query.all_fields else 0
        # The UIDs above also where the address says them: a viewer needs not remember.
        above = () if self.levels == ["study"] else (search.STUDY_UID, search.SERIES_UID)
        wanted = {*above, *self.query.fields}
        wanted = wanted.union(*(LEVELS[level][which] for level in self.levels))
        return {tag: told[tag] for tag in sorted(told) if tag in wanted}

    def _images_of(self, uids: Sequence[str]) -> dict[str, list[SlideImage]]:
        images: dict[str, list[SlideImage]] = defaultdict(list)
        rows = search.stored_images(self.user).filter(study_instance_uid__in=uids)
        for image in rows.order_by("study_instance_uid", "series_instance_uid", "pk"):
            images[image.study_instance_uid].append(image)
        return images

    def _vendor_images(self, case: Any) -> QuerySet[SlideImage]:
        return search.vendor_images(self.user).filter(slide__case_id=case).order_by("pk")

    def _headers(self, images: Iterable[SlideImage]) -> dict[Any, Told]:
        """Return the header of each image's finest instance."""
        rows = (
            search.visible_instances(self.user)
            .filter(slide_image__in=[image.pk for image in images], header__isnull=False)
            .order_by("slide_image", "-total_columns", "sop_instance_uid")
            .distinct("slide_image")
        )
        return dict(rows.values_list("slide_image", "header__attributes"))

    def _counts(self, images: Sequence[SlideImage]) -> dict[tuple[str, str], int]:
        """Return the number of instances by study and series."""
        series = [image.series_instance_uid for image in images]
        rows = (
            search.visible_instances(self.user)
            .filter(slide_image__series_instance_uid__in=series)
            .order_by()
            .values_list("slide_image__study_instance_uid", "slide_image__series_instance_uid")
            .annotate(Count("sop_instance_uid", distinct=True))
        )
        return {(study, one): number for study, one, number in rows}

    def _derived_of(self, images: Sequence[SlideImage]) -> dict[Any, list[DerivedInstance]]:
        made: dict[Any, list[DerivedInstance]] = defaultdict(list)
        rows = search.derived(self.user).filter(slide_image__in=[image.pk for image in images])
        for row in rows:
            made[row.slide_image_id].append(row)
        return made


def described_told(image: SlideImage) -> Told:
    """Return what is known of a slide image without its file, as a virtual slide says it."""
    return searchable(described(image))
