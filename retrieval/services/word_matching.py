"""Conditions on reports for what words ask: in SQL, on rows that are visible already."""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.postgres.search import SearchQuery as FullTextQuery
from django.contrib.postgres.search import SearchRank
from django.db.models import BooleanField, Exists, F, FloatField, OuterRef, Q, QuerySet, Value, When
from django.db.models import Case as Choose

from cases.models import Report
from retrieval.engine.words.question import Concept, Question
from retrieval.engine.words.reading import searchable
from retrieval.fulltext import all_of, any_of
from retrieval.models import ReportWords

# D, C, B, A: gross description, clinical history, microscopy and comment, diagnosis.
WEIGHTS = [0.05, 0.1, 0.4, 1.0]
COVER_DENSITY = False
# SearchRank divided by itself plus one: within 0 to 1, below one step of a tier.
_WITHIN_ONE = 32


def _phrase(text: str) -> FullTextQuery:
    return FullTextQuery(text, search_type="phrase", config="english")


def _exact(concept: Concept) -> Any:
    """Return the tsquery of one concept: one of its names, or one of its tags."""
    if concept.quoted:
        return _phrase(searchable(concept.typed))
    # Tags are letters and digits that nothing stems.
    tags = (FullTextQuery(tag, search_type="raw", config="simple") for tag in concept.tags)
    return any_of([*map(_phrase, concept.exact), *tags])


def _loose(concept: Concept) -> Any:
    """Return the same, or all words of its name anywhere in the report."""
    if concept.quoted:
        return _exact(concept)
    sets = (FullTextQuery(w, search_type="plain", config="english") for w in concept.loose)
    return any_of([_exact(concept), *sets])


def _says(field: str, query: Any) -> Exists:
    """Return whether the report's words match; a report that is not read yet does not."""
    return Exists(ReportWords.objects.filter(report=OuterRef("pk"), **{field: query}))


def _quoted(typed: str, *, is_veiled: bool) -> Any:
    """Return whether a report has the words as they were typed.

    A reader of veiled reports asks their cleaned words: names would find whose a report is.
    """
    if not is_veiled:
        return Q(search_vector=_phrase(typed))
    phrase = _phrase(searchable(typed))
    return Q(words__affirmed=phrase) | Q(words__denied=phrase)


def _whether(condition: Q | None) -> Any:
    yes, no = (Value(value, output_field=BooleanField()) for value in (True, False))
    return no if condition is None else Choose(When(condition, then=yes), default=no)


@dataclass(frozen=True)
class Words:
    """How reports are matched with a question. is_veiled: by a reader of veiled reports."""

    question: Question
    is_veiled: bool = False

    def allowed(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return the reports that break no rule: quoted words there, denied and left out not."""
        for concept in (*self.question.denied, *self.question.left_out):
            reports = reports.exclude(self._mentioned(concept))
        for group in self.question.asked:
            if self.question.is_condition or any(concept.quoted for concept in group):
                reports = reports.filter(self._asked(group))
        return reports

    @property
    def needs_report(self) -> bool:
        """Return whether a slide without a report cannot answer."""
        quoted = any(concept.quoted for group in self.question.asked for concept in group)
        return quoted or (self.question.is_condition and bool(self.question.asked))

    def forbidden(self, reports: QuerySet[Report]) -> QuerySet[Report] | None:
        """Return the reports that say what is denied or left out; None where nothing is."""
        unwanted = [*self.question.denied, *self.question.left_out]
        return reports.filter(reduce(or_, map(self._mentioned, unwanted))) if unwanted else None

    def _mentioned(self, concept: Concept) -> Any:
        if not concept.quoted:
            return Q(_says("affirmed", _exact(concept)))
        if not self.is_veiled:
            return _quoted(concept.typed, is_veiled=False)
        phrase = _phrase(searchable(concept.typed))
        return Q(_says("affirmed", phrase)) | Q(_says("denied", phrase))

    def _asked(self, group: tuple[Concept, ...]) -> Any:
        found = Q()
        loose = [concept for concept in group if not concept.quoted]
        if loose:
            found |= Q(words__affirmed=any_of(map(_loose, loose)))
        for concept in group:
            if concept.quoted:
                found |= _quoted(concept.typed, is_veiled=self.is_veiled)
        return found

    def matching(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return the reports that affirm all that is asked, with `_rank`, larger is better.

        A name said as it is comes before its words apart, what is denied explicitly before what
        is merely not said; within that by Postgres' rank with the weights of the sections.
        """
        condition, score = self._match()
        return reports.filter(condition).annotate(_rank=score)

    def judged(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return all the reports, with `_rank`, None where they do not match, and `_against`.

        `_against`: the report denies something that is asked for and affirms it nowhere.
        """
        condition, score = self._match()
        contradicts = [
            Q(words__denied=any_of(map(_exact, group)))
            & ~Q(_says("affirmed", any_of(map(_exact, group))))
            for group in self.question.asked
            if not any(concept.quoted for concept in group)
        ]
        return reports.annotate(
            _rank=Choose(When(condition, then=score), default=None) if condition else score,
            _against=_whether(reduce(or_, contradicts) if contradicts else None),
        )

    def _match(self) -> tuple[Q, Any]:
        """Return the condition of `matching`, and the rank of what fulfils it."""
        condition = Q()
        if not (self.question.asked or self.question.denied):
            return condition, Value(0.0, output_field=FloatField())
        exact, rank = [], []
        for group in self.question.asked:
            condition &= self._asked(group)
            exact.append(any_of(map(_exact, group)))
            rank.append(any_of(map(_loose, group)))
        score: Any = Value(0.0)
        if exact:
            said = Choose(When(words__affirmed=all_of(exact), then=Value(4.0)), default=Value(0.0))
            by_rank = SearchRank(
                F("words__affirmed"),
                all_of(rank),
                weights=WEIGHTS,
                normalization=Value(_WITHIN_ONE),
                cover_density=COVER_DENSITY,
            )
            score = said + by_rank
        if self.question.denied:
            denied = [_exact(concept) for concept in self.question.denied if not concept.quoted]
            if denied:
                all_denied = all_of(denied)
                if not exact:
                    condition &= Q(words__denied=all_denied)
                score = score + Choose(
                    When(words__denied=all_denied, then=Value(2.0)), default=Value(0.0)
                )
        return condition, score

    def matching_words(self, words: QuerySet[ReportWords]) -> QuerySet[ReportWords] | None:
        """Return the rows of the reports that `matching` returns; None where these do not tell.

        What is denied or quoted is looked for in the reports too.
        """
        asked = self.question.asked
        concepts = [*self.question.denied, *(c for group in asked for c in group)]
        if not asked or self.question.denied or any(concept.quoted for concept in concepts):
            return None
        for group in asked:
            words = words.filter(affirmed=any_of(map(_loose, group)))
        return words


@dataclass(frozen=True)
class LiteralWords:
    """The words as typed, in websearch syntax: no synonyms, no denial, no sections."""

    text: str
    is_veiled: bool = False

    @property
    def _field(self) -> str:
        """Return where the words are looked for: names are not in the cleaned ones."""
        return "words__affirmed" if self.is_veiled else "search_vector"

    @property
    def _query(self) -> FullTextQuery:
        return FullTextQuery(self.text, search_type="websearch", config="english")

    @property
    def needs_report(self) -> bool:
        """Return whether a slide without a report cannot answer."""
        return True

    def allowed(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return the reports with the words."""
        return reports.filter(**{self._field: self._query})

    def forbidden(self, reports: QuerySet[Report]) -> None:
        """Return None: what is left out is part of `allowed`."""

    def matching(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return the reports with the words, with `_rank`, larger is better."""
        return self.allowed(reports).annotate(_rank=SearchRank(F(self._field), self._query))

    def judged(self, reports: QuerySet[Report]) -> QuerySet[Report]:
        """Return all the reports, with `_rank`; words that count as typed are never denied."""
        rank = SearchRank(F("search_vector"), self._query)
        found = When(search_vector=self._query, then=rank)
        return reports.annotate(_rank=Choose(found, default=None), _against=_whether(None))

    def matching_words(self, words: QuerySet[ReportWords]) -> None:
        """Return None: words as they were typed are looked for in the reports."""
