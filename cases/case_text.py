"""Finding cases by accession number, name or MRN, as written or nearly so, by trigram indexes.

Both ways only narrow a queryset that is `visible_to` already: what is found, and how near it
is, says nothing about hidden rows.
"""

from functools import reduce
from operator import or_
from typing import Any

from django.contrib.postgres.search import TrigramSimilarity, TrigramStrictWordSimilarity
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Greatest, Upper

from cases.models import Case, Patient
from cases.patient_numbers import ids_in_use

WORDS_MOST = 6  # each is a look-up of its own; a name and two numbers have fewer
_SWAPPED_MOST = 10  # longer words keep enough trigrams in common when two letters are swapped
_SWAPPED_LEAST = 4


def words_of(text: str) -> list[str]:
    """Return the first words of what was typed, in capitals as the indexes have them."""
    return text.replace("\x00", " ").replace(",", " ").upper().split()[:WORDS_MOST]


def cases_with_text(
    cases: QuerySet[Case], text: str, departments: frozenset[int], *, is_near: bool
) -> QuerySet[Case]:
    """Return those cases in which each word of the text is found, in whichever field.

    departments: the reader's own; there also a number or name that was merged leads to the
    patient. (What is merged elsewhere is hidden, and must not be found out by finding.)
    is_near: a word also counts where it is likely to be a typing error of a name, of the
    accession number or of the MRN; the cases carry `nearness`, larger where it is less of one.
    """
    words = words_of(text)
    for word in words:
        find = _near if is_near else _as_written
        cases = cases.filter(pk__in=find(word, departments))
    if is_near:
        parts = [_nearness(word) for word in words]
        cases = cases.annotate(nearness=sum(parts[1:], parts[0]) if parts else Value(0.0))
    return cases


def _as_written(word: str, departments: frozenset[int]) -> QuerySet[Case]:
    return _either(
        Q(accession_number__icontains=word),
        Q(family_name__icontains=word) | Q(given_name__icontains=word) | Q(mrn__icontains=word),
        departments,
    )


def _near(word: str, departments: frozenset[int]) -> QuerySet[Case]:
    """Return the cases of a word that may have a typing error.

    Names by the similarity of all their trigrams. Numbers have most of theirs in common anyway
    (the same prefix and year), so they must be nearer. Two letters that are swapped leave a
    short name nothing in common: each way of swapping them back is looked for as it is.
    """
    names = [word]
    if _SWAPPED_LEAST <= len(word) <= _SWAPPED_MOST:
        names += [
            word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            for at in range(len(word) - 1)
            if word[at] != word[at + 1]
        ]
    contained = reduce(
        or_, (Q(family_name__icontains=name) | Q(given_name__icontains=name) for name in names)
    )
    return _either(
        Q(accession_number__icontains=word) | Q(_accession__trigram_strict_word_similar=word),
        contained
        | Q(mrn__icontains=word)
        | Q(_family__trigram_similar=word)
        | Q(_given__trigram_similar=word)
        | Q(_mrn__trigram_strict_word_similar=word),
        departments,
    )


def _either(of_case: Q, of_patient: Q, departments: frozenset[int]) -> QuerySet[Case]:
    """Return the keys of the cases found by either: a union, because an OR over two tables
    would use the indexes of neither."""
    patients = Patient.objects.annotate(
        _family=Upper("family_name"), _given=Upper("given_name"), _mrn=Upper("mrn")
    ).filter(of_patient, Q(merged_into=None) | Q(department__in=departments))
    cases = Case.objects.order_by()
    found = cases.annotate(_accession=Upper("accession_number")).filter(of_case)
    treated = cases.filter(patient__in=ids_in_use(patients))
    return found.values("pk").union(treated.values("pk"), all=True)


def _nearness(word: str) -> Any:
    return Greatest(
        TrigramSimilarity(Upper("patient__family_name"), word),
        TrigramSimilarity(Upper("patient__given_name"), word),
        TrigramStrictWordSimilarity(word, Upper("patient__mrn")),
        TrigramStrictWordSimilarity(word, Upper(F("accession_number"))),
    )
