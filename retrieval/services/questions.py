"""A user's words, read with the dictionary of the departments that the user is in.

Nothing here depends on a row that the user may not see: own terms are those of the user's
departments, and a word counts as a typing error when no report *that the user sees* has it.
"""

from collections.abc import Collection
from typing import Any

from django.contrib.postgres.search import SearchQuery as FullTextQuery

from cases import identity
from cases.models import Report
from retrieval.engine.words.question import Question, parse
from retrieval.engine.words.spelling import correction
from retrieval.engine.words.terms import Dictionary, Entry, built_in
from retrieval.models import DepartmentTerm

_UNKNOWN_MOST = 8  # words that are looked up as typing errors
_SHOWN_MOST = 120  # texts that are kept to be marked in reports


def dictionary_of(user: Any) -> Dictionary:
    """Return the built-in dictionary with the terms of the user's departments, as of now."""
    own = DepartmentTerm.objects.visible_to(user).order_by("pk")
    return built_in().extended(
        Entry("dx", term.meaning, (term.form,), narrower=(term.meaning,), is_own=True)
        for term in own
    )


def question_of(user: Any, text: str, *, organs: Collection[str] = ()) -> Question:
    """Return what the user's words ask for. organs: what the filters limit the search to."""
    dictionary = dictionary_of(user)
    question = parse(text, dictionary, organs=organs)
    corrections = {}
    vocabulary = dictionary.vocabulary
    for word in sorted(question.unknown)[:_UNKNOWN_MOST]:
        meant = correction(word, vocabulary)
        if meant is not None and not _is_written(user, word):
            corrections[word] = meant
    if corrections:
        question = parse(text, dictionary, organs=organs, corrections=corrections)
    return question


def _is_written(user: Any, word: str) -> bool:
    """Return whether a current report that the user sees has the word."""
    query = FullTextQuery(word, search_type="plain", config="english")
    reports = Report.objects.visible_to(user).filter(is_current=True)
    return (
        reports.filter(words__affirmed=query).exists()
        or reports.filter(words__denied=query).exists()
        or (not identity.veils(user) and reports.filter(search_vector=query).exists())
    )


def understood_json(question: Question) -> dict[str, Any]:
    """Return what is kept with a stored query: the chips, and the texts to mark in reports."""
    shown = dict.fromkeys(
        text
        for concept in [*(c for group in question.asked for c in group), *question.denied]
        for text in concept.shown
        if text
    )
    return {
        "chips": [{"kind": chip.kind, "text": chip.text} for chip in question.chips],
        "marked": list(shown)[:_SHOWN_MOST],
    }
