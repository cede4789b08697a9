"""A small archive made in code: diagnoses, hospitals with their own stain, and reports."""

import csv
import gzip

import numpy as np

from retrieval.engine.aligner.archive import Archive

LABELS = ("adenoma", "lymphoma", "melanoma")
_WORDS = {
    "adenoma": "tubular glands with mild dysplasia",
    "lymphoma": "diffuse sheets of large atypical lymphocytes",
    "melanoma": "pigmented epithelioid cells with prominent nucleoli",
}


def made_archive(seed=0, slides=120, width=12, hospitals=10):
    """Return an archive where hospitals vary more than diagnoses do."""
    rng = np.random.default_rng(seed)
    # The stain acts along some directions, the disease along others that are weaker.
    stains = rng.normal(size=(hospitals, width)) * np.r_[np.full(4, 4.0), np.full(width - 4, 0.2)]
    diseases = rng.normal(size=(len(LABELS), width)) * np.r_[np.zeros(4), np.full(width - 4, 0.8)]
    bags, labels, places = [], [], []
    for slide in range(slides):
        hospital, label = slide % hospitals, int(rng.integers(len(LABELS)))
        count = int(rng.integers(3, 12))
        # No two slides of a hospital are stained quite the same.
        stain = (
            stains[hospital] + rng.normal(size=width) * np.r_[np.full(4, 2.0), [0.2] * (width - 4)]
        )
        bags.append(rng.normal(size=(count, width)) + stain + diseases[label])
        labels.append(LABELS[label])
        places.append(f"h{hospital}")
    offsets = np.r_[0, np.cumsum([len(bag) for bag in bags])].astype(np.int64)
    held_out = {"h0", "h1", "h2"}
    names = tuple(f"s{i}" for i in range(slides))
    patients = tuple(f"p{i}" for i in range(slides))
    filler = ["margins", "free", "specimen", "received", "fresh", "examined"]
    reports = {
        patient: f"{_WORDS[label]} {' '.join(rng.choice(filler, 3))}"
        for patient, label in zip(patients, labels, strict=True)
    }
    return Archive(
        np.concatenate(bags).astype(np.float16),
        offsets,
        names,
        patients,
        tuple(places),
        tuple(labels),
        tuple("val" if place in held_out else "train" for place in places),
        reports,
    )


def write_archive(archive, folder):
    """Write an archive as the plain files that `read_archive` takes."""
    np.savez(
        folder / "features.npz",
        features=archive.features,
        offsets=archive.offsets,
        slide_id=np.array(archive.slide_ids),
    )
    with (folder / "slides.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slide_id", "patient_id", "hospital", "cancer_type", "split"])
        writer.writerows(
            zip(
                archive.slide_ids,
                archive.patients,
                archive.hospitals,
                archive.labels,
                archive.splits,
                strict=True,
            )
        )
    with gzip.open(folder / "reports.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "text"])
        writer.writerows(archive.reports.items())
    return folder
