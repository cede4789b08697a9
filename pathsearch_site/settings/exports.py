"""Settings of what leaves the site: de-identified exports, results as DICOM."""

from pathsearch_site.settings import env

EXPORT_SECRET = env.string(
    "PATHSEARCH_EXPORT_SECRET",
    "",
    "Secret from which the keys of export projects follow; empty: the secret key. "
    "Another one unlinks new exports from old ones",
)
EXPORT_DAYS = env.integer(
    "PATHSEARCH_EXPORT_DAYS", 7, "Days that a finished de-identified export can be fetched"
)
WRITE_DICOM_RESULTS = env.boolean(
    "PATHSEARCH_WRITE_DICOM_RESULTS",
    False,
    "Write mosaic regions and maps as DICOM objects beside each slide after it was indexed",
)
