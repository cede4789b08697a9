"""The words of the distinct texts, read as the site reads a saved report."""

import psycopg

from benchmarks.search_scale.reports import Text


def words_of_texts(connection: psycopg.Connection, texts: list[Text]) -> None:
    """Make the temporary table text_words (number, affirmed, denied, reading_version)."""
    from cases.models import Case, Report
    from retrieval.engine.words.reading import READING_VERSION
    from retrieval.engine.words.sections import WEIGHTS
    from retrieval.services.report_words import _VECTOR, reading_of

    connection.execute(
        "CREATE TEMP TABLE text_words (number int PRIMARY KEY, affirmed tsvector, denied tsvector,"
        " reading_version smallint)"
    )
    rows = []
    for number, text in enumerate(texts):
        read = reading_of(
            Report(
                diagnosis_line=text.line,
                diagnosis_text="",
                diagnosis_code=text.code,
                microscopic_description=text.microscopy,
                comment="",
                gross_description=text.gross,
                case=Case(),
            )
        )
        rows.append(
            (
                number,
                *(read.affirmed.get(weight, "") for weight in WEIGHTS),
                *(read.denied.get(weight, "") for weight in WEIGHTS),
                READING_VERSION,
            )
        )
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO text_words VALUES (%s, {_VECTOR}, {_VECTOR}, %s)", rows)
