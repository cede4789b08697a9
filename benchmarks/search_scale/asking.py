"""One client: asks the site's own `search_run`, as one of four users, by one kind of question."""

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.search_scale.fill import SEES, row_id, text_vector
from benchmarks.search_scale.reports import diagnosis_name
from benchmarks.search_scale.vectors import CHUNK, World

USERS = ["100 %", *SEES]
KINDS = ["slide", "region", "words", "common word", "slide and words", "words to tissue"]


def percentiles(seconds: list[float]) -> str:
    """Return p50, p95 and p99 in milliseconds."""
    return "".join(
        f"{value:8.1f}" for value in np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    )


@dataclass
class Question:
    """A question that is ready to be asked, and the slide that it is about."""

    kind: str
    slide: int
    diagnosis: int
    ask: dict


class Client:
    """Holds a user, and questions about slides that the user sees."""

    def __init__(self, sees: str, world: World, seed: int) -> None:
        from django.contrib.auth import get_user_model

        from retrieval.models import EmbeddingModel, SlideEmbedding

        self.user = get_user_model().objects.get(username=f"sees {sees}")
        self.rng = np.random.default_rng(seed)
        self.model = EmbeddingModel.objects.get(modality="image", is_active=True)
        self.world = world
        rows = SlideEmbedding.objects.visible_to(self.user).filter(model=self.model)
        # Numbers are in the ids: the last 40 bits.
        ids = rows.order_by("slide_image_id").values_list("slide_image_id", flat=True)[:600]
        self.slides = [int(pk) & (2**40 - 1) for pk in ids]

    def question(self, kind: str, slide: int | None = None, *, is_exact: bool = False) -> Question:
        """Return one question of this kind, about a slide that the user sees.

        is_exact: a region is of the token as an encoder would give it, which takes a second to
        make again; otherwise as the database has it.
        """
        from cases.models import SlideImage
        from retrieval.models import SearchQuery

        slide = int(self.rng.choice(self.slides)) if slide is None else slide
        image = SlideImage.objects.get(pk=row_id("image", slide))
        diagnosis = int(self.world.diagnoses(slide // CHUNK * CHUNK, CHUNK)[slide % CHUNK])
        organ, entity = diagnosis_name(diagnosis)
        words = f"{organ.lower()} {entity}"
        if kind == "slide":
            return Question(kind, slide, diagnosis, {"slide_image": image})
        if kind == "words":
            return Question(kind, slide, diagnosis, {"text": words})
        if kind == "words to tissue":
            return Question(kind, slide, diagnosis, {"text": words})
        if kind == "common word":
            return Question(kind, slide, diagnosis, {"text": "carcinoma"})
        if kind == "slide and words":
            return Question(kind, slide, diagnosis, {"slide_image": image, "text": words})
        token = self._token(slide, is_exact)
        region = SearchQuery(
            slide_image=image,
            region={"x_l0": 0, "y_l0": 0, "width_l0": 2000, "height_l0": 2000},
            image_model=self.model,
            vector=token,
            mosaic=token.astype("<f2").tobytes(),
            places=[{"x_l0": 0, "y_l0": 0, "size_l0": 2000, "share": 1.0}],
        )
        return Question("region", slide, diagnosis, {"repeat": region})

    def _token(self, slide: int, is_exact: bool) -> np.ndarray:
        from retrieval.models import SlideEmbedding

        if is_exact:
            return self.world.chunk(slide // CHUNK).tokens[slide % CHUNK, -1]
        row = SlideEmbedding.objects.select_related("model").get(
            slide_image=row_id("image", slide), model=self.model
        )
        return row.as_mosaic().tokens[-1]

    def ask(self, question: Question) -> tuple[float, dict, list[int]]:
        """Return seconds, stages and the slides that answered, best first."""
        from cases.row_scope import acting_for_user
        from retrieval.models import SearchHit
        from retrieval.services.search import search_run

        _Meaning.diagnosis = question.diagnosis
        _Meaning.tissue = question.kind == "words to tissue"
        started = time.perf_counter()
        with acting_for_user(self.user):  # the second lock, as in a request
            made = search_run(self.user, **question.ask)
        seconds = time.perf_counter() - started
        hits = SearchHit.objects.filter(query=made).order_by("rank")
        answered = [int(pk) & (2**40 - 1) for pk in hits.values_list("slide_image_id", flat=True)]
        return seconds, made.timings, answered


class _Meaning:
    """What the encoders would say: they are not part of this measurement."""

    diagnosis = 0
    tissue = False


def without_encoders(world: World) -> None:
    """Let words have the vectors of their diagnosis, without a text encoder.

    Encoding a sentence takes some 20 ms on one core in the encoder process; it is left out.
    """
    from retrieval.engine.mosaic import normalised
    from retrieval.models import EmbeddingModel
    from retrieval.services import text_search

    def texts(model, asked):
        return np.stack([text_vector(_Meaning.diagnosis, 10**9) for _ in asked])

    def slides(model, asked):
        kinds = world.of_diagnosis[_Meaning.diagnosis]
        latent = world.tissues[kinds].mean(0) + 0.75 * world.shared[_Meaning.diagnosis]
        return normalised(np.stack([latent @ world.axes for _ in asked]))

    def among_slides(part, spoken):
        if not _Meaning.tissue:
            return part
        model = EmbeddingModel.objects.get(modality="image", is_active=True)
        return text_search.replace(part, slide_model=model, slide_vector=slides(model, [spoken])[0])

    text_search.encode_texts = texts
    text_search._among_slides = among_slides
