"""How well words find real reports, and whether denied findings stay out.

    python -m benchmarks.text_search --data ../shared/data/tcga [--reports 1000]

Fills a scratch database (made beside the site's own, dropped at the end) with the pathology
reports of that folder, each a case of its own under `diagnosis_text`, as a LIS that sends one
text would. Then, in one run:

* queries of the kinds that pathologists type, each with the cancer types that are right answers:
  share of queries with a right report among the first 5 and 10, and share of right reports among
  them, by plain full text (websearch, English; what the site had) and by words understood;
* the same queries written as long names, as abbreviations, and with a typing error apart;
* sentences written for this command in which a finding is affirmed or denied, hidden among the
  real reports: how many of the first answers are denials;
* milliseconds of parsing a question, of reading a report, and of the database.

Reports are found by words alone here: no encoder, no slides.
"""

import argparse
import csv
import gzip
import statistics
import time
from pathlib import Path

from benchmarks.scratch import scratch_database

# (group, words, cancer types that answer). Types as TCGA names them.
QUERIES = (
    ("name", "invasive ductal carcinoma", {"BRCA"}),
    ("name", "lung adenocarcinoma", {"LUAD"}),
    ("name", "squamous cell carcinoma lung", {"LUSC"}),
    ("name", "clear cell renal cell carcinoma", {"KIRC"}),
    ("name", "papillary renal cell carcinoma", {"KIRP"}),
    ("name", "chromophobe renal cell carcinoma", {"KICH"}),
    ("name", "hepatocellular carcinoma", {"LIHC"}),
    ("name", "cholangiocarcinoma", {"CHOL"}),
    ("name", "glioblastoma", {"GBM"}),
    ("name", "oligodendroglioma", {"LGG"}),
    ("name", "prostate adenocarcinoma Gleason", {"PRAD"}),
    ("name", "urothelial carcinoma", {"BLCA"}),
    ("name", "pancreatic ductal adenocarcinoma", {"PAAD"}),
    ("name", "colon adenocarcinoma", {"COAD", "READ"}),
    ("name", "adrenocortical carcinoma", {"ACC"}),
    ("name", "malignant mesothelioma", {"MESO"}),
    ("name", "papillary thyroid carcinoma", {"THCA"}),
    ("name", "diffuse large B-cell lymphoma", {"DLBC"}),
    ("name", "endometrioid adenocarcinoma", {"UCEC", "OV"}),
    ("name", "uveal melanoma", {"UVM"}),
    ("name", "leiomyosarcoma", {"SARC"}),
    ("name", "seminoma", {"TGCT"}),
    ("name", "cervical squamous cell carcinoma", {"CESC"}),
    ("name", "laryngeal squamous cell carcinoma", {"HNSC"}),
    ("name", "esophageal adenocarcinoma", {"ESCA"}),
    ("name", "gastric adenocarcinoma", {"STAD"}),
    ("name", "ovarian serous carcinoma", {"OV"}),
    ("abbreviation", "IDC", {"BRCA"}),
    ("abbreviation", "lung adenoCA", {"LUAD"}),
    ("abbreviation", "SCC lung", {"LUSC"}),
    ("abbreviation", "ccRCC", {"KIRC"}),
    ("abbreviation", "pRCC", {"KIRP"}),
    ("abbreviation", "chRCC", {"KICH"}),
    ("abbreviation", "RCC", {"KIRC", "KIRP", "KICH"}),
    ("abbreviation", "HCC", {"LIHC"}),
    ("abbreviation", "GBM", {"GBM"}),
    ("abbreviation", "ODG", {"LGG"}),
    ("abbreviation", "PCa", {"PRAD"}),
    ("abbreviation", "TCC", {"BLCA"}),
    ("abbreviation", "PDAC", {"PAAD"}),
    ("abbreviation", "CRC", {"COAD", "READ"}),
    ("abbreviation", "ACC adrenal", {"ACC"}),
    ("abbreviation", "MPM", {"MESO"}),
    ("abbreviation", "PTC thyroid", {"THCA"}),
    ("abbreviation", "DLBCL", {"DLBC"}),
    ("abbreviation", "EEC", {"UCEC", "OV"}),
    ("abbreviation", "UVM", {"UVM"}),
    ("abbreviation", "LMS", {"SARC"}),
    ("abbreviation", "NSGCT", {"TGCT"}),
    ("abbreviation", "HNSCC", {"HNSC"}),
    ("abbreviation", "MMMT", {"UCEC", "OV", "SARC"}),
    ("grade and side", "ccRCC right G3", {"KIRC"}),
    ("grade and side", "Fuhrman 2 left kidney", {"KIRC", "KIRP", "KICH"}),
    ("grade and side", "Gleason 3+4 pT2", {"PRAD"}),
    ("grade and side", "ISUP 5 prostate", {"PRAD"}),
    ("grade and side", "HCC G2", {"LIHC"}),
    ("grade and side", "CRC pT3 N1", {"COAD", "READ"}),
    ("grade and side", "WHO grade 4 brain", {"GBM"}),
    ("grade and side", "poorly diff stomach adenoCA", {"STAD"}),
    ("grade and side", "breast left G3 IDC", {"BRCA"}),
    ("grade and side", "NSCLC stage IIIA", {"LUAD", "LUSC"}),
    ("synonym", "hypernephroma", {"KIRC", "KIRP", "KICH"}),
    ("synonym", "transitional cell carcinoma of the urinary bladder", {"BLCA"}),
    ("synonym", "bowel cancer", {"COAD", "READ"}),
    ("synonym", "kidney cancer", {"KIRC", "KIRP", "KICH"}),
    ("synonym", "oesophageal cancer", {"ESCA"}),
    ("synonym", "malignant glioma", {"GBM", "LGG"}),
    ("synonym", "hepatoma", {"LIHC"}),
    ("synonym", "Nierenzellkarzinom", {"KIRC", "KIRP", "KICH"}),
    ("synonym", "choroidal melanoma", {"UVM"}),
    ("synonym", "brain tumour IDH mutant", {"GBM", "LGG"}),
    ("typing error", "glioblastma", {"GBM"}),
    ("typing error", "mesotheliomma", {"MESO"}),
    ("typing error", "hepatocelular carcinoma", {"LIHC"}),
    ("typing error", "seminomma", {"TGCT"}),
    ("typing error", "cholangiocarcinma", {"CHOL"}),
    ("typing error", "oligodendrogliomma", {"LGG"}),
)

FINDINGS = (
    "angiosarcoma",
    "amyloidosis",
    "carcinosarcoma",
    "tuberculosis",
    "thymoma",
    "sarcoidosis",
)
AFFIRMED = (
    "{x} is present in the center of the specimen.",
    "Findings are consistent with {x}.",
    "Sections show {x} with adjacent fibrosis, no necrosis.",
    "{x}, margins free.",
)
DENIED = (
    "No evidence of {x}.",
    "Negative for {x}.",
    "There is no {x} identified.",
    "{x} is not seen.",
    "{x}: absent",
    "Chronic inflammation without {x}.",
    "Absence of {x}, dysplasia or atypia.",
    "{x} was ruled out.",
    "Negative for dysplasia, necrosis, and {x}.",
    "No granulomas, {x} or vasculitis.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tcga"))
    parser.add_argument("--reports", type=int, default=0, help="only so many; 0: all")
    asked = parser.parse_args()
    if not (asked.data / "reports.csv.gz").is_file():
        raise SystemExit(f"There is no reports.csv.gz in {asked.data}; see --data.")

    with scratch_database("_benchmark_text"):
        measure(*read(asked.data, asked.reports))


def read(folder: Path, most: int) -> tuple[list[tuple[str, str]], int]:
    """Return (cancer type, text) of each report whose patient has one type."""
    types: dict[str, set[str]] = {}
    with (folder / "slides.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            types.setdefault(row["patient_id"], set()).add(row["cancer_type"])
    with gzip.open(folder / "reports.csv.gz", "rt", newline="") as file:
        rows = [
            (next(iter(types[row["patient_id"]])), row["text"].replace("\x00", " "))
            for row in csv.DictReader(file)
            if len(types.get(row["patient_id"], ())) == 1
        ]
    return (rows[:: max(1, len(rows) // most)][:most] if most else rows), len(rows)


def measure(reports: list[tuple[str, str]], known: int) -> None:
    """Fill, ask, print."""
    from benchmarks.text_archive import Archive

    archive = Archive(reports)
    print(f"{len(reports)} of {known} reports, {len({kind for kind, _ in reports})} cancer types")
    print(f"read in {archive.read_ms:.1f} ms a report\n")
    print("queries               n   plain full text          understood")
    print("                          hit@5 hit@10   p@10      hit@5 hit@10   p@10")
    present = {kind for kind, _text in reports}
    groups = dict.fromkeys(group for group, _words, _types in QUERIES)
    for group in [*groups, "all"]:
        rows = [q for q in QUERIES if group in (q[0], "all") and q[2] & present]
        cells = []
        for search in (archive.plain, archive.understood):
            found = [
                [archive.kinds[pk] in types for pk in search(words)] for _, words, types in rows
            ]
            cells.append(
                f"{_mean(any(f[:5]) for f in found):8.2f}{_mean(any(f[:10]) for f in found):7.2f}"
                f"{_mean(sum(f[:10]) / 10 for f in found):7.2f}"
            )
        print(f"{group:17}{len(rows):6}   {cells[0]}   {cells[1]}")
    print(
        f"\n{'milliseconds a query':26}{archive.milliseconds('plain'):10.1f} plain"
        f"{archive.milliseconds('understood'):14.1f} understood, "
        f"of which {archive.milliseconds('parse'):.1f} to parse"
    )
    _denials(archive)


def _mean(values) -> float:
    return statistics.fmean(float(value) for value in values)


def _denials(archive) -> None:
    print("\ndenied findings among the first answers (4 reports affirm each, 10 deny it)")
    print("finding             plain: denials in first 4   understood: denials in first 4   in all")
    totals = [0, 0]
    for finding in FINDINGS:
        archive.add_made(finding, AFFIRMED, DENIED)
        plain, ours = (
            [archive.made.get(pk, "") for pk in search(finding, limit=50)]
            for search in (archive.plain, archive.understood)
        )
        counts = [answers[:4].count("denied") for answers in (plain, ours)]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        print(
            f"{finding:20}{counts[0]:12}{counts[1]:31}{ours.count('denied'):16}"
            f"   ({ours.count('affirmed')} of 4 affirmed found)"
        )
    asked = 4 * len(FINDINGS)
    print(f"{'of ' + str(asked) + ' first answers':20}{totals[0]:12}{totals[1]:31}")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"\ntook {time.perf_counter() - started:.0f} s")
