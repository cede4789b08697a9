"""Compares the default model with its rivals on the slides of plain files, in one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import Archive, hospital_folds
from retrieval.engine.aligner.fit import (
    EmbeddedArchive,
    FitSettings,
    embed_archive,
    fit_aligner,
)
from retrieval.engine.aligner.model import Aligner
from retrieval.engine.aligner.statistics import bag_statistics
from retrieval.engine.evaluation import (
    PairResult,
    RetrievalResult,
    Subjects,
    evaluate_pairs,
    evaluate_retrieval,
)
from retrieval.engine.hypergraph import hypergraph_search
from retrieval.engine.mosaic import normalised
from retrieval.engine.rivals import (
    Rival,
    Similarity,
    bunch_of_barcodes,
    cosine,
    max_pooled_sets,
    mean_pooling,
    prototype_search,
    raw_mosaics,
    reference_distance,
    whitened_mean,
)

Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Progress = Callable[[str], None]


def default_similarity(model: Aligner, embedded: EmbeddedArchive) -> Similarity:
    """Return the default model's similarity: vectors and tokens by their shares."""
    vectors = embedded.vectors(model)
    share = model.config.token_share

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        values = (1 - share) * (vectors[queries] @ vectors[gallery].T)
        if share:
            values = values + share * embedded.token_similarities(queries, gallery)
        return values.astype(np.float32)

    return similarity


def default_rivals(model: Aligner, embedded: EmbeddedArchive) -> list[Rival]:
    """Return the default model, and its vectors and its tokens each alone."""
    everything = embedded.token_similarities
    return [
        Rival("default", "slide vectors and tokens", default_similarity(model, embedded)),
        Rival("default, vectors", "what the index searches", cosine(embedded.vectors(model))),
        Rival("default, tokens", "late interaction only", everything),
    ]


def plain_rivals(archive: Archive, train: Ints, *, barcodes: bool = True) -> list[Rival]:
    """Return the rivals that need no training by gradient steps."""
    mosaics = raw_mosaics(archive, train)
    rivals = [
        mean_pooling(archive),
        whitened_mean(archive, train),
        prototype_search(mosaics),
        max_pooled_sets(mosaics),
        hypergraph_search(mosaics),
    ]
    return [*rivals, bunch_of_barcodes(mosaics)] if barcodes else rivals


def reference_rivals(path: Path, archive: Archive) -> list[Rival]:
    """Return the trained reference configuration, by its own distance and by plain cosine."""
    from retrieval.engine.reference_weights import load_reference
    from retrieval.engine.training import embed_reference

    model = load_reference(path).model
    tokens, vectors = embed_reference(model, archive, np.arange(len(archive)))
    return [
        Rival("reference", "barcodes + 200 x Euclidean", reference_distance(tokens, vectors)),
        Rival("reference, cosine", "cosine of slide embeddings", cosine(vectors)),
    ]


def slide_to_slide(
    rivals: Sequence[Rival],
    archive: Archive,
    queries: Ints,
    *,
    exclude_hospital: bool,
    gallery: Ints | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, RetrievalResult]:
    """Return the results of every rival; the gallery is all by default.

    Slides without a label are neither asked about nor found: whether they are right is not known.
    """
    subjects = archive.subjects()
    if gallery is None:
        gallery = np.arange(len(archive))
    queries, gallery = (part[subjects.labels[part] >= 0] for part in (queries, gallery))
    own, others = subjects.take(queries), subjects.take(gallery)
    results = {}
    for rival in rivals:
        progress(f"slide to slide: {rival.name}")

        def scores(block: Ints, rival: Rival = rival) -> Float32Array:
            return rival.similarity(queries[block], gallery)

        results[rival.name] = evaluate_retrieval(
            scores, own, others, exclude_hospital=exclude_hospital
        )
    return results


def unseen_hospitals(
    archive: Archive,
    positions: Ints,
    settings: FitSettings,
    *,
    folds: int = 4,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> dict[str, RetrievalResult]:
    """Cross-validate over hospitals, so that no setting was chosen on the queries.

    In each fold the model is fitted without some hospitals, whose slides are then the queries:
    against all slides, and against those of unseen hospitals only, as in an archive that
    taught the model nothing.
    """
    statistics = bag_statistics(archive.features, archive.offsets)
    parts = hospital_folds([archive.hospitals[i] for i in positions], folds, seed)
    collected: dict[str, list[RetrievalResult]] = {}
    mean = mean_pooling(archive)
    for number, part in enumerate(parts, start=1):
        queries = positions[part]
        progress(f"fold {number} of {len(parts)}")
        learned = np.setdiff1d(positions, queries)
        model = fit_aligner(archive, learned, settings, statistics=statistics)
        embedded = embed_archive(model, archive, statistics=statistics)
        default = Rival("default", "", default_similarity(model, embedded))
        for name, gallery in (("all slides", positions), ("unseen slides", queries)):
            found = slide_to_slide(
                [mean, default], archive, queries, exclude_hospital=True, gallery=gallery
            )
            for rival, result in found.items():
                collected.setdefault(f"{rival}, {name}", []).append(result)
    return {name: _joined(results) for name, results in collected.items()}


def nearest_slides(
    similarity: Similarity,
    subjects: Subjects,
    queries: Ints,
    *,
    count: int = 5,
    exclude_hospital: bool = True,
) -> list[Ints]:
    """Return for each query the positions of its nearest slides, nearest first.

    The query's patient is left out always, and slides without a label.
    """
    known = np.flatnonzero(subjects.labels >= 0)
    out = []
    for query in queries:
        allowed = subjects.patients[known] != subjects.patients[query]
        if exclude_hospital:
            allowed &= subjects.hospitals[known] != subjects.hospitals[query]
        gallery = known[allowed]
        values = similarity(np.array([query]), gallery)[0]
        out.append(gallery[np.argsort(-values, kind="stable")[:count]])
    return out


def example_queries(labels: Ints, queries: Ints, *, most: int = 24, seed: int = 0) -> Ints:
    """Return some of the queries, drawn in turn from each label, in the order of the labels."""
    rng = np.random.default_rng(seed)
    piles = [
        rng.permutation(queries[labels[queries] == label])
        for label in np.unique(labels[queries])
        if label >= 0
    ]
    drawn: list[int] = []
    for turn in range(max((len(pile) for pile in piles), default=0)):
        drawn.extend(int(pile[turn]) for pile in piles if turn < len(pile))
    chosen = np.array(drawn[:most], np.int64)
    return chosen[np.argsort(labels[chosen], kind="stable")]


def _joined(results: list[RetrievalResult]) -> RetrievalResult:
    first = results[0]
    return RetrievalResult(
        hits={k: np.concatenate([r.hits[k] for r in results]) for k in first.hits},
        votes={k: np.concatenate([r.votes[k] for r in results]) for k in first.votes},
        average_precision=np.concatenate([r.average_precision for r in results]),
        predicted=np.concatenate([r.predicted for r in results]),
        labels=np.concatenate([r.labels for r in results]),
        patients=np.concatenate([r.patients for r in results]),
        answerable=np.concatenate([r.answerable for r in results]),
    )


@dataclass(frozen=True)
class TextResults:
    """What texts find, and what finds texts.

    Attributes
    ----------
    queries : int
        Reports that were asked with.
    unknown : int
        Reports without any word that the model knows; they are left out.
    class_own, class_hospital : RetrievalResult
        Report to slide by label, without the patient's slides, and without the hospital's.
    pairs : PairResult
        Report to the patient's own slides.
    reports : PairResult
        Slide to its patient's report.
    joint : RetrievalResult
        Slide and report together, to slides, without the hospital.
    """

    queries: int
    unknown: int
    class_own: RetrievalResult
    class_hospital: RetrievalResult
    pairs: PairResult
    reports: PairResult
    joint: RetrievalResult


def text_results(
    model: Aligner, embedded: EmbeddedArchive, archive: Archive, queries: Ints
) -> TextResults:
    """Ask with the reports of the queries' patients.

    Raises
    ------
    NoTextSide
        The model was trained without reports.
    """
    vectors: dict[str, Float32Array] = {}
    for patient in dict.fromkeys(archive.patients):
        report = archive.reports.get(patient, "")
        try:
            if report.strip():
                vectors[patient] = model.embed_texts([report])[0]
        except ValueError:
            continue
    return ask_by_texts(embedded.vectors(model), vectors, archive, queries)


def reference_text_results(
    path: Path, sentences: Mapping[str, Float32Array], archive: Archive, queries: Ints
) -> TextResults:
    """Ask the reference configuration with the reports of the queries' patients.

    sentences: by patient, the frozen sentence embedding that its text side was trained on.
    """
    import torch

    from retrieval.engine.reference_weights import load_reference
    from retrieval.engine.training import embed_reference

    model = load_reference(path).model
    _, slides = embed_reference(model, archive, np.arange(len(archive)))
    stacked = np.stack(list(sentences.values())).astype(np.float32)
    with torch.inference_mode():
        made = model.embed_text(torch.from_numpy(stacked)).numpy()
    return ask_by_texts(slides, dict(zip(sentences, made, strict=True)), archive, queries)


def ask_by_texts(
    slides: Float32Array, vectors: Mapping[str, Float32Array], archive: Archive, queries: Ints
) -> TextResults:
    """Ask with texts that lie in the space of the slides.

    Parameters
    ----------
    slides : float32 (S, D)
        Unit vectors of all slides of the archive.
    vectors : dict of str to float32 (D,)
        Unit vector of the report of each patient who has a report that the model can read.
    archive : Archive
    queries : int (n,)
        Slides whose patients' reports are asked with; those without a label only for pairs.

    Raises
    ------
    ValueError
        No query's patient has such a report.
    """
    subjects = archive.subjects()
    first: dict[str, int] = {}
    for slide in queries:
        if archive.reports.get(archive.patients[slide], "").strip():
            first.setdefault(archive.patients[slide], int(slide))
    asked = [patient for patient in first if patient in vectors]
    if not asked:
        raise ValueError("no report of these slides can be asked with")
    texts = np.stack([vectors[patient] for patient in asked])
    at = np.array([first[patient] for patient in asked])
    own = subjects.take(at)
    everything = np.arange(len(archive))
    labelled = np.flatnonzero(subjects.labels >= 0)
    told = np.array([i for i in queries if archive.patients[i] in vectors])
    known = told[subjects.labels[told] >= 0]
    all_texts = np.stack(list(vectors.values()))
    number = dict(zip(archive.patients, subjects.patients.tolist(), strict=True))
    joint = normalised(slides[known] + np.stack([vectors[archive.patients[i]] for i in known]))
    with_label = np.flatnonzero(own.labels >= 0)
    class_own, class_hospital = (
        evaluate_retrieval(
            lambda block: texts[with_label[block]] @ slides[labelled].T,
            own.take(with_label),
            subjects.take(labelled),
            exclude_hospital=exclude,
        )
        for exclude in (False, True)
    )
    return TextResults(
        queries=len(asked),
        unknown=len(first) - len(asked),
        class_own=class_own,
        class_hospital=class_hospital,
        pairs=evaluate_pairs(
            lambda block: texts[block] @ slides.T, own.patients, subjects.patients[everything]
        ),
        reports=evaluate_pairs(
            lambda block: slides[told[block]] @ all_texts.T,
            subjects.patients[told],
            np.array([number[patient] for patient in vectors]),
        ),
        joint=evaluate_retrieval(
            lambda block: joint[block] @ slides[labelled].T,
            subjects.take(known),
            subjects.take(labelled),
            exclude_hospital=True,
        ),
    )
