"""Latency of searches, and whether filters cost recall.

    python -m benchmarks.query --slides 100000 --queries 40

Fills a scratch database (made beside the site's own, dropped at the end) with synthetic
slides of the default model's shape: clusters of unit vectors in 1280 dimensions, 16 mosaic
tokens each, in 100 departments. Then times, in one run:

* whole searches (`search_run`, with storing and audit) by slide, region, words, slide and
  words, for users who see all, 10 % and 1 % of the slides;
* the nearest slides alone, by exact scan in Postgres, by HNSW, and by brute force in NumPy
  over the visible rows held in memory, with recall@10 against that brute force.

Query encoding is left out: its time is that of benchmarks.indexing per patch. A region's 16
tokens and the words' vector are made here.
"""

import argparse
import time
import uuid

import numpy as np

from benchmarks.scratch import scratch_database

DIMENSION, TEXT_DIMENSION, TOKENS = 1280, 384, 16
DEPARTMENTS = 100
CLUSTERS = 300
WORDS = ["gland", "nest", "necrosis", "keratin", "pearl", "mitosis", "stroma", "mucin", "acinar"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the scratch database")
    asked = parser.parse_args()

    with scratch_database(keep=asked.keep):
        measure(asked.slides, asked.queries, np.random.default_rng(asked.seed))


def measure(slides: int, queries: int, rng: np.random.Generator) -> None:
    """Fill, time, print."""
    archive = Archive(slides, rng)
    print(f"{slides} slides in {DEPARTMENTS} departments, {queries} queries of each kind")
    print(f"filled in {archive.fill_seconds:.0f} s, HNSW built in {archive.index_seconds:.0f} s\n")
    print("whole searches                  p50 ms   p95 ms")
    for name, user in archive.users.items():
        for kind in ("slide", "region", "words", "slide and words"):
            times = [archive.search(user, kind, rng) for _ in range(queries)]
            print(f"{name:12} {kind:17} {_percentiles(times)}")
    print("\nnearest 200 slides              p50 ms   p95 ms   recall@10")
    for name, user in archive.users.items():
        for line in archive.neighbours(user, queries, rng):
            print(f"{name:12} {line}")


def _percentiles(seconds: list[float]) -> str:
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return f"{p50:9.1f}{p95:9.1f}"


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class Archive:
    """The synthetic archive and its three users."""

    def __init__(self, slides: int, rng: np.random.Generator) -> None:
        from django.db import connection

        from retrieval.models import ReportEmbedding, SlideEmbedding
        from retrieval.querysets import vector_index_ensure, vector_index_name
        from retrieval.services import text_search
        from retrieval.services.models import ensure_default_models

        self.image_model, self.text_model = ensure_default_models()
        self.centres = _unit(rng.normal(size=(CLUSTERS, DIMENSION)))
        self.departments = self._departments()
        self.users = {f"sees {share:.0%}": self._user(share) for share in (1.0, 0.1, 0.01)}
        tables = ((SlideEmbedding, self.image_model), (ReportEmbedding, self.text_model))
        with connection.cursor() as cursor:
            for table, model in tables:
                cursor.execute(f"DROP INDEX IF EXISTS {vector_index_name(table, model)}")
        start = time.perf_counter()
        self._fill(slides, rng)
        self.fill_seconds = time.perf_counter() - start
        start = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SET maintenance_work_mem = '2GB'")
        for table, model in tables:
            vector_index_ensure(table, model)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        self.index_seconds = time.perf_counter() - start
        # Words of a cluster mean its direction in the text space.
        self.text_centres = _unit(rng.normal(size=(CLUSTERS, TEXT_DIMENSION)))
        text_search.encode_texts = lambda model, texts: self.text_centres[
            [hash(text) % CLUSTERS for text in texts]
        ]

    def _departments(self) -> list:
        from cases.models import Department

        return Department.objects.bulk_create(
            Department(code=f"d{i}", name=f"Department {i}", mrn_issuer="m", accession_issuer="a")
            for i in range(DEPARTMENTS)
        )

    def _user(self, share: float):
        from django.contrib.auth import get_user_model

        from cases.models import Membership
        from cases.permissions import Role

        user = get_user_model().objects.create(username=f"user-{share}")
        Membership.objects.bulk_create(
            Membership(user=user, department=department, role=Role.PATHOLOGIST)
            for department in self.departments[: round(share * DEPARTMENTS)]
        )
        return user

    def _fill(self, slides: int, rng: np.random.Generator, batch: int = 1000) -> None:
        for first in range(0, slides, batch):
            self._fill_batch(range(first, min(first + batch, slides)), rng)

    def _fill_batch(self, numbers: range, rng: np.random.Generator) -> None:
        from cases.models import Case, Patient, Report, Slide, SlideImage, Specimen
        from retrieval.models import ReportEmbedding, SlideEmbedding

        owners = [self.departments[number % DEPARTMENTS] for number in numbers]
        patients = Patient.objects.bulk_create(
            Patient(department=d, mrn=f"{n}", mrn_issuer="m")
            for n, d in zip(numbers, owners, strict=True)
        )
        cases = Case.objects.bulk_create(
            Case(department=p.department, patient=p, accession_number=p.mrn, accession_issuer="a")
            for p in patients
        )
        specimens = Specimen.objects.bulk_create(
            Specimen(case=case, label="A", organ=("Lung", "Colon")[n % 2])
            for n, case in zip(numbers, cases, strict=True)
        )
        glass = Slide.objects.bulk_create(
            Slide(case=s.case, specimen=s, label="A1", stain="H&E") for s in specimens
        )
        images = SlideImage.objects.bulk_create(
            SlideImage(
                department=g.case.department,
                slide=g,
                source_format="vendor",
                content_sha256=uuid.uuid4().hex,
                path="none",
                size_bytes=1,
                width_l0=50_000,
                height_l0=50_000,
                level_count=8,
                mpp=0.25,
                mpp_source="file",
            )
            for g in glass
        )
        clusters = rng.integers(CLUSTERS, size=len(numbers))
        tokens = self.tissue(clusters, rng)
        places = [
            {"x_l0": 448 * i, "y_l0": 448 * i, "size_l0": 448, "share": 1 / TOKENS}
            for i in range(TOKENS)
        ]
        SlideEmbedding.objects.bulk_create(
            SlideEmbedding(
                slide_image=image,
                department=image.department,
                model=self.image_model,
                vector=_unit(mosaic.mean(0)).tolist(),
                mosaic=mosaic.astype("<f2").tobytes(),
                places=places,
            )
            for image, mosaic in zip(images, tokens, strict=True)
        )
        reports = Report.objects.bulk_create(
            Report(
                case=case,
                version=1,
                status="final",
                diagnosis_line=f"Diagnosis {cluster % 20}",
                diagnosis_code=f"C{cluster % 20}",
                diagnosis_text=" ".join(rng.choice(WORDS, 30)),
            )
            for case, cluster in zip(cases, clusters, strict=True)
        )
        vectors = _unit(rng.normal(size=(len(reports), TEXT_DIMENSION)))
        ReportEmbedding.objects.bulk_create(
            ReportEmbedding(
                report=report,
                department=report.case.department,
                model=self.text_model,
                vector=vector.tolist(),
            )
            for report, vector in zip(reports, vectors, strict=True)
        )

    def tissue(self, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return tokens (n, 16, D) around the cluster centres, spread like real tissue is."""
        noise = rng.normal(size=(len(clusters), TOKENS, DIMENSION)).astype(np.float32)
        own = rng.normal(size=(len(clusters), 1, DIMENSION)).astype(np.float32)
        scale = 1 / np.sqrt(DIMENSION)
        return _unit(self.centres[clusters][:, None] + 0.8 * scale * own + 0.8 * scale * noise)

    def search(self, user, kind: str, rng: np.random.Generator) -> float:
        """Return the seconds of one whole search of this kind."""
        from cases.models import SlideImage
        from retrieval.engine.mosaic import Mosaic
        from retrieval.models import SearchQuery
        from retrieval.services.search import search_run

        ask = {}
        if "slide" in kind:
            visible = SlideImage.objects.visible_to(user).select_related("slide__case__patient")
            ask["slide_image"] = visible.order_by("pk")[int(rng.integers(visible.count()))]
        if "words" in kind:
            ask["text"] = " ".join(rng.choice(WORDS, 2, replace=False))
        if kind == "region":
            tokens = self.tissue(rng.integers(CLUSTERS, size=1), rng)[0]
            places = [{"x_l0": 0, "y_l0": 0, "size_l0": 448, "share": 1 / TOKENS}] * TOKENS
            mosaic = Mosaic(tokens, places, _unit(tokens.mean(0)))
            ask["repeat"] = SearchQuery.objects.create(
                user=user,
                scope_department_ids=[],
                image_jpeg=b"-",
                image_model=self.image_model,
                vector=mosaic.slide_vector.tolist(),
                mosaic=mosaic.token_bytes(),
                places=places,
            )
        start = time.perf_counter()
        search_run(user, **ask)
        return time.perf_counter() - start

    def neighbours(self, user, queries: int, rng: np.random.Generator):
        """Yield a line per way of finding the nearest 200 of what the user sees."""
        from retrieval.models import SlideEmbedding

        rows = SlideEmbedding.objects.visible_to(user).filter(model=self.image_model)
        keys, vectors = [], []
        for key, vector in rows.values_list("slide_image_id", "vector").iterator(chunk_size=2000):
            keys.append(key)
            vectors.append(np.asarray(vector, np.float32))
        matrix = np.stack(vectors)
        asked = _unit(self.tissue(rng.integers(CLUSTERS, size=queries), rng).mean(1))
        limit = min(200, len(keys))
        truth, times = [], []
        for vector in asked:
            start = time.perf_counter()
            similarity = matrix @ vector
            best = np.argpartition(-similarity, limit - 1)[:limit]
            best = best[np.argsort(-similarity[best], kind="stable")]
            times.append(time.perf_counter() - start)
            truth.append({keys[i] for i in best[:10]})
        yield f"{'NumPy in memory':17} {_percentiles(times)}        1.000"
        for name, exact in (("exact scan", True), ("HNSW", False)):
            times, found = [], []
            for vector in asked:
                start = time.perf_counter()
                near = rows.nearest(
                    model=self.image_model,
                    vector=vector,
                    limit=limit,
                    key="slide_image_id",
                    exact=exact,
                )
                times.append(time.perf_counter() - start)
                found.append({n.key for n in near[:10]})
            hits = [len(f & t) / len(t) for f, t in zip(found, truth, strict=True)]
            yield f"{name:17} {_percentiles(times)}{np.mean(hits):12.3f}"


if __name__ == "__main__":
    main()
