"""Site and kind of tumour from the words of a report, to learn from where no label is given.

A list of words, read as a person would skim: what is named most, and early, is what the report is
about. It makes training labels, never a diagnosis that anyone is shown.
"""

import re
from collections.abc import Iterable

from retrieval.engine.aligner.archive import Archive

# Word stems by site. The longest stem that a word begins with decides.
SITES: dict[str, tuple[str, ...]] = {
    "adrenal": ("adrenal", "adrenocort"),
    "bile duct": ("bile", "biliary", "cholangio", "klatskin", "hilar"),
    "bladder": ("bladder", "cystectomy", "cystoprostatectomy", "urotheli", "turbt", "ureter"),
    "brain": ("brain", "cerebr", "glio", "astrocyt", "oligodendrogli", "craniotomy", "temporal"),
    "breast": ("breast", "mastectomy", "mammary", "lumpectomy"),
    "cervix": ("cervix", "cervical", "ectocervi", "endocervi", "exocervi"),
    "colon": ("colon", "colectomy", "hemicolectomy", "cecum", "caecum", "sigmoid", "ileocecal"),
    "eye": ("eye", "ocular", "choroid", "uvea", "uveal", "enucleation", "ciliary"),
    "head and neck": (
        "tongue",
        "larynx",
        "laryng",
        "glossectomy",
        "oral",
        "tonsil",
        "mandib",
        "buccal",
        "gingiv",
        "supraglott",
        "glott",
    ),
    "kidney": ("kidney", "renal", "nephrectomy", "gerota"),
    "liver": ("liver", "hepat", "hepatectomy"),
    "lung": ("lung", "bronch", "lobectomy", "pulmonary", "pneumonectomy"),
    "lymph node": ("lymphoma", "lymphoid", "lymphoprolifer"),
    "oesophagus": ("esophag", "oesophag"),
    "ovary": ("ovary", "ovarian", "ovaries", "oophorectomy"),
    "pancreas": ("pancrea", "whipple", "pancreatoduodenectomy"),
    "pleura": ("pleura", "mesotheli", "pleurectomy"),
    "prostate": ("prostat", "gleason", "seminal", "extraprostatic"),
    "rectum": ("rectum", "rectal", "rectosigmoid", "mesorectal"),
    "skin": ("skin", "dermis", "epidermis", "breslow", "clark", "cutaneous"),
    "soft tissue": ("sarcoma", "leiomyosarcoma", "liposarcoma", "retroperiton", "thigh"),
    "stomach": ("stomach", "gastr", "gastrectomy", "pylor", "antrum"),
    "testis": ("testis", "testic", "orchiectomy", "seminoma", "spermatic", "epididym"),
    "thyroid": ("thyroid", "thyroidectomy", "isthmus"),
    "uterus": ("uterus", "uterine", "endometri", "hysterectomy", "myometri"),
}

# Phrases by kind, most telling first: the first that a report has decides.
KINDS: tuple[tuple[str, str], ...] = (
    ("glioblastoma", r"glioblastoma|gbm"),
    ("oligodendroglial or astrocytic", r"oligodendrogli\w*|oligoastrocyt\w*|astrocytoma\w*"),
    ("mesothelioma", r"mesothelioma\w*"),
    ("melanoma", r"melanoma\w*"),
    ("lymphoma", r"lymphoma\w*"),
    ("cholangiocarcinoma", r"cholangio\w*carcinoma\w*"),
    ("hepatocellular", r"hepatocellular|hepatoma"),
    ("germ cell", r"seminoma\w*|germ cell|embryonal|teratoma"),
    ("adrenocortical", r"(?:adrenal cortical|adrenocortical) (?:carcinoma|neoplasm|tumor)"),
    ("chromophobe", r"chromophobe"),
    ("clear cell", r"clear[- ]cell"),
    ("papillary", r"papillary (?:renal|thyroid|carcinoma|adenocarcinoma)"),
    ("urothelial", r"urothelial|transitional cell"),
    ("squamous", r"squamous cell|squamous carcinoma|epidermoid"),
    # Not "sarcomatoid", which is a look that a carcinoma can have.
    ("sarcoma", r"\w*sarcomas?"),
    ("serous", r"serous"),
    ("adenocarcinoma", r"adenocarcinoma\w*|gleason|ductal|endometrioid|lobular"),
    ("carcinoma", r"carcinoma\w*"),
)

_WORD = re.compile(r"[a-z]+")
# A word this far into the report counts half as much as the first.
_HALF_LIFE = 120.0
_STEMS = sorted(
    ((stem, site) for site, stems in SITES.items() for stem in stems), key=lambda p: -len(p[0])
)
_KINDS = tuple((kind, re.compile(rf"\b(?:{pattern})\b")) for kind, pattern in KINDS)


def site_of(text: str) -> str:
    """Return the site that a report is about; empty when none is named."""
    weights: dict[str, float] = {}
    for place, word in enumerate(_WORD.findall(text.lower())):
        for stem, site in _STEMS:
            if word.startswith(stem):
                weights[site] = weights.get(site, 0.0) + 0.5 ** (place / _HALF_LIFE)
                break
    return max(weights, key=lambda site: (weights[site], site)) if weights else ""


def kind_of(text: str) -> str:
    """Return the kind of tumour; of several, the most telling among those named early."""
    opening = " ".join(text.lower().split()[:200])
    for part in (opening, text.lower()):
        for kind, pattern in _KINDS:
            if pattern.search(part):
                return kind
    return ""


def label_of(text: str) -> str:
    """Return ``site: kind`` of a report; empty unless both are named."""
    site, kind = site_of(text), kind_of(text)
    return f"{site}: {kind}" if site and kind else ""


def frequent_labels(labels: Iterable[str], least: int = 10) -> tuple[str, ...]:
    """Return the labels with those of fewer than `least` members made empty."""
    listed = list(labels)
    counts: dict[str, int] = {}
    for label in listed:
        counts[label] = counts.get(label, 0) + 1
    return tuple(label if counts[label] >= least else "" for label in listed)


def report_labels(archive: Archive, least: int = 10) -> tuple[str, ...]:
    """Return a label for each slide from its patient's report; empty where there is none.

    Labels of fewer than `least` patients are left out: a tumour named once is mostly one that
    was misread.
    """
    patients = list(dict.fromkeys(archive.patients))
    found = frequent_labels((label_of(archive.reports.get(p, "")) for p in patients), least)
    by_patient = dict(zip(patients, found, strict=True))
    return tuple(by_patient[patient] for patient in archive.patients)
