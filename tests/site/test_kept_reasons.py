"""Every sentence that a worker may keep as a reason can be said in another language."""

import re
from pathlib import Path

import pytest
from django.utils import translation

from cases import kept_reasons
from cases.wsi import errors

ROOT = Path(__file__).resolve().parents[2]
# Where workers say why: a string of one sentence or more.
PLACES = {
    "cases/services/intake.py": r'"((?:The|An|No|Parts) [^"{}]+\.)"',
    "cases/services/matching.py": r'Problem\(\s*\w+, "([^"{}]+)"',
    "cases/services/sweep.py": r'reason="([^"{}]+)"',
    "cases/services/processing.py": r'reason="([^"{}]+)"',
    "retrieval/engine/patches.py": r'SkipSlide\("\w+", f?"([^"]+ slide[^"]*)"',
}


def _errors(kind: type) -> list[type]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _errors(sub))]


def test_what_the_examination_says_is_here():
    said = {kind.message for kind in _errors(errors.WsiError) if kind.__module__ == errors.__name__}
    assert len(said) > 20 and said <= set(kept_reasons.REASONS)


@pytest.mark.parametrize("place", PLACES)
def test_what_workers_write_is_here(place):
    source = (ROOT / place).read_text(encoding="utf-8")
    said = [re.sub(r"\{\w+\}", "%(um)s", text) for text in re.findall(PLACES[place], source)]
    assert said
    assert [text for text in said if text not in kept_reasons.REASONS] == []


def test_sentences_are_said_in_german_one_by_one():
    one, other = "The delivery holds no slide.", "No tissue was found on the slide."
    counted = "The worker stopped without a word (attempt 2)."
    with translation.override("de"):
        assert kept_reasons.in_words(one) == "Die Lieferung enthält keinen Schnitt."
        both = kept_reasons.in_words(f"{one} {other}")
        assert "Lieferung" in both and "Gewebe" in both and "The " not in both
        assert "(Versuch 2)" in kept_reasons.in_words(counted)
        assert kept_reasons.in_words("Something else happened.") == "Something else happened."
        assert kept_reasons.in_words("") == ""
    with translation.override("en"):
        assert kept_reasons.in_words(one) == one
