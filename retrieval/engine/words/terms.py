"""The dictionary: what abbreviations and synonyms mean (terms.txt, and a department's own)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from retrieval.engine.errors import EngineError
from retrieval.engine.words.expressions import morphology_tags
from retrieval.engine.words.tokens import clean, singular, tokens_of

_ABBREVIATION = 5  # letters, at most
KINDS = frozenset({"dx", "finding", "marker", "stain", "procedure", "organ", "word"})


class DictionaryError(EngineError):
    """A line of the dictionary cannot be read."""

    code = "dictionary_invalid"


@dataclass(frozen=True)
class Entry:
    """One meaning with all its names; the first is how it is shown."""

    kind: str
    preferred: str
    forms: tuple[str, ...] = ()
    organs: frozenset[str] = frozenset()
    codes: tuple[str, ...] = ()
    is_own: bool = False  # of a department, not of the built-in dictionary
    # Forms that count only as typed in capitals ("NET").
    capitals: frozenset[str] = frozenset()
    # Names of narrower entries: who asks for this one means those too.
    narrower: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the preferred name and the other forms."""
        return (self.preferred, *self.forms)

    def code_tags(self) -> tuple[str, ...]:
        """Return the tags of the entity's own morphology codes."""
        found = []
        for code in self.codes:
            morphology, _slash, behaviour = code.partition("/")
            if behaviour:
                found.append(morphology_tags(morphology, behaviour)[0])
        return tuple(found)


Key = tuple[str, ...]


@lru_cache(maxsize=1 << 14)
def key_of(text: str) -> Key:
    """Return how a form is looked up: its words, spelled in one way, without plurals."""
    return tuple(singular(token.word) for token in tokens_of(clean(text)))


@dataclass(frozen=True)
class Dictionary:
    """Entries by every name they have."""

    entries: tuple[Entry, ...]
    by_key: dict[Key, tuple[Entry, ...]] = field(repr=False)
    longest: int
    # Every word of the dictionary, as spelled; counted once, each question needs it.
    vocabulary: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Dictionary":
        """Return the dictionary of these entries."""
        entries = tuple(entries)
        by_key: dict[Key, list[Entry]] = {}
        for entry in entries:
            for name in entry.names:
                key = key_of(name)
                if key and entry not in by_key.setdefault(key, []):
                    by_key[key].append(entry)
        return cls(
            entries,
            {key: tuple(found) for key, found in by_key.items()},
            max(map(len, by_key), default=0),
            frozenset(
                token.word
                for entry in entries
                for name in entry.names
                for token in tokens_of(clean(name))
            ),
        )

    def extended(self, own: Iterable[Entry]) -> "Dictionary":
        """Return a dictionary with a department's entries: their forms come before ours."""
        added = Dictionary.of(own)
        if not added.entries:
            return self
        by_key = {**self.by_key, **added.by_key}
        for entry in added.entries:  # what it means keeps what it meant before
            key = key_of(entry.preferred)
            by_key[key] = (*added.by_key[key], *self.by_key.get(key, ()))
        return Dictionary(
            (*added.entries, *self.entries),
            by_key,
            max(added.longest, self.longest),
            self.vocabulary | added.vocabulary,
        )

    def at(
        self, words: Sequence[str], texts: Sequence[str], start: int
    ) -> tuple[int, tuple[Entry, ...]]:
        """Return how many words the longest name at this place has, and whose it is: (0, ()).

        words: as spelled; texts: as typed, for names that count in capitals only.
        """
        looked_up = [singular(word) for word in words[start : start + self.longest]]
        for size in range(len(looked_up), 0, -1):
            entries = self.by_key.get(tuple(looked_up[:size]), ())
            typed = " ".join(texts[start : start + size])
            entries = tuple(
                entry for entry in entries if self._counts(entry, looked_up[:size], typed)
            )
            if entries:
                return size, entries
        return 0, ()

    @staticmethod
    def _counts(entry: Entry, key: Sequence[str], typed: str) -> bool:
        guarded = {key_of(form) for form in entry.capitals}
        return tuple(key) not in guarded or typed.isupper()

    def searched_names(self, entry: Entry) -> tuple[str, ...]:
        """Return the names by which reports say this: its own, and those of narrower entries.

        Left out are abbreviations that also mean something else: they would find it too.
        """
        names = list(entry.names)
        for name in entry.narrower:
            below = self.by_key.get(key_of(name), ())
            names += [name, *(n for one in below if one is not entry for n in one.names)]
        return tuple(dict.fromkeys(name for name in names if not self._misleads(name)))

    def _misleads(self, name: str) -> bool:
        entries = self.by_key.get(key_of(name), ())
        is_short = " " not in name and len(name) <= _ABBREVIATION
        return is_short and (len(entries) > 1 or any(name in e.capitals for e in entries))

    def organs_in(self, text: str) -> frozenset[str]:
        """Return the preferred names of the organs that a text speaks of."""
        tokens = tokens_of(clean(text))
        words, texts = [t.word for t in tokens], [t.text for t in tokens]
        found: set[str] = set()
        at = 0
        while at < len(words):
            size, entries = self.at(words, texts, at)
            found |= {entry.preferred for entry in entries if entry.kind == "organ"}
            for entry in entries:
                if entry.kind != "organ" and len(entries) == 1 and len(entry.organs) == 1:
                    found |= entry.organs
            at += max(1, size)
        return frozenset(found)

    def marker_keys(self) -> frozenset[Key]:
        """Return the names of markers, as spelled words."""
        return frozenset(
            tuple(token.word for token in tokens_of(clean(name)))
            for entry in self.entries
            if entry.kind == "marker"
            for name in entry.names
        )

    def organ_words(self) -> frozenset[str]:
        """Return the words of organs, which nobody denies."""
        return frozenset(
            token.word
            for entry in self.entries
            if entry.kind == "organ"
            for name in entry.names
            for token in tokens_of(clean(name))
        )


def read_entries(text: str) -> list[Entry]:
    """Return the entries of a dictionary file; its head says how it is written.

    Raises DictionaryError naming the line that cannot be read.
    """
    entries = []
    organs: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 5 or parts[0] not in KINDS or not parts[1]:
            raise DictionaryError(
                f"Line {number} of the dictionary is not 'kind | term | organs | codes | forms'."
            )
        kind, preferred, told, codes, forms = parts
        if kind == "organ":
            organs.add(preferred)
        names = [form.strip() for form in forms.split(";") if form.strip()]
        capitals = frozenset(name[1:] for name in names if name.startswith("="))
        entries.append(
            Entry(
                kind=kind,
                preferred=preferred,
                forms=tuple(name.removeprefix("=") for name in names if name[0] != "<"),
                narrower=tuple(name[1:] for name in names if name.startswith("<")),
                organs=_organs(told, organs, number),
                codes=tuple(codes.split()),
                capitals=capitals,
            )
        )
    return entries


def _organs(told: str, known: set[str], number: int) -> frozenset[str]:
    """Return the organs named in a row: names of organ entries, some of two words."""
    found = set()
    rest = told
    for name in sorted(known, key=len, reverse=True):
        if name in rest:
            found.add(name)
            rest = rest.replace(name, " ")
    if rest.split():
        raise DictionaryError(f"Line {number} of the dictionary: no organ {rest.split()}.")
    return frozenset(found)


@lru_cache(maxsize=1)
def built_in() -> Dictionary:
    """Return the dictionary that comes with the project; read once in a process."""
    source = files("retrieval.engine.words").joinpath("terms.txt")
    return Dictionary.of(read_entries(source.read_text(encoding="utf-8")))
