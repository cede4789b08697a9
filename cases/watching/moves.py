"""Moves deliveries to `done` or `rejected`, with the reasons beside them.

What is to be moved is written down first, so that a process killed in the middle finishes it
at its next start: half a MIRAX slide must not look like a delivery of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from cases.services.store import fsync
from cases.watching.candidates import DONE, OWN, REASON_SUFFIX, REJECTED

JOURNAL = "moving.json"


class Mover:
    """The places of one watched folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = folder / OWN / JOURNAL
        for name in (DONE, REJECTED, OWN):
            place = folder / name
            place.mkdir(exist_ok=True)
            if place.is_symlink():
                raise NotADirectoryError(f"{place} is a link")

    def finish_interrupted(self) -> None:
        """Do what a killed process had begun."""
        if self._journal.exists():
            self._act(json.loads(self._journal.read_text(encoding="utf-8")))

    def move(
        self,
        name: str,
        entries: tuple[str, ...],
        *,
        reasons: Mapping[str, str],
        is_rejected: bool,
    ) -> None:
        """Move the entries of a delivery; `reasons`: path in it, or its name -> sentence.

        Of a delivery that was taken, parts with a reason go to `rejected` all the same.
        """
        place = REJECTED if is_rejected else DONE
        suffix = self._free(name, entries)
        moves, texts = [], {}
        for path, reason in reasons.items():
            target = f"{REJECTED}/{_with(path, suffix)}"
            texts[f"{target}{REASON_SUFFIX}"] = reason
            is_part = path != name and os.path.lexists(self._folder / path)
            if is_part and not is_rejected:
                moves.append([path, target])
        moved = {source for source, _target in moves}
        moves += [
            [entry, f"{place}/{_with(entry, suffix)}"] for entry in entries if entry not in moved
        ]
        plan = {"moves": moves, "texts": texts}
        partial = self._journal.with_suffix(".partial")
        partial.write_text(json.dumps(plan), encoding="utf-8")
        fsync(partial)
        partial.replace(self._journal)
        fsync(self._journal.parent)
        self._act(plan)

    def _act(self, plan: dict) -> None:
        for target, text in plan["texts"].items():
            path = self._folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name in it may be no UTF-8.
            path.write_text(text.rstrip() + "\n", encoding="utf-8", errors="replace")
        for source, target in plan["moves"]:
            if os.path.lexists(self._folder / source):
                (self._folder / target).parent.mkdir(parents=True, exist_ok=True)
                _rename(self._folder / source, self._folder / target)
        self._journal.unlink(missing_ok=True)

    def _free(self, name: str, entries: tuple[str, ...]) -> str:
        """Return what to put before the names so that none is taken already."""
        number = 1
        while True:
            suffix = f"{number}-" if number > 1 else ""
            names = [_with(each, suffix) for each in {name, *entries}]
            places = [self._folder / place / each for place in (DONE, REJECTED) for each in names]
            if not any(os.path.lexists(place) for place in places):
                return suffix
            number += 1


def _rename(source: Path, target: Path) -> None:
    source.rename(target)


def _with(path: str, prefix: str) -> str:
    """Return the path with the prefix before its first part."""
    return prefix + path
