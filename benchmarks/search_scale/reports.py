"""Reports from a grammar: diagnosis, grade, stage, what is denied, microscopy, gross."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search_scale.vectors import DIAGNOSES

TEXTS = 20_000
ORGANS = [
    "Lung",
    "Breast",
    "Colon",
    "Stomach",
    "Prostate",
    "Kidney",
    "Liver",
    "Skin",
    "Thyroid",
    "Ovary",
    "Uterus",
    "Bladder",
    "Pancreas",
    "Brain",
    "Testis",
    "Parotid",
    "Oesophagus",
    "Larynx",
    "Lymph-node",
    "Bone",
    "Soft-tissue",
    "Adrenal",
    "Pleura",
    "Spleen",
    "Tongue",
    "Cervix",
    "Rectum",
    "Appendix",
    "Gallbladder",
    "Thymus",
]
ENTITIES = [
    "adenocarcinoma",
    "squamous cell carcinoma",
    "invasive carcinoma",
    "neuroendocrine tumour",
    "large B-cell lymphoma",
    "metastatic carcinoma",
    "chronic inflammation",
    "benign hyperplasia",
    "high-grade dysplasia",
    "sarcoma",
]
STAINS = ["H&E"] * 8 + ["PAS", "Ki-67"]
_DENIED = ["lymphovascular invasion", "perineural invasion", "necrosis", "carcinoma", "granuloma"]
_SEEN = [
    "The tumour forms irregular glands and solid nests in a desmoplastic stroma.",
    "There is brisk lymphocytic infiltration at the invasive front.",
    "Mitoses are frequent, up to 14 in 10 high power fields.",
    "Keratin pearls and intercellular bridges are seen.",
    "Abundant extracellular mucin with signet ring cells is present.",
    "The nuclei are enlarged, hyperchromatic and pleomorphic with prominent nucleoli.",
    "The resection margins are free of tumour.",
    "The background shows chronic active inflammation and fibrosis.",
    "Areas of confluent necrosis are seen.",
    "Cribriform architecture with comedo necrosis is noted.",
]


@dataclass(frozen=True)
class Text:
    """One report."""

    organ: str
    line: str
    code: str
    microscopy: str
    gross: str


def diagnosis_name(diagnosis: int) -> tuple[str, str]:
    """Return organ and entity of one of the diagnoses."""
    return ORGANS[diagnosis % len(ORGANS)], ENTITIES[diagnosis // len(ORGANS) % len(ENTITIES)]


def notes(data: Path | None, most: int = 5000) -> list[str]:
    """Return pathologists' notes of GTEx, where the file is; else none."""
    file = data / "gtex" / "notes.csv.gz" if data else None
    if file is None or not file.is_file():
        return []
    with gzip.open(file, "rt", encoding="utf-8") as rows:
        found = [row["Pathology Notes"] for row in csv.DictReader(rows) if row["Pathology Notes"]]
    return found[:most]


def texts(real: list[str], seed: int = 11) -> list[Text]:
    """Return `TEXTS` reports; those of a diagnosis are at every `DIAGNOSES`th place."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(TEXTS):
        diagnosis = number % DIAGNOSES
        organ, entity = diagnosis_name(diagnosis)
        side = rng.choice(["left ", "right ", ""])
        grade, stage = rng.integers(1, 4), rng.integers(1, 5)
        seen = rng.choice(_SEEN, 3, replace=False)
        denied = rng.choice(_DENIED, 2, replace=False)
        extra = real[int(rng.integers(len(real)))] if real else ""
        made.append(
            Text(
                organ,
                f"{side}{organ.lower()}: {entity}, grade {grade}, pT{stage} N{rng.integers(0, 3)}",
                f"{8000 + diagnosis}/3",
                f"{' '.join(seen)} No evidence of {denied[0]}. Negative for {denied[1]}. {extra}",
                f"Specimen of {organ.lower()} measuring {rng.integers(1, 20)} x "
                f"{rng.integers(1, 9)} cm, block {number % 97}.",
            )
        )
    return made
