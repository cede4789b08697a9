"""Reads of retrieval: what a user may see of questions, answers and choices."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.postgres.search import SearchHeadline
from django.contrib.postgres.search import SearchQuery as FullTextQuery
from django.db.models import Case as Choose
from django.db.models import Prefetch, QuerySet, TextField, Value, When
from django.db.models.functions import Concat, Left
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from cases import identity
from cases.models import Case, Cohort, Department, Patient, Report, SlideImage
from cases.permissions import is_presenting
from retrieval.engine.ranking import VoteLine
from retrieval.filters import SearchFilters
from retrieval.fulltext import any_of
from retrieval.models import EmbeddingModel, Feedback, SavedSearch, SearchHit, SearchQuery
from retrieval.selectors_vote import WeighedVote, person, weighed_vote

EXCERPT_CHARACTERS = 4000
# Private-use characters: no report has them, and escaping leaves them alone.
_MARK_START, _MARK_STOP = "\ue000", "\ue001"


@dataclass
class ResultHit:
    """A hit as one reader sees it; ranks count visible hits only."""

    hit: SearchHit
    rank: int
    image_rank: int | None
    text_rank: int | None
    report: Report | None
    same_patient: bool
    patient_rank: int
    excerpt: SafeString
    verdict: str

    @property
    def slide_image(self) -> SlideImage:
        """Return the scan."""
        return self.hit.slide_image

    @property
    def case(self) -> Case:
        """Return the case of the scan."""
        return self.hit.slide_image.slide.case

    @property
    def patient(self) -> Patient:
        """Return the patient of the scan."""
        return self.case.patient

    @property
    def diagnosis(self) -> Report | None:
        """Return the current report where it is signed: only then it gives the diagnosis."""
        return self.report if self.report and self.report.is_signed else None

    @property
    def image_meter(self) -> str:
        """Return the image similarity for a bar from 0 to 1."""
        return _meter(self.hit.image_similarity)

    @property
    def text_meter(self) -> str:
        """Return the text similarity for a bar from 0 to 1."""
        return _meter(self.hit.text_similarity)


@dataclass(frozen=True)
class Results:
    """The answer to a query as one reader may see it."""

    query: SearchQuery
    hits: list[ResultHit]
    vote: WeighedVote
    is_own: bool

    def vote_evidence(self) -> list["VoteEvidence"]:
        """Return each line of the vote with the hits that stand behind it."""
        by_rank = {hit.rank: hit for hit in self.hits}
        return [
            VoteEvidence(line, self.vote.base_rate(line), [by_rank[rank] for rank in line.ranks])
            for line in self.vote.lines
        ]

    @property
    def agreement_percent(self) -> float:
        """Return the share of the voters with the leading diagnosis, in percent."""
        return 100 * self.vote.weight.agreement

    @property
    def expected_percent(self) -> float:
        """Return how often neighbours as near as the voters agreed, in percent."""
        return 100 * (self.vote.weight.expected or 0.0)

    def shown_patients(self) -> set[tuple[UUID, int]]:
        """Return (patient, department) of everybody on the page, for the audit."""
        shown = {(hit.patient.pk, hit.patient.department_id) for hit in self.hits}
        if self.query.slide_image:
            patient = self.query.slide_image.slide.case.patient
            shown.add((patient.pk, patient.department_id))
        return shown


@dataclass(frozen=True)
class VoteEvidence:
    """A line of the vote, how common its diagnosis is anyway, and the hits that voted."""

    line: VoteLine
    base_rate: float
    hits: list[ResultHit]

    @property
    def label(self) -> str:
        """Return the diagnosis as it is shown."""
        return self.line.label

    @property
    def patients(self) -> int:
        """Return how many patients had it."""
        return self.line.patients

    @property
    def share(self) -> float:
        """Return their share of the voters."""
        return self.line.share

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the ranks of the hits."""
        return self.line.ranks

    @property
    def base_percent(self) -> float:
        """Return the base rate in percent."""
        return 100 * self.base_rate


def searches_of(user: Any) -> QuerySet[SearchQuery]:
    """Return the user's own questions that the user may still read, newest first."""
    own = SearchQuery.objects.visible_to(user).filter(user=user, is_automatic=False)
    own = _with_tissue(own)
    # A page of questions needs to know of the pictures, not to load them.
    return own.annotate(
        has_picture=Choose(When(image_jpeg=b"", then=Value(False)), default=Value(True))
    ).defer("vector", "mosaic", "image_jpeg", "image_model__centre", "text_model__centre")


def saved_searches_of(user: Any) -> list[SavedSearch]:
    """Return the user's saved searches whose questions the user may still read."""
    if is_presenting(user):
        return []  # a name that was given for oneself
    queries = _with_tissue(SearchQuery.objects.visible_to(user))
    saved = SavedSearch.objects.filter(user=user, query__in=queries.values("pk"))
    return list(saved.prefetch_related(Prefetch("query", queries.defer("image_jpeg"))))


def new_matches_of(user: Any) -> int:
    """Return how many new slides answer the user's saved searches."""
    return sum(
        len(fresh)
        for fresh in SavedSearch.objects.filter(user=user)
        .exclude(fresh=[])
        .values_list("fresh", flat=True)
    )


def search_visible_or_404(user: Any, pk: UUID | str) -> SearchQuery:
    """Return a question that the user may read, whoever asked it."""
    return _with_tissue(SearchQuery.objects.all()).get_visible_or_404(user, pk=pk)


def _with_tissue(queries: QuerySet[SearchQuery]) -> QuerySet[SearchQuery]:
    return queries.select_related(
        "user", "slide_image__slide__case__patient", "image_model", "text_model"
    ).defer("vector", "mosaic", "image_model__centre", "text_model__centre")


def filters_shown(user: Any, query: SearchQuery) -> list[tuple[str, str, str]]:
    """Return (name, value, field) of the query's filters, as far as the reader may know of them."""
    filters = SearchFilters.from_json(query.filters)
    department = cohort = None
    if filters.department:
        department = Department.objects.visible_to(user).filter(pk=filters.department).first()
    if filters.cohort:
        cohort = Cohort.objects.visible_to(user).filter(pk=filters.cohort).first()
    named = [
        (_("Department"), str(department or ""), "department"),
        (_("Organ"), filters.organ, "organ"),
        (_("Stain"), filters.stain, "stain"),
        (_("Diagnosis code"), filters.diagnosis_code, "diagnosis_code"),
        (_("Received from"), filters.received_from, "received_from"),
        (_("Received to"), filters.received_to, "received_to"),
        (_("Cohort"), str(cohort or ""), "cohort"),
    ]
    return [(name, value, field) for name, value, field in named if value]


def search_results(query: SearchQuery, user: Any) -> Results:
    """Return the answer for this reader: visible hits, ranked anew, and a vote over these."""
    reports = Prefetch(
        "slide_image__slide__case__reports",
        Report.objects.filter(is_current=True).defer("search_vector"),
    )
    hits = list(
        SearchHit.objects.visible_to(user)
        .filter(query=query)
        .select_related(
            "slide_image__department",
            "slide_image__slide__case__patient",
            "slide_image__slide__specimen",
        )
        .prefetch_related(reports)
        .order_by("rank")
    )
    for hit in hits:
        hit.query = query
    own = person(query.slide_image.slide.case.patient) if query.slide_image else None
    image_ranks = _dense(hit.image_rank for hit in hits)
    text_ranks = _dense(hit.text_rank for hit in hits)
    current = {hit.pk: hit.slide_image.slide.case.current_report for hit in hits}
    excerpts = _excerpts([report for report in current.values() if report], query)
    verdicts = dict(
        Feedback.objects.filter(user=user, hit__in=hits).values_list("hit_id", "verdict")
    )
    first_of: dict[tuple[str, str], int] = {}
    for rank, hit in enumerate(hits, start=1):
        first_of.setdefault(person(hit.slide_image.slide.case.patient), rank)
    shown = [
        ResultHit(
            hit=hit,
            rank=rank,
            image_rank=image_ranks.get(hit.image_rank),
            text_rank=text_ranks.get(hit.text_rank),
            report=current[hit.pk],
            same_patient=own is not None and own == person(hit.slide_image.slide.case.patient),
            patient_rank=first_of[person(hit.slide_image.slide.case.patient)],
            excerpt=excerpts.get(current[hit.pk].pk, mark_safe("")) if current[hit.pk] else "",
            verdict=verdicts.get(hit.pk, ""),
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    vote = weighed_vote(user, query, shown)
    return Results(query, shown, vote, is_own=query.user_id == user.pk)


def _meter(similarity: float | None) -> str:
    # A text, so that no language writes it with a decimal comma.
    return f"{min(1.0, max(0.0, similarity or 0.0)):.3f}"


def _dense(ranks: Iterable[int | None]) -> dict[int | None, int]:
    """Return 1, 2, 3 … for the ranks that occur: gaps would tell of hidden hits."""
    present = sorted({rank for rank in ranks if rank is not None})
    return {rank: position for position, rank in enumerate(present, start=1)}


def _words_to_mark(query: SearchQuery) -> Any:
    """Return the tsquery of all that is to be marked: names and synonyms, or the bare words."""
    texts = query.understood.get("marked")
    if texts:
        return any_of(FullTextQuery(t, search_type="phrase", config="english") for t in texts)
    words = " OR ".join(query.text.replace('"', " ").replace("-", " ").split())
    return FullTextQuery(words, search_type="websearch", config="english") if words else None


def _excerpts(reports: list[Report], query: SearchQuery) -> dict[UUID, SafeString]:
    """Return by report the passages with the words asked for, marked; escaped before."""
    marked = _words_to_mark(query)
    if marked is None or not reports:
        return {}
    text: Any = Concat(
        "diagnosis_line",
        Value(". "),
        "diagnosis_text",
        Value(" "),
        "microscopic_description",
        Value(" "),
        "comment",
        Value(" "),
        "case__clinical_history",
        Value(" "),
        "gross_description",
        output_field=TextField(),
    )
    veiled = [report for report in reports if identity.is_veiled(report)]
    if veiled:  # the rows have been cleaned, the columns have not
        cleaned = (When(pk=report.pk, then=Value(report.full_text)) for report in veiled)
        text = Choose(*cleaned, default=text, output_field=TextField())
    rows = Report.objects.filter(pk__in={report.pk for report in reports}).annotate(
        _excerpt=SearchHeadline(
            Left(text, EXCERPT_CHARACTERS),
            marked,
            config="english",
            start_sel=_MARK_START,
            stop_sel=_MARK_STOP,
            max_words=45,
            min_words=20,
            max_fragments=2,
            fragment_delimiter=" … ",
        )
    )
    return {pk: _marked(excerpt) for pk, excerpt in rows.values_list("pk", "_excerpt")}


def _marked(excerpt: str) -> SafeString:
    safe = str(escape(excerpt))
    return mark_safe(  # noqa: S308  (escaped above; only our own two tags are put in)
        safe.replace(_MARK_START, "<mark>").replace(_MARK_STOP, "</mark>")
    )


def models_shown(query: SearchQuery) -> list[EmbeddingModel]:
    """Return the models that the answer rests on."""
    return [model for model in (query.image_model, query.text_model) if model]
