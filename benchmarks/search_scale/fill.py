"""Fill an archive of N slides through COPY: the site's own tables, as indexing leaves them."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from benchmarks.search_scale import reports as grammar
from benchmarks.search_scale.vectors import CHUNK, DIMENSION, TOKENS, World

DEPARTMENTS = 50
# Who asks sees one of these departments, or all.
SEES = {"10 %": 1, "1 %": 2, "0.1 %": 3}
SHARES = {1: 0.10, 2: 0.01, 3: 0.001}
TEXT_DIMENSION = 384
_KINDS = {"patient": 1, "case": 2, "specimen": 3, "slide": 4, "image": 5, "report": 6, "index": 7}
_NOW = "2026-01-01 00:00:00+00"


def row_id(kind: str, number: int) -> UUID:
    """Return the id of a row: spread like a random one, and known from its number."""
    mixed = (number * 0x9E3779B97F4A7C15 + _KINDS[kind]) & (2**64 - 1)
    return UUID(int=(mixed << 64) | (0x4 << 76) | (0x8 << 60) | (_KINDS[kind] << 40) | number)


def department_shares() -> np.ndarray:
    """Return the share of the slides of each department (50,): very unequal."""
    rest = 1 / np.arange(1, DEPARTMENTS - len(SHARES) + 1) ** 0.9
    shares = np.zeros(DEPARTMENTS)
    shares[list(SHARES)] = list(SHARES.values())
    shares[[i for i in range(DEPARTMENTS) if i not in SHARES]] = (
        rest / rest.sum() * (1 - sum(SHARES.values()))
    )
    return shares


class Plan:
    """Which slide is of which case, patient, department and diagnosis."""

    def __init__(self, slides: int, world: World) -> None:
        if slides % CHUNK:
            raise SystemExit(f"--slides must be a multiple of {CHUNK}")
        rng = np.random.default_rng(3)
        self.slides, self.world = slides, world
        # Slides of one diagnosis are put together into cases, and cases into patients, at random
        # within a department: 1.7 slides a case, 1.5 cases a patient.
        self.diagnosis = np.concatenate(
            [world.diagnoses(first, CHUNK) for first in range(0, slides, CHUNK)]
        )
        self.cases = int(slides * 0.6)
        self.patients = int(slides * 0.4)
        self.patient_department = rng.choice(DEPARTMENTS, self.patients, p=department_shares())
        self.case_patient = np.concatenate(
            [np.arange(self.patients), rng.integers(0, self.patients, self.cases - self.patients)]
        )
        order = np.argsort(self.diagnosis, kind="stable")
        self.slide_case = np.empty(slides, np.int64)
        cases = rng.permutation(self.cases)
        extra = np.sort(rng.choice(slides, slides - self.cases, replace=False))
        repeat = np.ones(slides, bool)
        repeat[extra] = False  # these are of the case of the slide before
        repeat[0] = True
        at = np.minimum(np.cumsum(repeat) - 1, self.cases - 1)
        self.slide_case[order] = cases[at]
        self.case_diagnosis = np.zeros(self.cases, np.int64)
        self.case_diagnosis[self.slide_case] = self.diagnosis
        self.slide_patient = self.case_patient[self.slide_case]
        self.slide_department = self.patient_department[self.slide_patient]

    def text_of_case(self, case: int) -> int:
        """Return the number of the report text of a case: one of its diagnosis."""
        of_diagnosis = grammar.TEXTS // 300
        return int(self.case_diagnosis[case] + 300 * (case * 7919 % of_diagnosis))


class Filler:
    """Writes an archive into an empty, migrated database."""

    def __init__(self, url: str, plan: Plan, data: Path | None) -> None:
        self.plan, self.url = plan, url
        self.texts = grammar.texts(grammar.notes(data))
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Fill all tables; prints each one's seconds."""
        with psycopg.connect(self.url) as connection:
            register_vector(connection)
            # Triggers and foreign keys are checked where rows come in one by one.
            connection.execute("SET session_replication_role = replica")
            self.connection = connection
            for step in (self._clinical, self._slides, self._reports, self._words, self._vectors):
                started = time.perf_counter()
                step()
                connection.commit()
                self.seconds[step.__name__.strip("_")] = time.perf_counter() - started
                print(f"  {step.__name__.strip('_'):10} {self.seconds[step.__name__[1:]]:7.0f} s")

    def _copy(self, table: str, columns: str, rows: Iterable[tuple]) -> None:
        statement = f"COPY {table} ({columns}) FROM STDIN"
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def _clinical(self) -> None:
        plan = self.plan
        stamp = (_NOW, _NOW)
        departments = [int(d) + 1 for d in plan.patient_department]
        self._copy(
            "cases_patient",
            "id, created_at, updated_at, department_id, mrn, mrn_issuer, family_name, given_name,"
            " sex",
            (
                (row_id("patient", i), *stamp, departments[i], f"P{i}", "m", f"Name{i}", "A", "")
                for i in range(plan.patients)
            ),
        )
        case_departments = plan.patient_department[plan.case_patient] + 1
        self._copy(
            "cases_case",
            "id, created_at, updated_at, department_id, patient_id, accession_number,"
            " accession_issuer, received_on, clinical_history",
            (
                (
                    row_id("case", i),
                    *stamp,
                    int(case_departments[i]),
                    row_id("patient", int(plan.case_patient[i])),
                    f"C{i}",
                    "a",
                    f"20{10 + i % 15}-{1 + i % 12:02}-01",
                    "",
                )
                for i in range(plan.cases)
            ),
        )
        self._copy(
            "cases_specimen",
            'id, created_at, updated_at, case_id, label, organ, "procedure", description',
            (
                (
                    row_id("specimen", i),
                    *stamp,
                    row_id("case", i),
                    "A",
                    grammar.diagnosis_name(int(plan.case_diagnosis[i]))[0],
                    "",
                    "",
                )
                for i in range(plan.cases)
            ),
        )

    def _slides(self) -> None:
        plan = self.plan
        stamp = (_NOW, _NOW)
        stains = grammar.STAINS
        self._copy(
            "cases_slide",
            "id, created_at, updated_at, case_id, specimen_id, label, label_barcode, stain",
            (
                (
                    row_id("slide", i),
                    *stamp,
                    row_id("case", int(case)),
                    row_id("specimen", int(case)),
                    f"{i}",
                    "",
                    stains[i % len(stains)],
                )
                for i, case in enumerate(plan.slide_case)
            ),
        )
        self._copy(
            "cases_slideimage",
            "id, created_at, updated_at, department_id, slide_id, source_format, vendor,"
            " content_sha256, study_instance_uid, series_instance_uid, path, size_bytes, width_l0,"
            " height_l0, level_count, mpp, mpp_source, scanner, is_fluorescence, is_synthetic,"
            " has_label_image",
            (
                (
                    row_id("image", i),
                    *stamp,
                    int(department) + 1,
                    row_id("slide", i),
                    "dicom",
                    "v",
                    f"{i:064x}",
                    f"1.2.{i}",
                    f"1.3.{i}",
                    f"none/{i}",
                    1,
                    50_000,
                    40_000,
                    6,
                    0.5,
                    "file",
                    "s",
                    False,
                    True,
                    False,
                )
                for i, department in enumerate(plan.slide_department)
            ),
        )
        from retrieval.models import EmbeddingModel

        model = EmbeddingModel.objects.get(modality="image", is_active=True)
        self._copy(
            "retrieval_slideindex",
            "id, created_at, updated_at, attempts, progress_done, progress_total, progress_step,"
            " reason_code, reason, department_id, slide_image_id, model_id, state, patch_count,"
            " features_path, timings",
            (
                (
                    row_id("index", i),
                    *stamp,
                    *(1, 1000, 1000, "", "", ""),
                    int(department) + 1,
                    row_id("image", i),
                    model.pk,
                    "indexed",
                    1000,
                    "",
                    Jsonb({}),
                )
                for i, department in enumerate(plan.slide_department)
            ),
        )

    def _reports(self) -> None:
        plan = self.plan

        def rows() -> Iterator[tuple]:
            for case in range(plan.cases):
                text = self.texts[plan.text_of_case(case)]
                yield (
                    row_id("report", case),
                    *(_NOW, _NOW),
                    row_id("case", case),
                    *(1, True, "final"),
                    text.line,
                    text.code,
                    "ICD-O-3",
                    "",
                    text.microscopy,
                    text.gross,
                    "",
                    _NOW,
                )

        self._copy(
            "cases_report",
            "id, created_at, updated_at, case_id, version, is_current, status, diagnosis_line,"
            " diagnosis_code, diagnosis_system, diagnosis_text, microscopic_description,"
            " gross_description, comment, signed_at",
            rows(),
        )

    def _words(self) -> None:
        """Read each distinct text once, by the site's own reader; then a row for each report."""
        from benchmarks.search_scale.words import words_of_texts

        words_of_texts(self.connection, self.texts)
        plan = self.plan
        departments = plan.patient_department[plan.case_patient] + 1
        self.connection.execute("CREATE TEMP TABLE said (report uuid, department bigint, text int)")
        self._copy(
            "said",
            "report, department, text",
            (
                (row_id("report", case), int(departments[case]), plan.text_of_case(case))
                for case in range(plan.cases)
            ),
        )
        self.connection.execute(
            "INSERT INTO retrieval_reportwords"
            " (report_id, department_id, affirmed, denied, reading_version, updated_at)"
            " SELECT report, department, affirmed, denied, reading_version, now()"
            " FROM said JOIN text_words ON text_words.number = said.text"
        )
        self.connection.execute("DROP TABLE said, text_words")

    def _vectors(self) -> None:
        from retrieval.models import EmbeddingModel

        model = EmbeddingModel.objects.get(modality="image", is_active=True)
        text_model = EmbeddingModel.objects.get(modality="text", is_active=True)
        for number in range(self.plan.slides // CHUNK):
            self._copy(
                "retrieval_slideembedding",
                "slide_image_id, department_id, model_id, vector, mosaic, codec_id, cells, places,"
                " created_at",
                self._embeddings(number, model),
            )
        departments = self.plan.patient_department[self.plan.case_patient] + 1
        self._copy(
            "retrieval_reportembedding",
            "report_id, department_id, model_id, vector, created_at",
            (
                (
                    row_id("report", case),
                    int(departments[case]),
                    text_model.pk,
                    HalfVector(text_vector(int(self.plan.case_diagnosis[case]), case)),
                    _NOW,
                )
                for case in range(self.plan.cases)
            ),
        )

    def _embeddings(self, number: int, model) -> Iterator[tuple]:
        from retrieval.fields import places_to_bytes
        from retrieval.services.mosaic_codecs import coded

        chunk = self.plan.world.chunk(number)
        fields = coded(model, chunk.tokens.reshape(-1, DIMENSION))
        size = len(fields["mosaic"]) // CHUNK
        for i in range(CHUNK):
            slide = number * CHUNK + i
            places = [
                {"x_l0": 512 * t, "y_l0": 512 * t, "size_l0": 448, "share": float(share)}
                for t, share in enumerate(chunk.shares[i])
            ]
            yield (
                row_id("image", slide),
                int(self.plan.slide_department[slide]) + 1,
                model.pk,
                HalfVector(chunk.vectors[i]),
                fields["mosaic"][i * size : (i + 1) * size],
                fields["codec_id"],
                fields["cells"][i * TOKENS : (i + 1) * TOKENS],
                places_to_bytes(places),
                _NOW,
            )


def text_vector(diagnosis: int, number: int) -> np.ndarray:
    """Return a report's sentence embedding float32 (384,): its diagnosis and something own."""
    meaning = np.random.default_rng([5, diagnosis]).standard_normal(TEXT_DIMENSION)
    own = np.random.default_rng([6, number]).standard_normal(TEXT_DIMENSION)
    vector = meaning + 0.8 * own
    return (vector / np.linalg.norm(vector)).astype(np.float32)
