"""Takes what points at a person out of free text: reports, histories, labels.

Pure: whose text it is, the caller says. What is known of the person is replaced wherever it
stands and however it is spelled; beyond that, whatever looks like a date, a long number, an
address of a machine or a clinician's name. A word too much is no harm, one too few is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GONE = "[…]"  # no word, so that full text does not find it

_MONTH = r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-zä]{0,6}\.?"
_DATES = re.compile(
    rf"""
    \b(?:19|20)\d{{2}}[-./]\d{{1,2}}[-./]\d{{1,2}}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}})?)?
    | \b\d{{1,2}}(?P<sep>[-./])\d{{1,2}}(?P=sep)(?:\d{{4}}|\d{{2}})\b
    | \b\d{{1,2}}(?:st|nd|rd|th|\.)?[\s-]{{0,3}}{_MONTH}[\s,-]{{0,3}}(?:\d{{4}}|\d{{2}})\b
    | \b{_MONTH}\s{{0,3}}\d{{1,2}}(?:st|nd|rd|th)?,?\s{{1,3}}\d{{4}}\b
    | \b{_MONTH}\s{{0,3}}(?:19|20)\d{{2}}\b
    | \b(?:19|20)\d{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A year alone tells by how much the other dates were moved; one of a classification does not.
_YEARS = re.compile(
    r"(?<!WHO )(?<!FIGO )(?<!AJCC )(?<!UICC )(?<!WHO\()(?<!WHO \()(?<![\d.,/-])"
    r"(?:19|20)\d{2}(?![\d/]|[.,]\d)"
)
_NUMBERS = re.compile(
    r"""
    (?<![\d.,])\d{5,}(?![\d/]|[.,]\d)             # of five digits and more
    | \b[A-Z]{1,4}[-\s]?\d{2}[-/]\d{2,}\b         # S26-00123
    | \b\d{2,4}[-/]\d{4,}\b                       # 26-00123
    | (?<![\d.,])\+?\(?\d{2,5}\)?(?:[\s/-]\d{3,5}){2,4}\b  # telephones
    | \b[^\s@<>]{1,64}@[^\s@<>]{1,64}\.[a-z]{2,10}\b
    | \bhttps?://\S{1,200}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_AGE = re.compile(r"\b(?:9\d|1[01]\d)(?=[\s-]{0,2}(?:years?|yrs?|y\.?o|jahre?|jährig))", re.I)
_NAME = r"[A-ZÄÖÜ][\w'\u2019-]{0,30}"
_CLINICIANS = re.compile(
    rf"""
    \b(?:Dr|Drs|Prof|PD|OA|OÄ|Mr|Mrs|Ms|Herr|Frau|Doctor|Nurse)\b\.?
        (?:\s{{1,2}}(?:Dr|med|Prof)\b\.?){{0,3}}
        (?:\s{{1,2}}(?:[A-Z]\.|{_NAME})){{1,3}}
    | \b{_NAME}(?:\s{{1,2}}(?:[A-Z]\.|{_NAME})){{0,2}},?\s{{1,2}}
        (?:M\.?D\.?|D\.?O\.?|Ph\.?D\.?|FRCPath|MBBS)(?![\w])
    """,
    re.VERBOSE,
)
# Lines of a letter's head and foot: dropped whole, whoever they name.
_HEAD = re.compile(
    r"""
    ^[ \t>*#|-]{0,10}(?:
      (?:patient(?:in|['\u2019]?s)?|name|last\ name|first\ name|surname|given\ name|family\ name
        |nachname|vorname|mrn|medical\ record|accession|eingang|journal
        |(?:case|fall|specimen|order|auftrag)[ \t]{0,3}(?:no\.?|nr\.?|number|id|\#)
        |d\.?o\.?b\.?|date\ of\ birth|birth\ ?date|geburtsdatum|geb\.?|age|sex|gender|alter
        |address|anschrift|adresse|phone|telephone|telefon|tel\.?|fax|e-?mail|ssn|insurance
        |versicherung|krankenkasse|hospital|klinik|ward|station|clinic|physician|surgeon
        |clinician|pathologist|einsender|arzt|ärztin|referring|requested|ordered|submitted
        |attending|copies|copy|cc|date|datum|collected|reported)
      (?:[ \t]{1,3}(?:\w{1,14}|\#)){0,2}[ \t]{0,4}(?:\#|no\.?|nr\.?)?[ \t]{0,4}[:=]
    | (?:electronically[ \t]{1,3})?(?:signed|dictated|transcribed|reviewed|verified)
      (?:[ \t]{1,3}(?:out|and|electronically|off)){0,3}[ \t]{1,3}(?:by|on)\b
    ).*$
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_PLAIN_LABEL = re.compile(r"[A-Za-z]{0,3}\d{0,3}(?:[-./ ][A-Za-z]{0,4}\d{0,3}){0,3}")
_PART = re.compile(r"[^\W_]+")


class TextCleaner:
    """Cleans texts about one person.

    Parameters
    ----------
    names
        Of the person and of people around: each word of two letters and more is replaced.
    numbers
        Record and accession numbers, barcodes: replaced with whatever separators.
    """

    def __init__(self, names: Iterable[str] = (), numbers: Iterable[str] = ()) -> None:
        words = {word for name in names for word in _PART.findall(name) if len(word) > 1}
        known = [re.escape(word) for word in words]
        for number in numbers:
            parts = re.findall(r"[^\W\d_]+|\d+", number)
            if len("".join(parts)) > 1:
                known.append(r"[\W_]{0,2}".join(map(re.escape, parts)))
        known.sort(key=lambda one: (-len(one), one))
        text = rf"(?<![^\W_])(?:{'|'.join(known)})(?:['\u2019]?s)?(?![^\W_])"
        self._known = re.compile(text, re.IGNORECASE) if known else None

    def clean(self, text: str) -> str:
        """Return the text without what points at somebody."""
        if not text:
            return text
        text = _HEAD.sub("", text)
        # The longest first: a date in it would break a number in two.
        if self._known is not None:
            text = self._known.sub(GONE, text)
        for pattern in (_CLINICIANS, _DATES, _NUMBERS, _YEARS):
            text = pattern.sub(GONE, text)
        text = _AGE.sub("90+", text)
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") if "\n" in text else text

    def keeps(self, label: str) -> bool:
        """Return whether a label (A, A1-1, 3 HE) names a part and nothing else."""
        return bool(_PLAIN_LABEL.fullmatch(label)) and self.clean(label) == label
