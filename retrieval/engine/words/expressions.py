"""Grades, stages, sides and codes in a text, whatever way they are written.

Each becomes tags: words that nobody writes ("x0grade3"), put in the place of the expression in
a report and asked for by a question, so that "G3", "grade III" and "poorly differentiated" meet.

Sources: TNM (UICC/AJCC, 8th edition); ISUP grade groups of Gleason scores (Epstein et al., Am J
Surg Pathol 2016); Nottingham score 3-5, 6-7, 8-9 as grade 1, 2, 3 (Elston and Ellis,
Histopathology 1991); ICD-O-3 morphology and topography codes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PREFIX = "x0"
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
_NUMBER = r"(?:[1-5]|iv|v|i{1,3})"
_I = re.IGNORECASE


@dataclass(frozen=True)
class Expression:
    """A grade, stage, side or code: its place in the text, its tags, and how it is shown."""

    start: int
    end: int
    kind: str  # "grade", "stage", "side" or "code"
    tags: tuple[str, ...]
    label: str


def _number(text: str) -> int:
    return _ROMAN.get(text.lower()) or int(text)


def _tag(name: str, value: object = "") -> str:
    return f"{PREFIX}{name}{value}"


def isup_of(first: int, second: int) -> int:
    """Return the ISUP grade group of a Gleason score, 1 to 5."""
    total = first + second
    if total <= 6:
        return 1
    if total == 7:
        return 2 if first == 3 else 3
    return 4 if total == 8 else 5


# --- grades -----------------------------------------------------------------------------------
_GLEASON_SUM = re.compile(
    r"\b(?:gleason'?s?\b[^.;\n+]{0,40}?)?\(?\b([1-5])\s?\+\s?([1-5])\b\)?"
    r"(?:\s*(?:=|is|,)\s*(?:score\s*)?(10|[2-9])\b)?(?:\s*/\s*10\b)?",
    _I,
)
_GLEASON_TOTAL = re.compile(
    r"\bgleason'?s?(?:\s+(?:score|grade|sum|total|combined|of))*\s*[:=]?\s*(10|[6-9])\b(?!\s?\+)"
    r"(?:\s*/\s*10\b)?",
    _I,
)
_ISUP = re.compile(
    rf"\b(who\s*/\s*isup|isup|(?:prognostic\s+|gleason\s+)?grade\s+group|gg)"
    rf"(?:\s+(?:nuclear\s+)?grade(?:\s+group)?)?\s*[:=]?\s*({_NUMBER})\b",
    _I,
)
_FUHRMAN = re.compile(
    rf"\bfuhrman'?s?(?:\s+nuclear)?(?:\s+grade)?\s*[:=]?\s*({_NUMBER})\b(?:\s*(?:/|of)\s*{_NUMBER}\b)?",
    _I,
)
_WHO = re.compile(
    rf"\b(?:cns\s+)?who(?:\s+cns)?(?:\s+(?:classification|histologic(?:al)?))?(?:\s+grade)?"
    rf"\s*[:=]?\s*({_NUMBER})\b(?:\s*(?:/|of)\s*{_NUMBER}\b)?",
    _I,
)
_NOTTINGHAM = re.compile(
    r"\b(?:nottingham|elston(?:\s*[-/ ]\s*ellis)?|(?:scarff[- ]*)?bloom(?:\s*[-/ ]\s*|\s+and\s+)"
    r"richardson|sbr)\b[^.;\n]{0,40}?\b(grade|score)\s*[:=(]*\s*"
    rf"([6-9]|{_NUMBER})\b(?:\s*(?:/|of)\s*[39]\b)?",
    _I,
)
_GRADE = re.compile(
    r"\b(?:(?:overall|combined)\s+)?(?:(?:histolog(?:ic|ical)|nuclear|figo|tumou?r|cytologic)\s+)*"
    rf"grad(?:e|ing)?\s*[:=]?\s*\(?g?\s?({_NUMBER})\b"
    rf"(?:\s*(?:(-|to|bis)\s*({_NUMBER})|(?:/|of|out of)\s*{_NUMBER})\b)?",
    _I,
)
_G = re.compile(r"(?<![\w-])G\s?([1-4])(?:\s?[-/]\s?G?([1-4]))?(?!\w|\.\d)")
_DEGREE = {
    "well": 1,
    "moderate": 2,
    "moderately": 2,
    "poor": 3,
    "poorly": 3,
    "gut": 1,
    "maessig": 2,
    "mäßig": 2,
    "schlecht": 3,
    "gering": 3,
}
_DEGREES = "|".join(sorted(_DEGREE, key=len, reverse=True))
_DIFFERENTIATED = re.compile(
    rf"\b({_DEGREES})(?:\s*(?:-|to|and|bis|or)\s*({_DEGREES}))?[-\s]+"
    r"(?:differentiat(?:ed|ion)|differenziert\w*)\b",
    _I,
)
_LEVEL = re.compile(
    r"\b(low|high|intermediate)[-\s]+(?:(?:histolog(?:ic|ical)|nuclear)\s+)?grade\b", _I
)


def _graded(label: str, *numbers: int, also: tuple[str, ...] = ()) -> tuple[tuple[str, ...], str]:
    return (*also, *(_tag("grade", number) for number in numbers)), label


def _gleason(match: re.Match[str]) -> tuple[tuple[str, ...], str] | None:
    first, second = int(match.group(1)), int(match.group(2))
    spoken = "gleason" in match.group().lower()
    if not spoken and match.group(3) is None:
        return None  # "3+4" alone may be anything
    if match.group(3) is not None and int(match.group(3)) != first + second:
        return None
    isup = isup_of(first, second)
    tags = (
        _tag("gleason", f"{first}p{second}"),
        _tag("gleason", first + second),
        _tag("isup", isup),
    )
    return tags, f"Gleason {first}+{second}"


def _gleason_total(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    total = int(match.group(1))
    sure = () if total == 7 else (_tag("isup", isup_of(total // 2, total - total // 2)),)
    return (_tag("gleason", total), *sure), f"Gleason {total}"


def _isup(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    number = _number(match.group(2))
    if "who" in match.group(1).lower():  # the kidney's WHO/ISUP grade
        return _graded(f"WHO/ISUP {number}", number, also=(_tag("isup", number),))
    return (_tag("isup", number),), f"ISUP grade group {number}"


def _nottingham(match: re.Match[str]) -> tuple[tuple[str, ...], str] | None:
    number = _number(match.group(2))
    if match.group(1).lower() == "score":
        if not 3 <= number <= 9:
            return None
        number = 1 if number <= 5 else 2 if number <= 7 else 3
    elif number > 3:
        return None
    return _graded(f"Nottingham grade {number}", number, also=(_tag("nottingham", number),))


def _generic_grade(match: re.Match[str]) -> tuple[tuple[str, ...], str] | None:
    first = _number(match.group(1))
    last = _number(match.group(3)) if match.group(3) else first
    if first > 4 or last > 4 or last < first:
        return None
    label = f"G{first}" if last == first else f"G{first}-{last}"
    return _graded(label, *range(first, last + 1))


def _g_form(match: re.Match[str]) -> tuple[tuple[str, ...], str] | None:
    first = int(match.group(1))
    last = int(match.group(2)) if match.group(2) else first
    if last < first:
        return None
    label = f"G{first}" if last == first else f"G{first}-{last}"
    return _graded(label, *range(first, last + 1))


def _differentiated(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    first = _DEGREE[match.group(1).lower()]
    last = _DEGREE[match.group(2).lower()] if match.group(2) else first
    low, high = min(first, last), max(first, last)
    label = f"G{low}" if low == high else f"G{low}-{high}"
    return _graded(label, *range(low, high + 1))


def _level(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    level = match.group(1).lower()
    return (_tag("grade", level),), f"{level} grade"


# --- stages -----------------------------------------------------------------------------------
_T = r"(?:[iI][sS]|[0-4O](?:mi|[a-d])?[1-3]?|[xX])"
_N = r"(?:[0-3O](?:mi|[a-c])?|[xX])"
_M = r"(?:[01O][a-d]?|[xX])"
_TNM = re.compile(
    rf"(?<![A-Za-z0-9])(?P<p>y?r?a?[pcPC]?)(?:T\s?(?P<t>{_T}))"
    rf"(?:\s?\((?:m|is|sn|\d)\))?"
    rf"(?:[\s,;/]*(?:y?r?[pcPC]?)N\s?(?P<n>{_N})(?:\s?\([^)\n]{{0,16}}\))*)?"
    rf"(?:[\s,;/]*(?:y?r?[pcPC]?)M\s?(?P<m>{_M}))?(?![A-Za-z0-9])"
)
_NM_ALONE = re.compile(
    rf"(?<![A-Za-z0-9])(?:y?r?(?P<p>[pcPC]?))(?:N\s?(?P<n>{_N})(?:\s?\([^)\n]{{0,16}}\))*)?"
    rf"(?:[\s,;/]*(?:y?r?[pcPC]?)M\s?(?P<m>{_M}))?(?![A-Za-z0-9])"
)
_TNM_ASKED = re.compile(_TNM.pattern, _I)
_NM_ASKED = re.compile(_NM_ALONE.pattern, _I)
_STAGE = re.compile(
    r"\b(?:(?:ajcc|figo|uicc|ann arbor|pathologic(?:al)?|clinical|tumou?r|anatomic)\s+)*"
    r"(?:stage|stadium)(?:\s+group(?:ing)?)?\s*[:=]?\s*(iv|i{1,3}|[0-4])([a-e]\d?)?(?![\w])",
    _I,
)


def _values(letter: str, value: str) -> tuple[str, ...]:
    """Return the tag of a T, N or M value and those of what it is a part of: T2a is a T2."""
    value = value.lower().replace("o", "0")
    tags = [_tag(letter, value)]
    if len(value) > 1 and value[0].isdigit():
        tags.append(_tag(letter, value[0]))
    return tuple(tags)


def _tnm(match: re.Match[str], asked: bool) -> tuple[tuple[str, ...], str] | None:
    groups = match.groupdict()
    prefix = groups["p"] or ""
    parts = [(name, groups.get(name)) for name in "tnm"]
    present = [(name, value) for name, value in parts if value]
    if not present:
        return None
    # A lone "T2" is as often a vertebra, a block or a weighting of MR images.
    before = match.string[max(0, match.start() - 14) : match.start()].lower()
    told = bool(re.search(r"tnm|stage|ajcc|uicc", before))
    if not (asked or told or prefix.lower().strip("yra") or len(present) > 1):
        return None
    tags = tuple(tag for name, value in present for tag in _values(name, value or ""))
    label = " ".join(
        f"{prefix.lower() if i == 0 else ''}{name.upper()}{(value or '').lower().replace('o', '0')}"
        for i, (name, value) in enumerate(present)
    )
    return tags, label


def _stage(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    number = _ROMAN.get(match.group(1).lower())
    number = number if number is not None else int(match.group(1))
    part = (match.group(2) or "").lower()
    tags = [_tag("stage", number)]
    roman = ("0", "I", "II", "III", "IV")[number]
    if part:
        tags.insert(0, _tag("stage", f"{number}{part}"))
    return tuple(tags), f"stage {roman}{part.upper()}"


# --- sides and codes --------------------------------------------------------------------------
_SIDE = re.compile(
    r"\b(left|right|bilateral(?:ly)?|links|rechts|beidseits|beidseitig\w*|linke[rnms]?|rechte[rnms]?)"
    r"(?:[-\s](?:sided|seitig\w*))?\b|\b([LR])t\.(?=\s)|\(([LR])\)",
    _I,
)
_MORPHOLOGY = re.compile(r"(?<![\w/])M?[-\s]?([89]\d{3})\s?/\s?([012369])(?![\w/])")
_MORPHOLOGY_SNOMED2 = re.compile(r"(?<!\w)M-?([89]\d{3})([012369])(?!\w)")
_TOPOGRAPHY = re.compile(r"(?<![\w-])([CD])\s?(\d{2})\.(\d{1,2}|[xX-])?(?!\w)")
_TOPOGRAPHY_ASKED = re.compile(r"(?<![\w-])([CD])(\d{2})(?:\.?(\d))?(?![\w.])", _I)
_BARE_MORPHOLOGY_ASKED = re.compile(r"(?<![\w/.+])([89]\d{3})(?![\w/+])")


def _side(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    first = (match.group(1) or match.group(2) or match.group(3)).lower()[0]
    if first == "b":
        return (_tag("bilateral"), _tag("left"), _tag("right")), "bilateral"
    name = "left" if first == "l" else "right"
    return (_tag(name),), name


def _morphology(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    return morphology_tags(
        match.group(1), match.group(2)
    ), f"ICD-O {match.group(1)}/{match.group(2)}"


def morphology_tags(morphology: str, behaviour: str) -> tuple[str, ...]:
    """Return the tags of an ICD-O-3 morphology code: with and without its behaviour."""
    return _tag("code", f"{morphology}s{behaviour}"), _tag("code", morphology)


def _bare_morphology(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    return (_tag("code", match.group(1)),), f"ICD-O {match.group(1)}"


def _topography(match: re.Match[str]) -> tuple[tuple[str, ...], str]:
    part = (match.group(3) or "").lower().strip("x-")
    chapter = f"{match.group(1).lower()}{match.group(2)}"
    tags = [_tag("code", chapter)]
    if part:
        tags.insert(0, _tag("code", f"{chapter}d{part}"))
    return tuple(tags), f"ICD {match.group(1).upper()}{match.group(2)}{'.' + part if part else ''}"


_Reader = Callable[[re.Match[str]], "tuple[tuple[str, ...], str] | None"]
# In order: what is found first keeps its place.
_RULES: tuple[tuple[str, re.Pattern[str], _Reader], ...] = (
    ("code", _MORPHOLOGY, _morphology),
    ("code", _MORPHOLOGY_SNOMED2, _morphology),
    ("code", _TOPOGRAPHY, _topography),
    ("grade", _GLEASON_SUM, _gleason),
    ("grade", _GLEASON_TOTAL, _gleason_total),
    ("grade", _ISUP, _isup),
    (
        "grade",
        _FUHRMAN,
        lambda m: _graded(
            f"Fuhrman {_number(m.group(1))}",
            _number(m.group(1)),
            also=(_tag("fuhrman", _number(m.group(1))),),
        ),
    ),
    ("grade", _NOTTINGHAM, _nottingham),
    (
        "grade",
        _WHO,
        lambda m: _graded(
            f"WHO grade {_number(m.group(1))}",
            _number(m.group(1)),
            also=(_tag("who", _number(m.group(1))),),
        ),
    ),
    ("grade", _GRADE, _generic_grade),
    ("grade", _G, _g_form),
    ("grade", _DIFFERENTIATED, _differentiated),
    ("grade", _LEVEL, _level),
    ("stage", _TNM, lambda m: _tnm(m, asked=False)),
    ("stage", _NM_ALONE, lambda m: _tnm(m, asked=False)),
    ("stage", _STAGE, _stage),
    ("side", _SIDE, _side),
)
_ASKED_RULES: tuple[tuple[str, re.Pattern[str], _Reader], ...] = (
    *_RULES[:3],
    ("code", _TOPOGRAPHY_ASKED, _topography),
    ("code", _BARE_MORPHOLOGY_ASKED, _bare_morphology),
    *(rule for rule in _RULES[3:] if rule[1] not in (_G, _TNM, _NM_ALONE)),
    ("grade", re.compile(_G.pattern, _I), _g_form),
    ("stage", _TNM_ASKED, lambda m: _tnm(m, asked=True)),
    ("stage", _NM_ASKED, lambda m: _tnm(m, asked=True)),
)


def expressions_of(text: str, *, asked: bool = False) -> list[Expression]:
    """Return the grades, stages, sides and codes of a text, by place, none over another.

    asked: the text is a question, where "T2", "g3", "C50" and "8140" alone mean what they seem
    to; in a report they are as often a block, a vertebra or a number.
    """
    taken: list[Expression] = []
    for kind, pattern, read in _ASKED_RULES if asked else _RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if start == end or any(start < e.end and e.start < end for e in taken):
                continue
            found = read(match)
            if found is not None:
                tags, label = found
                taken.append(Expression(start, end, kind, tags, label))
    return sorted(taken, key=lambda e: e.start)


def asked_tags(expression: Expression) -> tuple[str, ...]:
    """Return the tags of which a report needs one, to answer an expression that was asked for.

    The narrowest: who asks for T2a does not mean every T2. A question for both sides, a range
    ("G2-3"), a level ("high grade") is answered by each of its values.
    """
    tags = expression.tags
    if expression.kind == "grade":
        if tags[0] == _tag("gradehigh"):
            return (*tags, _tag("grade", 3), _tag("grade", 4))
        if tags[0] == _tag("gradelow"):
            return (*tags, _tag("grade", 1))
        system = tags[0].startswith((_tag("gleason"), _tag("isup"), _tag("who")))
        named = tags[0].startswith((_tag("fuhrman"), _tag("nottingham")))
        return tags[:1] if system or named else tags
    return tags[:1]


def asked_parts(expression: Expression) -> Iterator[tuple[str, ...]]:
    """Yield the conditions of an expression, all to be met: of "pT2 N1" one for each of them."""
    if expression.kind != "stage" or expression.tags[0].startswith(_tag("stage")):
        yield asked_tags(expression)
        return
    seen: set[str] = set()
    for tag in expression.tags:
        letter = tag.removeprefix(PREFIX)[0]
        if letter not in seen:
            seen.add(letter)
            yield (tag,)
