"""Background tasks of retrieval. Each takes ids and calls one service."""

from django.conf import settings

from retrieval.services import (
    archive_map,
    dicom_results,
    indexing,
    mosaic_codecs,
    neighbours,
    quality,
    report_words,
    reports,
    saved_searches,
    search_self_check,
    vote_calibration,
)


def index_slide_task(pk: str) -> str | None:
    """Index one slide image (cluster "indexing")."""
    state = indexing.index_run(pk)
    if state == indexing.State.INDEXED:
        neighbours.neighbours_compute(pk)
        quality.quality_measure(pk)
        archive_map.map_place(pk)
    if state == indexing.State.INDEXED and settings.WRITE_DICOM_RESULTS:
        dicom_results.results_write_for(pk)
    return state


def index_sweep_task() -> dict[str, int]:
    """Heal indexing: expired leases, lost messages, slide images without a row."""
    if settings.WRITE_DICOM_RESULTS:
        dicom_results.results_sweep()
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


def mosaic_codec_task() -> int:
    """Fit the codecs of mosaics where there are slides enough, and code what is not yet."""
    return mosaic_codecs.codecs_keep()


def search_self_check_task() -> int:
    """Each night: compare searches with exact search; returns the departments in alert."""
    return sum(row.is_alert for row in search_self_check.self_checks_run())


def write_dicom_results_task(pk: str) -> bool:
    """Write what the model of one index saw as DICOM objects (cluster "indexing")."""
    return dicom_results.results_write_for(pk)


def saved_search_task() -> int:
    """Ask saved searches again whose owners see something new."""
    return saved_searches.saved_searches_check()


def quality_sweep_task() -> int:
    """Measure focus and ink of slides that were indexed before that was done."""
    return quality.quality_sweep()


def map_task(pk: str) -> int:
    """Lay the archive out by one model (cluster "indexing"); returns how many slides."""
    run = archive_map.map_compute(pk)
    return run.slide_count if run else 0


def map_nightly_task() -> int:
    """Each night: have the archive laid out again."""
    return archive_map.maps_request()
