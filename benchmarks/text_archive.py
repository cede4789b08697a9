"""The scratch archive of benchmarks.text_search: reports as cases, searched in two ways."""

import time
from collections import defaultdict
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db import connection
from django.db.models import F

from cases.models import Case, Department, Membership, Patient, Report
from cases.permissions import Role
from retrieval.services.questions import question_of
from retrieval.services.report_words import report_words_sweep
from retrieval.services.word_matching import Words


class Archive:
    """One department of reports and a pathologist who sees it."""

    def __init__(self, reports: list[tuple[str, str]]) -> None:
        self.department = Department.objects.create(
            code="bench", name="Bench", mrn_issuer="b", accession_issuer="b"
        )
        self.user = get_user_model().objects.create(username="bench")
        Membership.objects.create(user=self.user, department=self.department, role=Role.PATHOLOGIST)
        self.kinds: dict[UUID, str] = defaultdict(str)
        self.made: dict[UUID, str] = {}
        self.times: dict[str, list[float]] = defaultdict(list)
        rows = self._fill([text for _kind, text in reports])
        for row, (kind, _text) in zip(rows, reports, strict=True):
            self.kinds[row.pk] = kind
        started = time.perf_counter()
        report_words_sweep(most=None)
        self.read_ms = (time.perf_counter() - started) / max(1, len(rows)) * 1000
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    def _fill(self, texts: list[str]) -> list[Report]:
        start = Patient.objects.count()
        numbers = range(start, start + len(texts))
        patients = Patient.objects.bulk_create(
            Patient(department=self.department, mrn=f"B{n}", mrn_issuer="b") for n in numbers
        )
        cases = Case.objects.bulk_create(
            Case(
                department=self.department,
                patient=patient,
                accession_number=f"B{number}",
                accession_issuer="b",
            )
            for number, patient in zip(numbers, patients, strict=True)
        )
        return Report.objects.bulk_create(
            Report(case=case, version=1, status=Report.Status.FINAL, diagnosis_text=text)
            for case, text in zip(cases, texts, strict=True)
        )

    def add_made(self, finding: str, affirmed: tuple[str, ...], denied: tuple[str, ...]) -> None:
        """Add reports that affirm and deny a finding."""
        for kind, sentences in (("affirmed", affirmed), ("denied", denied)):
            texts = [sentence.format(x=finding) for sentence in sentences]
            texts = [text[0].upper() + text[1:] for text in texts]
            for row in self._fill(texts):
                self.made[row.pk] = kind
        report_words_sweep(most=None)

    def plain(self, words: str, limit: int = 10) -> list[UUID]:
        """Return the best reports by Postgres' own full text over all sections."""
        query = SearchQuery(words, search_type="websearch", config="english")
        rows = (
            Report.objects.visible_to(self.user)
            .filter(is_current=True, search_vector=query)
            .annotate(_rank=SearchRank(F("search_vector"), query))
            .order_by("-_rank", "pk")
        )
        return self._timed("plain", rows, limit)

    def understood(self, words: str, limit: int = 10) -> list[UUID]:
        """Return the best reports as a search of words has them."""
        started = time.perf_counter()
        question = question_of(self.user, words)
        self.times["parse"].append(time.perf_counter() - started)
        match = Words(question)
        reports = Report.objects.visible_to(self.user).filter(is_current=True)
        if question.is_strict:
            reports = match.allowed(reports)
        rows = match.matching(reports).order_by("-_rank", "pk")
        return self._timed("understood", rows, limit)

    def _timed(self, name: str, rows, limit: int) -> list[UUID]:
        started = time.perf_counter()
        found = list(rows.values_list("pk", flat=True)[:limit])
        self.times[name].append(time.perf_counter() - started)
        return found

    def milliseconds(self, name: str) -> float:
        """Return the mean time of one kind of search."""
        spent = self.times[name]
        return 1000 * sum(spent) / max(1, len(spent))
