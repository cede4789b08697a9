"""The card of a trained model, for people: data, split, figures, terms, settings, weights."""

import json
from collections.abc import Mapping
from typing import Any

from retrieval.engine.tables import retrieval_table

_KINDS = {
    "aligner": "Default aligner: discriminants and hashed words, in closed form",
    "reference": "Reference network: attentive mosaic, by gradient steps",
}


def card_markdown(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown. Facts that are not known say so."""
    train, held_out = card["train"], card["held_out"]
    lines = [
        f"# {card.get('name') or card['file']}",
        "",
        _KINDS[card["kind"]] + ".",
        "",
        "| | |",
        "| --- | --- |",
        f"| Data | {card.get('data', 'not stated')} |",
        f"| Licence | {card.get('licence', 'not stated')} |",
        f"| Features | {card.get('encoder', 'not stated')}, {card['input_dim']} wide |",
        f"| Labels | {card.get('labels', 'not stated')} |",
        f"| Learned from | {_counts(train)}; with a label {train['labelled']}, "
        f"reports {train['reports']} |",
        f"| Held out | {_counts(held_out)} |",
        f"| Split | {card.get('split', 'not stated')} |",
        f"| Vectors | {card['dimension']} wide, at most {card['token_count']} tokens of "
        f"{card['token_dimension']} |",
        f"| Text side | {'yes' if card['has_text_side'] else 'no'} |",
        f"| Seed | {card['seed']} |",
        f"| Weights | `{card['file']}`, SHA-256 `{card['sha256']}` |",
        "",
        *_figures(card.get("figures")),
        "## Settings",
        "",
        "```json",
        json.dumps(card["settings"], indent=2, sort_keys=True),
        "```",
        "",
        "It finds slides that look alike. It makes no diagnosis, and its labels, which may be "
        "read from reports, are never shown as one.",
        "",
    ]
    return "\n".join(lines)


def _counts(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {part[name]}" for name in ("slides", "patients", "hospitals"))


def _figures(figures: Mapping[str, Any] | None) -> list[str]:
    if not figures:
        return ["Nothing was held out to measure on.", ""]
    out = "patient and hospital" if figures["hospital_left_out"] else "patient"
    table = retrieval_table(
        [(name, found["values"], found["intervals"]) for name, found in figures["methods"].items()]
    )
    return [
        "## Figures",
        "",
        f"{figures['queries']} held-out slides against {figures['gallery']}, the query's {out} "
        "left out; in brackets 95 % bootstrap intervals over patients. Settings, or the moment "
        "to stop, were chosen by the same slides, so that the model's own figures are a little "
        "too good.",
        "",
        table,
    ]
