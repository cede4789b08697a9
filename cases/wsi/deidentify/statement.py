"""The de-identification table of the conformance statement, made of the rules themselves."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

from cases.wsi.deidentify.rules import Rule, listed

_KINDS = {
    "number": "a number, written anew",
    "word": "one of: {words}",
    "constant": "{words}",
    "tag": "a tag",
    "items": "its items by the rows below",
    "empty": "empty",
}


def deidentification_table() -> str:
    """Return the table in Markdown: attribute, tag, action of PS3.15 E.1, what is written."""
    lines = ["| Attribute | Tag | Action | What is written |", "| --- | --- | --- | --- |"]
    for path, rule in listed():
        names = path.split(" > ")
        tag = tag_for_keyword(names[-1]) or 0
        shown = "> " * (len(names) - 1) + names[-1]
        lines.append(
            f"| {shown} | ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {rule.action} | {_what(rule)} |"
        )
    return "\n".join(lines)


def _what(rule: Rule) -> str:
    words = ", ".join(rule.words)
    parts = [_KINDS.get(rule.kind, "").format(words=words) if words or rule.kind in _KINDS else ""]
    if rule.kind == "constant" and not words:
        parts = []
    return "; ".join(part for part in (*parts, rule.note) if part)
