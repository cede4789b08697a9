"""Typing errors: the nearest word of a vocabulary, by trigrams as pg_trgm counts them.

The vocabulary is the dictionary's, never that of reports: a suggestion from a report that the
asker may not see would tell of it.
"""

from collections.abc import Collection
from functools import lru_cache

# pg_trgm calls 0.3 similar; a word that replaces another must be nearer, and begin alike.
SIMILAR_ENOUGH = 0.45
_SHORTEST = 5  # letters; abbreviations are not corrected: one letter makes another of them


def trigrams(word: str) -> frozenset[str]:
    """Return the trigrams of a word with pg_trgm's padding: two spaces before, one after."""
    padded = f"  {word} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def similarity(first: str, second: str) -> float:
    """Return pg_trgm's similarity of two words: shared trigrams over all trigrams, 0 to 1."""
    one, other = trigrams(first), trigrams(second)
    return len(one & other) / len(one | other)


def distance(first: str, second: str) -> int:
    """Return the edits between two words; a swap of neighbours is one (optimal alignment)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        new = [i]
        for j, other in enumerate(second, start=1):
            cost = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (letter != other))
            swapped = i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other
            new.append(min(cost, before[j - 2] + 1) if swapped else cost)
        before, row = row, new
    return row[-1]


@lru_cache(maxsize=8)
def _index(vocabulary: frozenset[str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = {}
    for word in sorted(vocabulary):
        if len(word) >= _SHORTEST and word.isalpha():
            for trigram in trigrams(word):
                index.setdefault(trigram, []).append(word)
    return {trigram: tuple(words) for trigram, words in index.items()}


def correction(word: str, vocabulary: Collection[str]) -> str | None:
    """Return the word of the vocabulary that was meant, or None.

    Only a word that is near in trigrams or in letters counts, and only where it is the nearest
    alone: at most one edit for up to seven letters, two for longer ones.
    """
    if len(word) < _SHORTEST or not word.isalpha() or word in vocabulary:
        return None
    index = _index(frozenset(vocabulary))
    near = {found for trigram in trigrams(word) for found in index.get(trigram, ())}
    edits = 1 if len(word) <= 7 else 2
    scored = sorted(
        (distance(word, found), -similarity(word, found), found)
        for found in near
        if abs(len(found) - len(word)) <= edits and distance(word, found) <= edits
    )
    scored = [row for row in scored if -row[1] >= SIMILAR_ENOUGH or row[0] == 1]
    if not scored or (len(scored) > 1 and scored[0][:2] == scored[1][:2]):
        return None
    return scored[0][2]
