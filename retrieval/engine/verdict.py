"""Whether a vote says something: enough patients, near enough, and not divided."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.engine.ranking import Vote

PATIENTS_MIN = 3
# Under this share of neighbours with the same diagnosis, at the voters' similarity, the vote
# would be wrong more often than right.
EXPECTED_MIN = 0.5


@dataclass(frozen=True)
class Weight:
    """What stands behind a vote.

    agreement: share of the voters who are of the leading diagnosis; expected: share of neighbours
    at the voters' similarities who had the same diagnosis, by calibration, None without one;
    reason: why the vote abstains ("thin", "far", "divided"), or empty.
    """

    agreement: float
    expected: float | None
    reason: str = ""

    @property
    def abstains(self) -> bool:
        """Return whether no diagnosis should be read from the vote."""
        return bool(self.reason)


def weigh(vote: Vote, expected: Sequence[float]) -> Weight:
    """Weigh a vote.

    Parameters
    ----------
    vote : Vote
        Patients counted once, most first.
    expected : sequence of float
        The calibrated agreement of each voter whose similarity is known; empty: not calibrated.

    Returns
    -------
    Weight
        It abstains when fewer than three patients voted ("thin"), when neighbours as far as the
        voters agree less than half of the time ("far"), or when no diagnosis leads ("divided").
        The first of these that holds is the reason.
    """
    agreement = vote.lines[0].share if vote.lines else 0.0
    mean = sum(expected) / len(expected) if expected else None
    tied = len(vote.lines) > 1 and vote.lines[0].patients == vote.lines[1].patients
    if vote.patients < PATIENTS_MIN:
        reason = "thin"
    elif mean is not None and mean < EXPECTED_MIN:
        reason = "far"
    elif tied:
        reason = "divided"
    else:
        reason = ""
    return Weight(agreement, mean, reason)
