"""The vote of the nearest patients as one reader may see it, and what stands behind it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cases import identity
from cases.models import Patient, Report
from retrieval.engine.calibration import Calibration, expected_agreement
from retrieval.engine.ranking import Ballot, Vote, VoteLine, vote
from retrieval.engine.verdict import Weight, weigh
from retrieval.filters import SIGNED
from retrieval.models import SearchQuery, VoteCalibration

VOTING_PATIENTS = 5
# Base rates are counted over this many signed reports at most. Report ids are random, so that
# the first of them by id are a fair sample of what the reader sees.
BASE_RATE_REPORTS = 10_000


@dataclass(frozen=True)
class BaseRates:
    """How common diagnoses are among the patients that the reader sees."""

    shares: dict[str, float]
    patients: int
    is_sample: bool


@dataclass(frozen=True)
class WeighedVote:
    """A vote with its weight and the base rates of the visible archive."""

    vote: Vote
    weight: Weight
    base_rates: BaseRates
    is_calibrated: bool

    @property
    def lines(self) -> tuple[VoteLine, ...]:
        """Return the lines of the vote, most patients first."""
        return self.vote.lines

    @property
    def patients(self) -> int:
        """Return how many patients voted."""
        return self.vote.patients

    @property
    def without_diagnosis(self) -> int:
        """Return how many nearer patients have no signed diagnosis."""
        return self.vote.without_diagnosis

    def base_rate(self, line: VoteLine) -> float:
        """Return the share of the visible patients who have the line's diagnosis."""
        return self.base_rates.shares.get(line.diagnosis, 0.0)


def person(patient: Patient) -> tuple[str, str]:
    """Return who it is, across departments."""
    return identity.person_known(patient)


def diagnosis_key(system: str, code: str, line: str) -> str:
    """Return what makes two diagnoses the same: the code, else the line in small letters."""
    return f"{system}|{code}" if code else " ".join(line.lower().split())


def diagnosis_of(report: Report | None) -> str:
    """Return the key of a signed report's diagnosis, or an empty text."""
    if report is None:
        return ""
    return diagnosis_key(report.diagnosis_system, report.diagnosis_code, report.diagnosis_line)


def weighed_vote(user: Any, query: SearchQuery, hits: Collection[Any]) -> WeighedVote:
    """Return the vote over these hits (ResultHit), with what the reader must know of it."""
    ballots = [
        Ballot(
            rank=hit.rank,
            patient=person(hit.patient),
            diagnosis=diagnosis_of(hit.diagnosis),
            label=hit.diagnosis.diagnosis_line or hit.diagnosis.diagnosis_code
            if hit.diagnosis
            else "",
        )
        for hit in hits
        if not hit.same_patient  # the asked-about patient is no witness
    ]
    found = vote(ballots, patients=VOTING_PATIENTS)
    similarities = {hit.rank: hit.hit.image_similarity for hit in hits}
    calibrations = _calibrations(user, query)
    voters = [similarities[rank] for line in found.lines for rank in line.ranks]
    expected = [
        agreement
        for similarity in voters
        if similarity is not None
        and (agreement := expected_agreement(calibrations, similarity)) is not None
    ]
    asked = query.slide_image.slide.case.patient if query.slide_image else None
    rates = base_rates(user, without=asked) if found.lines else BaseRates({}, 0, False)
    return WeighedVote(found, weigh(found, expected), rates, bool(expected))


def _calibrations(user: Any, query: SearchQuery) -> list[Calibration]:
    """Return the calibrations of the reader's own departments that hold for the question.

    They are learned from whole slides: a region or picture is compared on another scale.
    """
    if query.image_model_id is None or query.slide_image_id is None or query.region:
        return []
    rows = VoteCalibration.objects.visible_to(user).filter(model=query.image_model_id)
    return [
        Calibration(tuple(row.similarities), tuple(row.agreements), row.pairs)
        for row in rows.order_by("department_id")
    ]


def base_rates(user: Any, *, without: Patient | None = None) -> BaseRates:
    """Return how common each diagnosis is among the patients whose signed reports are visible."""
    rows = (
        Report.objects.visible_to(user)
        .filter(is_current=True, status__in=SIGNED)
        .exclude(diagnosis_code="", diagnosis_line="")
        .order_by("pk")
        .values_list(
            "diagnosis_system",
            "diagnosis_code",
            "diagnosis_line",
            "case__patient__mrn_issuer",
            "case__patient__mrn",
        )
    )
    counted = list(rows[: BASE_RATE_REPORTS + 1])
    is_sample = len(counted) > BASE_RATE_REPORTS
    own = person(without) if without else None
    patients: dict[str, set[tuple[str, str]]] = {}
    for system, code, line, issuer, mrn in counted[:BASE_RATE_REPORTS]:
        if (issuer, mrn) != own:
            patients.setdefault(diagnosis_key(system, code, line), set()).add((issuer, mrn))
    everybody = len(set().union(*patients.values()))
    return BaseRates(
        {key: len(found) / everybody for key, found in patients.items()}, everybody, is_sample
    )
