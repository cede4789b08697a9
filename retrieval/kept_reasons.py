"""Reasons that the indexing keeps in rows, for the catalogue of translations."""

from django.utils.translation import gettext_noop

from cases.kept_reasons import reasons_declare


def declare() -> None:
    """Add them to those of cases. tests/site/test_kept_reasons.py holds them to the engine's."""
    reasons_declare(
        [
            gettext_noop("A fluorescence scan: the encoder knows stained tissue."),
            gettext_noop("The slide is smaller than one patch of %(um)s µm."),
            gettext_noop("No tissue was found on the slide."),
            gettext_noop("The tissue on the slide fills no patch of %(um)s µm to a quarter."),
            gettext_noop("The pixel size of the slide is not known."),
            gettext_noop("The slide has a dark background: a fluorescence scan?"),
        ]
    )
