"""What a pathologist's words ask for.

    IDC G3 left -necrosis "signet ring" without DCIS, like this slide but mucinous

Everything asked for is to be affirmed; what is denied ("without", "no", "negative for") or left
out ("-word", "NOT", "but not") must not be. Words of the dictionary stand for all their names.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files

from retrieval.engine.words.expressions import Expression, asked_parts
from retrieval.engine.words.negation import Polarity
from retrieval.engine.words.reading import Read, read_text, searchable
from retrieval.engine.words.surfaces import surfaces_of
from retrieval.engine.words.terms import Dictionary, Entry
from retrieval.engine.words.tokens import Token, clean

_STOP = frozenset(
    word
    for word in files("retrieval.engine.words")
    .joinpath("fillers.txt")
    .read_text("utf-8")
    .split("\n")
    if word and not word.startswith("#")
)
_LEAD = re.compile(
    r"^\s*(?:(?:please\s+)?(?:show|find|search|give|list|get)(?:\s+me)?(?:\s+for)?(?:\s+all)?\s+)?"
    r"(?:(?:the\s+)?(?:cases?|slides?|reports?|patients?|specimens?)\s+"
    r"(?:with|of|showing|that show)\s+)?",
    re.IGNORECASE,
)
_LIKE = re.compile(
    r"^\s*(?:(?:(?:cases?|slides?|more|something)\s+)?(?:like|similar\s+to|same\s+as)\s+"
    r"(?:this|that|these)(?:\s+(?:slide|case|image|region|one|picture|tissue))?|but)\b[\s,]*"
    r"(?:but\b)?\s*(?:with\b|showing\b|also\b)?\s*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'(?P<minus>(?:^|(?<=\s))-|\bNOT\s+)?"(?P<phrase>[^"]*)"')
_LEFT_OUT = re.compile(
    r"\bNOT\s+|\bbut\s+not\s+(?:with\s+)?|\band\s+not\s+|\baber\s+nicht\s+|(?:^|(?<=\s))-(?=\w)"
)


@dataclass(frozen=True)
class Concept:
    """One thing that a report says or not.

    exact: texts, as `searchable` writes them, one of which is said; loose: sets of words, of
    which one set is found anywhere; tags: grades, stages, sides, codes, one of which is found;
    shown: how it may be written, to mark it; quoted: to be taken from the plain text.
    """

    typed: str
    label: str
    kind: str = "word"
    exact: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    quoted: bool = False


@dataclass(frozen=True)
class Chip:
    """A piece of what was understood, for the reader: kind and text."""

    kind: str
    text: str


@dataclass(frozen=True)
class Question:
    """What is asked: every group needs one of its concepts affirmed."""

    asked: tuple[tuple[Concept, ...], ...] = ()
    denied: tuple[Concept, ...] = ()
    left_out: tuple[Concept, ...] = ()
    chips: tuple[Chip, ...] = ()
    spoken: str = ""
    # "like this slide, but …": what is asked for is a condition, the order is the tissue's.
    is_condition: bool = False
    unknown: frozenset[str] = frozenset()

    @property
    def is_strict(self) -> bool:
        """Return whether meaning alone may not add reports."""
        quoted = any(concept.quoted for group in self.asked for concept in group)
        return bool(quoted or self.denied or self.left_out or self.is_condition)


@dataclass
class _Draft:
    asked: list[list[Concept]] = field(default_factory=list)
    denied: list[Concept] = field(default_factory=list)
    left_out: list[Concept] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    joins: bool = False  # the next concept joins the group before: "a OR b"

    def ask(self, concept: Concept) -> None:
        if self.joins and self.asked:
            self.asked[-1].append(concept)
        else:
            self.asked.append([concept])
        self.joins = False


def parse(
    text: str,
    dictionary: Dictionary,
    *,
    organs: Collection[str] = (),
    corrections: Mapping[str, str] | None = None,
) -> Question:
    """Return what the words ask for.

    Parameters
    ----------
    text : str
        The words as typed.
    dictionary : Dictionary
        Built-in entries and those of the asker's departments.
    organs : collection of str
        Organs that the question is limited to; with those in the text they tell "SCC" apart.
    corrections : mapping, optional
        Words (as spelled) to be read as others; each is shown.

    Returns
    -------
    Question
        `unknown` holds words that the dictionary does not have: the caller may look for typing
        errors and parse again.
    """
    text = clean(text)
    draft = _Draft()
    context = dictionary.organs_in(text) | dictionary.organs_in("; ".join(organs))
    reader = _Reader(dictionary, context, corrections or {}, draft)
    rest = _LEAD.sub("", text, count=1)
    like = _LIKE.match(rest)
    if like:
        rest = rest[like.end() :]
    at = 0
    for match in _QUOTED.finditer(rest):
        reader.free(rest[at : match.start()])
        reader.quoted(match["phrase"], left_out=bool(match["minus"]))
        at = match.end()
    reader.free(rest[at:].replace('"', " "))
    is_condition = bool(like and (draft.asked or draft.denied or draft.left_out))
    if is_condition and draft.asked:
        draft.chips.append(Chip("only", "only reports that say this"))
    return Question(
        asked=tuple(tuple(group) for group in draft.asked),
        denied=tuple(draft.denied),
        left_out=tuple(draft.left_out),
        chips=tuple(dict.fromkeys(draft.chips)),
        spoken=" ".join(" ".join(draft.spoken).split()),
        is_condition=is_condition,
        unknown=frozenset(draft.unknown),
    )


@dataclass
class _Reader:
    """Reads one question into a draft."""

    dictionary: Dictionary
    context: frozenset[str]
    corrections: Mapping[str, str]
    draft: _Draft

    def quoted(self, phrase: str, *, left_out: bool) -> None:
        if not searchable(phrase):
            return
        concept = Concept(phrase, f"“{phrase}”", "phrase", shown=(phrase,), quoted=True)
        if left_out:
            self.draft.left_out.append(concept)
            self.draft.chips.append(Chip("not", f"left out: “{phrase}”"))
            return
        self.draft.ask(concept)
        self.draft.spoken.append(phrase)
        self.draft.chips.append(Chip("phrase", f"exactly “{phrase}”"))

    def free(self, text: str) -> None:
        """Read a piece of text without quotes."""
        at = 0
        for match in _LEFT_OUT.finditer(text):
            if match.start() < at:
                continue
            self._asked(text[at : match.start()])
            is_dash = match.group().strip() == "-"
            at = match.end() + self._left_out(text[match.end() :], is_dash=is_dash)
        self._asked(text[at:])

    def _left_out(self, text: str, *, is_dash: bool) -> int:
        """Leave out what the text begins with; return how many characters that was."""
        if is_dash:  # one word, with what hyphens bind to it
            word = re.match(r"\w+(?:-\w+)*", text)
            text = word.group() if word else ""
        read = self._read(text)
        end = 0
        at = 0
        while at < len(read.tokens):
            if read.tokens[at].word in _STOP - {"or"} and at == 0:
                at += 1
                continue
            size, concepts = self._concepts(read, at)
            if is_dash and size < len(read.tokens):
                concepts, size = [self._words(read.tokens)], len(read.tokens)
            for concept in concepts:
                self.draft.left_out.append(concept)
                self.draft.chips.append(Chip("not", f"left out: {concept.label}"))
            at += size
            end = read.tokens[at - 1].end
            following = read.tokens[at].word if at < len(read.tokens) else ""
            if following not in {"or", "nor", "oder"}:
                break
            at += 1
        return end or len(text)

    def _asked(self, text: str) -> None:
        read = self._read(text)
        at = 0
        while at < len(read.tokens):
            token = read.tokens[at]
            if at in read.triggers:
                at += 1
            elif read.polarity[at] is Polarity.DENIED:
                at = self._denied(read, at)
            elif token.word in {"or", "oder"} and self.draft.asked:
                self.draft.joins = True
                at += 1
            else:
                size, concepts = self._concepts(read, at)
                typed = text[token.start : read.tokens[at + size - 1].end]
                if len(concepts) == 1 and concepts[0].kind == "word" and token.word in _STOP:
                    self.draft.spoken.append(typed)
                else:
                    self._ask_all(concepts, typed)
                at += size

    def _ask_all(self, concepts: list[Concept], typed: str) -> None:
        for concept in concepts:
            self.draft.ask(concept)
            if concept.kind != "word" and concept.label.lower() != concept.typed.lower():
                self.draft.chips.append(Chip(concept.kind, f"{concept.typed} = {concept.label}"))
            elif concept.kind in {"grade", "stage", "side", "code"}:
                self.draft.chips.append(Chip(concept.kind, concept.label))
        short = len(concepts) == 1 and concepts[0].kind == "term" and " " not in typed
        is_abbreviation = short and len(typed) <= 6 and typed.lower() != concepts[0].label.lower()
        self.draft.spoken.append(concepts[0].label if is_abbreviation else typed)

    def _denied(self, read: Read, start: int) -> int:
        end = start
        while end < len(read.tokens) and read.polarity[end] is Polarity.DENIED:
            end += 1
        at = start
        while at < end:
            if read.tokens[at].word in _STOP:
                at += 1
                continue
            size, concepts = self._concepts(read, at)
            if len(concepts) == 1 and concepts[0].kind == "word":
                # Words of no dictionary belong together up to the next "or" or comma.
                size = 1
                while at + size < end and not self._parts(read.tokens[at + size]):
                    size += 1
                concepts = [self._words(read.tokens[at : at + size])]
            for concept in concepts:
                self.draft.denied.append(concept)
                self.draft.chips.append(Chip("not", f"not: {concept.label}"))
            at += size
        return end

    @staticmethod
    def _parts(token: Token) -> bool:
        return token.word in {"or", "and", "nor", "oder", "und"} or "," in token.gap

    def _read(self, text: str) -> Read:
        read = read_text(text, asked=True)
        tokens = []
        for token in read.tokens:
            meant = self.corrections.get(token.word)
            if meant:
                self.draft.chips.append(Chip("typo", f"{token.text} read as {meant}"))
                token = replace(token, word=meant, text=meant)
            tokens.append(token)
        return replace(read, tokens=tokens)

    def _concepts(self, read: Read, at: int) -> tuple[int, list[Concept]]:
        """Return how many tokens the longest meaning at this place has, and its concepts."""
        words = [token.word for token in read.tokens]
        texts = [token.text for token in read.tokens]
        size, entries = self.dictionary.at(words, texts, at)
        expression = read.expression_at(read.tokens[at])
        if expression is not None:
            inside = [t for t in read.tokens[at:] if t.start < expression.end]
            if len(inside) >= size:
                return len(inside), _expressed(expression)
        if size:
            return size, [self._term(self._typed(read, at, size), entries)]
        word = words[at]
        if word not in _STOP:
            self.draft.unknown.add(word)
        return 1, [self._words(read.tokens[at : at + 1])]

    @staticmethod
    def _typed(read: Read, at: int, size: int) -> str:
        """Return what was typed, or what it was corrected to."""
        tokens = read.tokens[at : at + size]
        typed = read.text[tokens[0].start : tokens[-1].end]
        as_typed = all(read.text[t.start : t.end] == t.text for t in tokens)
        return typed if as_typed else " ".join(t.text for t in tokens)

    @staticmethod
    def _words(tokens: list[Token]) -> Concept:
        typed = " ".join(token.text for token in tokens)
        return Concept(
            typed, typed, exact=(" ".join(token.word for token in tokens),), shown=(typed,)
        )

    def _term(self, typed: str, entries: tuple[Entry, ...]) -> Concept:
        here = tuple(entry for entry in entries if entry.organs & self.context)
        entries = here or entries
        names = list(dict.fromkeys(n for e in entries for n in self.dictionary.searched_names(e)))
        whole = dict.fromkeys([typed, *(entry.preferred for entry in entries)])
        loose = [searchable(name) for name in whole if " " in name.strip()]
        everyday = all(entry.kind == "word" for entry in entries)
        label = " or ".join(dict.fromkeys(entry.preferred for entry in entries))
        return Concept(
            typed=typed,
            label=typed if everyday else label,
            kind="word" if everyday else "term",
            exact=tuple(dict.fromkeys(filter(None, map(searchable, [typed, *names])))),
            loose=tuple(dict.fromkeys(words for words in loose if " " in words)),
            tags=tuple(dict.fromkeys(tag for entry in entries for tag in entry.code_tags())),
            shown=tuple(dict.fromkeys([typed, *names])),
        )


def _expressed(expression: Expression) -> list[Concept]:
    return [
        Concept(
            typed=expression.label,
            label=expression.label,
            kind=expression.kind,
            tags=tags,
            shown=surfaces_of(tags),
        )
        for tags in asked_parts(expression)
    ]
