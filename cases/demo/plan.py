"""What the demo archive holds: departments, users, patients, cases, slides and reports.

Everything follows from the number of a slide, so that a longer archive begins with the
shorter one, and a second run plans the same.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from cases.demo.dicom import SlideHeader
from cases.demo.stain import SCANNERS
from cases.demo.wording import DIAGNOSES, Diagnosis, Sentences

SYNTHETIC_NOTE = "Synthetic demo case: slide, patient and report were made by a program."
MRN_ISSUER = "Harbour Region Patient Index"
_FIRST_DAY = date(2026, 1, 12)
_FAMILY = (
    "Abara",
    "Bergström",
    "Castellanos",
    "Dimitrova",
    "Eriksen",
    "Fontaine",
    "Gunawan",
    "Haddad",
    "Ivanova",
    "Jimenez",
    "Kowalczyk",
    "Lindqvist",
    "Moreau",
    "Nakagawa",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rahman",
    "Silva",
    "Tanaka",
    "Ueda",
    "Vargas",
    "Weiss",
    "Xu",
    "Yilmaz",
    "Zimmer",
    "Amsel",
    "Brandt",
    "Cordero",
    "Duval",
    "Esposito",
    "Farrell",
)
_FEMALE = (
    "Ada",
    "Beatriz",
    "Chiara",
    "Dilnoza",
    "Elif",
    "Fatima",
    "Greta",
    "Hana",
    "Ines",
    "Joy",
    "Kavya",
    "Leonor",
)
_MALE = (
    "Aleks",
    "Bruno",
    "Chen",
    "Diego",
    "Emeka",
    "Farid",
    "Goran",
    "Hugo",
    "Ivan",
    "Jonas",
    "Karim",
    "Luca",
)


@dataclass(frozen=True)
class PlannedDepartment:
    """A department and its two scanners: the first writes DICOM, the second TIFF."""

    code: str
    name: str
    initial: str
    scanners: tuple[str, str]

    @property
    def accession_issuer(self) -> str:
        """Return who numbers the cases."""
        return f"{self.name} LIS"


DEPARTMENTS = (
    PlannedDepartment("northside", "Northside Hospital", "N", ("Aurora 40", "Aurora 20")),
    PlannedDepartment("lakeview", "Lakeview Medical Center", "L", ("Meridian S", "Meridian X")),
)


@dataclass(frozen=True)
class PlannedPatient:
    """A made-up person."""

    mrn: str
    family_name: str
    given_name: str
    birth_date: date
    sex: str


@dataclass(frozen=True)
class PlannedSlide:
    """One slide, with its place in a case and everything needed to paint it."""

    key: str
    """Tells the slide apart in the archive, and names its folder in the upload."""
    seed: int
    department: PlannedDepartment
    diagnosis: Diagnosis
    patient: PlannedPatient
    accession_number: str
    label: str
    is_dicom: bool
    received_on: date
    case_seed: int

    @property
    def barcode(self) -> str:
        """Return what is printed on the glass and stated as container in DICOM."""
        return f"{self.accession_number}-{self.label}"

    @property
    def scanner(self) -> str:
        """Return the name of the scanner."""
        return self.department.scanners[0 if self.is_dicom else 1]

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in level-0 pixels."""
        rng = np.random.default_rng([self.seed, 7])
        return int(rng.integers(2600, 3500)), int(rng.integers(2500, 3200))

    def header(self) -> SlideHeader:
        """Return what the DICOM headers state."""
        return SlideHeader(
            mrn=self.patient.mrn,
            mrn_issuer=MRN_ISSUER,
            family_name=self.patient.family_name,
            given_name=self.patient.given_name,
            birth_date=f"{self.patient.birth_date:%Y%m%d}",
            sex=self.patient.sex,
            accession_number=self.accession_number,
            accession_issuer=self.department.accession_issuer,
            container_id=self.barcode,
            specimen_id=f"{self.accession_number}-A",
            organ=self.diagnosis.organ,
            scanned_on=f"{self.received_on + timedelta(days=2):%Y%m%d}",
            scanner=self.scanner,
            mpp=SCANNERS[self.scanner].mpp,
        )


def planned_slides(count: int) -> list[PlannedSlide]:
    """Return the first `count` slides: diagnoses in turn, then departments, then rounds."""
    return [_slide(number) for number in range(count)]


def _slide(number: int) -> PlannedSlide:
    kind = number % len(DIAGNOSES)
    place = number // len(DIAGNOSES) % len(DEPARTMENTS)
    turn = number // (len(DIAGNOSES) * len(DEPARTMENTS))
    diagnosis, department = DIAGNOSES[kind], DEPARTMENTS[place]
    # Of four rounds the first two are one case with two slides, then follow single slides.
    is_second = turn % 4 == 1
    first_turn = turn - 1 if is_second else turn
    case_seed = (first_turn * len(DEPARTMENTS) + place) * len(DIAGNOSES) + kind
    received_on = _FIRST_DAY + timedelta(days=case_seed * 37 % 300)
    return PlannedSlide(
        key=f"demo-{department.code}-{number:03}",
        seed=4200 + number,
        department=department,
        diagnosis=diagnosis,
        patient=_patient(kind, place, first_turn),
        accession_number=f"{department.initial}26-{1000 + case_seed}",
        label="A1-2" if is_second else "A1-1",
        is_dicom=(turn + kind + place) % 2 == 0,
        received_on=received_on,
        case_seed=case_seed,
    )


def _patient(kind: int, place: int, turn: int) -> PlannedPatient:
    """Return whose case it is.

    Some people come back: the third round's normal tissue is from the tumor patients of the
    same organ, and the fourth round's breast patient is treated in both departments.
    """
    keys = [diagnosis.key for diagnosis in DIAGNOSES]
    if turn % 4 == 2 and keys[kind].endswith("_normal"):
        kind = keys.index(keys[kind].replace("_normal", "_adenocarcinoma"))
    if turn % 4 == 3 and keys[kind] == "breast_ductal":
        place = 0
    number = (turn * len(DEPARTMENTS) + place) * len(DIAGNOSES) + kind
    rng = np.random.default_rng([number, 11])
    diagnosis = DIAGNOSES[kind]
    sex = diagnosis.sex or "FM"[int(rng.integers(2))]
    given = _FEMALE if sex == "F" else _MALE
    age = int(rng.integers(diagnosis.ages[0], diagnosis.ages[1] + 1))
    return PlannedPatient(
        mrn=f"HR{700000 + number * 137}",
        family_name=_FAMILY[number % len(_FAMILY)],
        given_name=given[int(rng.integers(len(given)))],
        birth_date=date(2026 - age, int(rng.integers(1, 13)), int(rng.integers(1, 29))),
        sex=sex,
    )


def case_data(slides: list[PlannedSlide]) -> dict:
    """Return what the LIS would send about the case of these slides (see case_upsert)."""
    first = slides[0]
    words = _Words(first)
    return {
        "accession_number": first.accession_number,
        "accession_issuer": first.department.accession_issuer,
        "received_on": first.received_on,
        "clinical_history": words.pick(first.diagnosis.histories),
        "patient": {
            "mrn": first.patient.mrn,
            "mrn_issuer": MRN_ISSUER,
            "family_name": first.patient.family_name,
            "given_name": first.patient.given_name,
            "birth_date": first.patient.birth_date,
            "sex": first.patient.sex,
        },
        "specimens": [
            {
                "label": "A",
                "organ": first.diagnosis.organ,
                "procedure": words.slots["procedure"].capitalize(),
                "description": words.slots["site"].capitalize(),
                "blocks": [{"label": "A1"}],
            }
        ],
        "slides": [
            {
                "label": slide.label,
                "label_barcode": slide.barcode,
                "stain": "H&E",
                "specimen": "A",
                "block": "A1",
            }
            for slide in slides
        ],
    }


def report_versions(slide: PlannedSlide) -> list[dict]:
    """Return the versions of the case's report, oldest first (see report_upsert)."""
    diagnosis, words = slide.diagnosis, _Words(slide)
    content = {
        "diagnosis_line": diagnosis.line,
        "diagnosis_code": diagnosis.code,
        "diagnosis_system": "ICD-O-3" if diagnosis.code else "",
        "gross_description": words.section(diagnosis.gross),
        "microscopic_description": words.section(diagnosis.microscopy),
        "diagnosis_text": words.section(diagnosis.conclusion),
        "comment": SYNTHETIC_NOTE,
    }
    signed_at = datetime.combine(
        slide.received_on + timedelta(days=int(words.rng.integers(2, 7))),
        time(int(words.rng.integers(9, 17)), int(words.rng.integers(60))),
        tzinfo=UTC,
    )
    chance = (slide.case_seed * 29 + 50) % 100
    if chance < 8:
        return [{"status": "preliminary", **content}]
    final = {"status": "final", "signed_at": signed_at, **content}
    if chance < 16:
        more = "Amended after immunohistochemistry, which confirms the diagnosis. "
        later = signed_at + timedelta(days=4)
        amended = {"status": "amended", "signed_at": later, **content}
        return [final, {**amended, "comment": more + SYNTHETIC_NOTE}]
    return [final]


class _Words:
    """Picks wordings and fills their slots, the same for one case."""

    def __init__(self, slide: PlannedSlide) -> None:
        self.rng = np.random.default_rng([slide.case_seed, 13])
        integers, diagnosis = self.rng.integers, slide.diagnosis
        self.slots = {
            "procedure": self.pick(diagnosis.procedures).lower(),
            "site": self.pick(diagnosis.sites),
            "size": f"{integers(8, 52) / 10:.1f}",
            "percent": str(5 * integers(12, 19)),
            "low": str(5 * integers(2, 5)),
            "grade": str(integers(2, 4)),
            "mitoses": str(integers(6, 21)),
            "pack": str(5 * integers(4, 12)),
            "weeks": str(integers(4, 20)),
            "budding": f"Bd1, {integers(1, 5)} buds",
        }

    def pick(self, wordings: tuple[str, ...]) -> str:
        """Return one of the wordings with its slots filled."""
        chosen = wordings[int(self.rng.integers(len(wordings)))]
        return chosen.format(**self.slots) if hasattr(self, "slots") else chosen

    def section(self, sentences: Sentences) -> str:
        """Return a sentence of each, as one paragraph."""
        return " ".join(self.pick(wordings) for wordings in sentences)
