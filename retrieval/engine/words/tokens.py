"""Words of a text, spelled in one way, with what lies between them."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
# A line that begins so is an item of a list or a "Name:" of a checklist, and a sentence of
# its own; other lines only wrap.
_ITEM = re.compile(r"\n\s*(?:[-*•\u2013]|\d{1,2}[.)]|[A-Z][.)])\s|\n(?=[A-Z][^.:;\n]{0,60}:)")

_END = re.compile(r"[.;!?](?:\s|$)")
_EMPTY_LINE = re.compile(r"\n\s*\n")

# British to American, on words in small letters. Only whole stems that mean nothing else.
_SPELLING = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"tumour", "tumor"),
        (r"^haem|(?<=[a-z])haem(?=[aiot])", "hem"),
        (r"(?<=[a-z])aemi", "emi"),
        (r"oesoph", "esoph"),
        (r"oedem", "edem"),
        (r"oestr", "estr"),
        (r"^leuco", "leuko"),
        (r"paediatr", "pediatr"),
        (r"gynaec", "gynec"),
        (r"caec", "cec"),
        (r"anaes", "anes"),
        (r"anaemi", "anemi"),
        (r"orrhoea", "orrhea"),
        (r"^foet", "fet"),
        (r"coel(?=iac)", "cel"),
        (r"^fibre", "fiber"),
        (r"centre$", "center"),
        (r"^grey", "gray"),
        (r"colour", "color"),
        (r"^naev", "nev"),
        (r"isation$", "ization"),
        (r"ising$", "izing"),
        (r"ised$", "ized"),
    )
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
# These end like a British spelling and are none.
_AS_THEY_ARE = frozenset({"raised", "advised", "comprised", "excised", "comprising", "arising"})


@dataclass(frozen=True)
class Token:
    """A word as written, as compared (`word`), and its place in the text it came from."""

    text: str
    word: str
    start: int
    end: int
    opens_sentence: bool
    gap: str  # what stands between the word before and this one


def clean(text: str) -> str:
    """Return the text in one Unicode form, with plain hyphens, quotes and spaces."""
    text = unicodedata.normalize("NFKC", text)
    for odd in "\u2010\u2011\u2012\u2013\u2014\u2212":
        text = text.replace(odd, "-")
    text = re.sub("[“”„«»]", '"', text)
    return re.sub("[\u200b\u00ad\ufeff]", "", text).replace("\u2019", "'")


@lru_cache(maxsize=1 << 16)
def spelled(word: str) -> str:
    """Return one word in small letters, in American spelling, without umlauts or possessive."""
    word = word.lower().translate(_UMLAUTS)
    if word.endswith("'s"):
        word = word[:-2] + "s"
    word = word.replace("'", "")
    if word not in _AS_THEY_ARE:
        for pattern, replacement in _SPELLING:
            word = pattern.sub(replacement, word)
    return word


def tokens_of(text: str) -> list[Token]:
    """Return the words of a text that `clean` has been over.

    Hyphens and slashes part words ("non-small", "HER2/neu"), so that spellings with and
    without them compare equal.
    """
    found: list[Token] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        opens = not found or (
            gap != " "
            and bool(
                (_END.search(gap) and not _abbreviates(found[-1], gap, match.group()))
                or _EMPTY_LINE.search(gap)
                or ("\n" in gap and _begins_item(text, end, match.start()))
            )
        )
        found.append(
            Token(match.group(), spelled(match.group()), match.start(), match.end(), opens, gap)
        )
        end = match.end()
    return found


def _abbreviates(before: Token, gap: str, after: str) -> bool:
    """Return whether the point is that of "H. pylori", not the end of a sentence."""
    return len(before.text) == 1 and gap.strip() == "." and after[0].islower()


def _begins_item(text: str, start: int, stop: int) -> bool:
    """Return whether the line that begins between the two places is an item of a list."""
    line = text.rfind("\n", start, stop)
    return bool(_ITEM.match(text, line))


def singular(word: str) -> str:
    """Return a word without the English plural, for looking it up; not for showing."""
    if len(word) > 4 and word.endswith("ses"):
        return word[:-2] + "is"
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and word[-2] not in "sui":
        return word[:-1]
    return word
