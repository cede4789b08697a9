"""Background tasks of retrieval. Each takes ids and calls one service."""

from retrieval.services import indexing, report_words, reports, vote_calibration


def index_slide_task(pk: str) -> str | None:
    """Index one slide image (cluster "indexing")."""
    return indexing.index_run(pk)


def index_sweep_task() -> dict[str, int]:
    """Heal indexing: expired leases, lost messages, slide images without a row."""
    return indexing.index_sweep()


def report_embedding_task(pk: str) -> bool:
    """Embed one saved report."""
    return reports.report_embed(pk)


def report_sweep_task() -> int:
    """Read and embed the current reports that are not yet read or embedded."""
    report_words.report_words_sweep()
    return reports.report_embeddings_sweep()


def vote_calibration_task() -> int:
    """Each night: learn what similarity was worth in each department's labelled cases."""
    return vote_calibration.votes_calibrate()
