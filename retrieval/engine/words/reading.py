"""A report as the search sees it: what it affirms and what it denies, by section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from retrieval.engine.words.expressions import Expression, expressions_of
from retrieval.engine.words.negation import Polarity, judged
from retrieval.engine.words.sections import WEIGHTS, sections_of
from retrieval.engine.words.terms import Key, built_in
from retrieval.engine.words.tokens import Token, clean, tokens_of

# Raised when a report would be read differently: rows made by an older one are made anew.
READING_VERSION = 3
# Stands where a word is left out, so that its neighbours do not become a phrase. Postgres' English
# configuration drops it and counts its place.
GAP = "the"


@dataclass(frozen=True)
class Reading:
    """The searchable text of a report by weight (A, B, C, D), as space-parted words."""

    affirmed: Mapping[str, str]
    denied: Mapping[str, str]


@dataclass(frozen=True)
class Read:
    """A piece of text: its tokens, the expressions among them, and what is said of each."""

    text: str
    tokens: list[Token]
    expressions: list[Expression]
    polarity: list[Polarity]
    triggers: frozenset[int] = frozenset()

    def expression_at(self, token: Token) -> Expression | None:
        """Return the expression that the token is a part of."""
        return next(
            (e for e in self.expressions if e.start < token.end and token.start < e.end), None
        )


@lru_cache(maxsize=1)
def _spared_words() -> tuple[frozenset[str], frozenset[Key]]:
    dictionary = built_in()
    return dictionary.organ_words(), dictionary.marker_keys()


def read_text(text: str, *, asked: bool = False) -> Read:
    """Return the tokens of a cleaned text with their polarity. asked: it is a question."""
    tokens = tokens_of(text)
    expressions = expressions_of(text, asked=asked)
    spared = _inside(tokens, expressions)
    organs, markers = _spared_words()
    verdict = judged(tokens, spared=spared, spared_words=organs, markers=markers)
    return Read(text, tokens, expressions, verdict.polarity, verdict.triggers)


def _inside(tokens: Sequence[Token], expressions: Sequence[Expression]) -> list[int]:
    """Return the indices of tokens that lie in an expression; both come in order."""
    found: list[int] = []
    at = 0
    for index, token in enumerate(tokens):
        while at < len(expressions) and expressions[at].end <= token.start:
            at += 1
        if at < len(expressions) and expressions[at].start < token.end:
            found.append(index)
    return found


@lru_cache(maxsize=1 << 14)
def searchable(text: str) -> str:
    """Return a text as its words are stored in `affirmed`, all of it affirmed."""
    affirmed, _denied = _written(read_text(clean(text)), heed=False)
    return affirmed


def _written(read: Read, *, heed: bool = True) -> tuple[str, str]:
    affirmed: list[str] = []
    denied: list[str] = []
    at, last = 0, None
    for token, polarity in zip(read.tokens, read.polarity, strict=True):
        while at < len(read.expressions) and read.expressions[at].end <= token.start:
            at += 1
        if at < len(read.expressions) and read.expressions[at].start < token.end:
            if last != at:  # tags once, in the place of the whole expression
                affirmed.extend(read.expressions[at].tags)
                denied.append(GAP)
                last = at
            continue
        is_affirmed = polarity is Polarity.AFFIRMED or not heed
        affirmed.append(token.word if is_affirmed else GAP)
        denied.append(token.word if polarity is Polarity.DENIED else GAP)
    return " ".join(affirmed), " ".join(denied)


def read_report(fields: Sequence[tuple[str, str]], *, codes: Sequence[str] = ()) -> Reading:
    """Read a report.

    Parameters
    ----------
    fields : sequence of (weight, text)
        The report's fields with the weight of text that stands under no heading; headings
        within a text part it further.
    codes : sequence of str
        Coded diagnoses (ICD-O-3, ICD-10, SNOMED CT); searched with the diagnosis.

    Returns
    -------
    Reading
        A weight without text is absent. Denied text holds only what is denied ("no evidence
        of carcinoma": carcinoma); what is left open ("rule out carcinoma") is in neither.
    """
    affirmed: dict[str, list[str]] = {}
    denied: dict[str, list[str]] = {}
    for default, text in fields:
        for weight, part in sections_of(clean(text), default):
            yes, no = _written(read_text(part))
            affirmed.setdefault(weight, []).append(yes)
            if no.strip(f" {GAP}"):
                denied.setdefault(weight, []).append(no)
    for code in codes:
        read = read_text(clean(code), asked=True)
        yes, _no = _written(read, heed=False)
        if yes:
            affirmed.setdefault(WEIGHTS[0], []).append(yes)
    return Reading(
        {weight: " ".join(texts) for weight, texts in affirmed.items()},
        {weight: " ".join(texts) for weight, texts in denied.items()},
    )
