"""Which words of a text are denied or left open: "no evidence of carcinoma".

After NegEx: Chapman, Bridewell, Hanbury, Cooper and Buchanan, "A simple algorithm for identifying
negated findings and diseases in discharge summaries", J Biomed Inform 34 (2001) 301-310. Phrases
before or after a finding deny it within the sentence, up to a phrase that ends their scope;
some phrases only look like denial. Ours differs where pathology reports do: lists ("no necrosis,
mitoses or invasion"), check lists ("Necrosis: absent"), markers ("ER, PR and HER2 negative"), and
words that nobody denies (margins, nodes, organs, grades).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files

from retrieval.engine.words.tokens import Token

# How many words a phrase reaches back; forward it goes to the end of its scope.
_BACK = 6
_FORWARD = 24
_ITEM_WORDS = 4


class Polarity(IntEnum):
    """What a text says of a word."""

    AFFIRMED = 0
    DENIED = 1
    OPEN = 2


# Phrases by their first word, longest first.
_Phrases = Mapping[str, tuple[tuple[str, ...], ...]]


def _lists() -> dict[str, _Phrases]:
    """Return the phrases of denials.txt by their heading."""
    found: dict[str, dict[str, list[tuple[str, ...]]]] = {}
    heading = ""
    source = files("retrieval.engine.words").joinpath("denials.txt")
    for line in source.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            heading = line.strip("[]")
        elif line and not line.startswith("#"):
            phrase = tuple(line.split())
            found.setdefault(heading, {}).setdefault(phrase[0], []).append(phrase)
    return {
        name: {
            first: tuple(sorted(rows, key=len, reverse=True)) for first, rows in by_first.items()
        }
        for name, by_first in found.items()
    }


_LISTS = _lists()
_BEFORE, _AFTER = _LISTS["before"], _LISTS["after"]
_OPEN_BEFORE, _OPEN_AFTER = _LISTS["open before"], _LISTS["open after"]
_SEEMING, _END = _LISTS["seeming"], _LISTS["end"]  # seeming: "no increase" denies nothing
_FIRST = frozenset().union(_BEFORE, _AFTER, _OPEN_BEFORE, _OPEN_AFTER, _SEEMING)
# Nobody denies these; what is said to be absent lies beside them.
_NEVER = frozenset(_LISTS["never denied"])
_FREE = frozenset({"tumor", "carcinoma", "cancer", "disease", "malignancy", "melanoma"})
_PLACES = frozenset({"margin", "margins", "node", "nodes"})
_LIST_WORDS = frozenset({"and", "or", "nor", "und", "oder"})


def _match(words: Sequence[str], at: int, phrases: _Phrases) -> int:
    """Return how many words of the longest of the phrases stand there, 0 for none."""
    for phrase in phrases.get(words[at], ()):
        if tuple(words[at : at + len(phrase)]) == phrase:
            return len(phrase)
    return 0


@dataclass(frozen=True)
class Verdict:
    """What a text says of each of its words, and which words say so."""

    polarity: list[Polarity]
    triggers: frozenset[int]  # indices of words that deny or leave open something


def judged(
    tokens: Sequence[Token],
    *,
    spared: Collection[int] = (),
    spared_words: Collection[str] = frozenset(),
    markers: Collection[tuple[str, ...]] = frozenset(),
) -> Verdict:
    """Return what the text says of each of its words.

    spared: indices of tokens that are never denied (grades, sides); spared_words: words that are
    never denied (organs); markers: what "negative" after it means as a whole ("estrogen
    receptor").
    """
    found = [Polarity.AFFIRMED] * len(tokens)
    exempt = frozenset(spared)
    never = _NEVER | frozenset(spared_words)
    used: set[int] = set()
    start = 0
    for stop in range(1, len(tokens) + 1):
        if stop == len(tokens) or tokens[stop].opens_sentence:
            used |= _sentence(tokens[start:stop], start, found, exempt, never, markers)
            start = stop
    return Verdict(found, frozenset(used))


def _sentence(
    tokens: Sequence[Token],
    offset: int,
    found: list[Polarity],
    exempt: frozenset[int],
    never: Collection[str],
    markers: Collection[tuple[str, ...]],
) -> set[int]:
    """Judge one sentence in `found`; return the places of the words that denied something."""
    words = [token.word for token in tokens]
    triggers: set[int] = set()
    used: set[int] = set()

    def deny(indices: Sequence[int], polarity: Polarity) -> bool:
        denied = [i for i in indices if words[i] not in never and offset + i not in exempt]
        for index in denied:
            found[offset + index] = max(found[offset + index], polarity)
        return bool(denied)

    at = 0
    while at < len(words):
        step, polarity, forward = _trigger(words, at)
        if not step:
            at += 1
            continue
        triggers.update(range(at, at + step))
        if polarity is not None:
            reach = _ahead(tokens, words, at + step) if forward else []
            # "absent", "ruled out": with nothing after them they speak of what came before.
            if forward and not reach and _match(words, at, _AFTER):
                forward = False
            if not forward:
                reach = _behind(tokens, words, at, triggers, markers)
            if deny(reach, polarity):
                used.update(range(offset + at, offset + at + step))
        at += step
    for index in triggers:
        found[offset + index] = Polarity.AFFIRMED
    for index in range(1, len(words)):  # "tumor-free"
        is_free = words[index] == "free" and index not in triggers
        if is_free and words[index - 1] in _FREE and offset + index - 1 not in exempt:
            found[offset + index - 1] = Polarity.DENIED
            used.add(offset + index)
    return used


def _trigger(words: Sequence[str], at: int) -> tuple[int, Polarity | None, bool]:
    """Return (words, polarity or None for a seeming one, whether forward) of the longest phrase."""
    if words[at] not in _FIRST:
        return 0, None, True
    if words[at] == "no" and at + 1 < len(words) and words[at + 1].isdigit():
        return 1, None, True  # a number, not a denial
    after = _match(words, at, _AFTER)
    if words[at + after - 1 : at + after + 1] in (["negative", "for"], ["absent", "of"]):
        after = 0  # "are negative for tumor" denies what follows
    choices = [
        (_match(words, at, _SEEMING), 5, None, True),
        (_match(words, at, _OPEN_AFTER), 4, Polarity.OPEN, False),
        (_match(words, at, _OPEN_BEFORE), 3, Polarity.OPEN, True),
        (_match(words, at, _BEFORE), 2, Polarity.DENIED, True),
        (after, 1, Polarity.DENIED, False),
    ]
    step, _order, polarity, forward = max(choices, key=lambda choice: choice[:2])
    return step, polarity, forward


def _ahead(tokens: Sequence[Token], words: Sequence[str], start: int) -> list[int]:
    reach: list[int] = []
    for index in range(start, min(len(words), start + _FORWARD)):
        if _match(words, index, _END) and index > start:
            break
        if index == start and (
            "," in tokens[index].gap or words[index] in {"is", "are", "was", "were", "with"}
        ):
            break
        # Where it is absent is not what is absent; "carcinoma in situ" is.
        if words[index] == "within" or (
            words[index] == "in" and words[index + 1 : index + 2] not in (["situ"], [])
        ):
            break
        if index > start and "(" in tokens[index].gap:
            break
        if index > start and "," in tokens[index].gap and not _list_goes_on(tokens, words, index):
            break
        if index > start and _trigger(words, index)[0] and words[index] not in {"nor", "not"}:
            break
        reach.append(index)
    return reach


def _list_goes_on(tokens: Sequence[Token], words: Sequence[str], at: int) -> bool:
    """Return whether what follows a comma is one more item of what is denied.

    It is short and holds no verb: "no necrosis, mitoses or invasion", "negative for CK7, CK20".
    """
    if words[at] in _LIST_WORDS:
        at += 1
    for index in range(at, min(len(words), at + _ITEM_WORDS + 1)):
        if _match(words, index, _END) or _trigger(words, index)[0]:
            return False
        if index > at and "," in tokens[index].gap:
            return True
        if words[index] in _LIST_WORDS and index > at:
            return True
    return len(words) - at <= _ITEM_WORDS


def _behind(
    tokens: Sequence[Token],
    words: Sequence[str],
    at: int,
    triggers: Collection[int],
    markers: Collection[tuple[str, ...]],
) -> list[int]:
    """Return what a phrase after it denies: the markers of a list, or the words just before."""
    listed = _markers_behind(words, at, markers)
    if listed:
        return listed
    copula = words[at] in {"is", "are", "was", "were", "has", "not", "none", "cannot"}
    separated = ":" in tokens[at].gap or "-" in tokens[at].gap
    reach: list[int] = []
    for index in range(at - 1, max(-1, at - 1 - _BACK), -1):
        if index in triggers:
            break
        if words[index] in {"is", "are", "was", "were"} and index == at - 1:
            copula = True
            continue
        if _match(words, index, _END):
            break
        reach.append(index)
        if index and "," in tokens[index].gap and words[index - 1] not in _LIST_WORDS:
            break
        if ":" in tokens[index].gap and reach:
            break
    if any(words[index] in _PLACES for index in reach):
        return []  # "apical margin negative": no finding is named
    # A bare "negative" behind a word speaks of that word alone.
    return reach if copula or separated or words[at] != "negative" else reach[:1]


def _markers_behind(
    words: Sequence[str], at: int, markers: Collection[tuple[str, ...]]
) -> list[int]:
    end = at
    while end and words[end - 1] in {"is", "are", "was", "were"}:
        end -= 1
    reach: list[int] = []
    while end > 0:
        size = next(
            (n for n in (4, 3, 2, 1) if n <= end and tuple(words[end - n : end]) in markers), 0
        )
        if not size:
            break
        reach.extend(range(end - size, end))
        end -= size
        if end and words[end - 1] in _LIST_WORDS:
            end -= 1
    return reach
