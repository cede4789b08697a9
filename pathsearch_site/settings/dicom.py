"""Settings of the DICOM network door."""

from pathsearch_site.settings import env

DICOM_QUIET_SECONDS = env.integer(
    "PATHSEARCH_DICOM_QUIET_SECONDS",
    60,
    "Seconds without a new instance after which a series that came by network counts as whole",
)
DICOM_AE_TITLE = env.string("PATHSEARCH_DICOM_AE_TITLE", "PATHSEARCH", "Our own AE title")
DICOM_HOST = env.string(
    "PATHSEARCH_DICOM_HOST",
    "127.0.0.1",
    "Address that the DICOM receiver listens on; 0.0.0.0: all of the machine",
)
DICOM_PORT = env.integer("PATHSEARCH_DICOM_PORT", 11112, "Port of the DICOM receiver")
DICOM_MAX_ASSOCIATIONS = env.integer(
    "PATHSEARCH_DICOM_ASSOCIATIONS", 16, "DICOM associations served at one time"
)
DICOM_MAX_PDU_BYTES = (
    env.integer("PATHSEARCH_DICOM_PDU_KB", 256, "Largest DICOM PDU taken, in KiB") * 1024
)
DICOM_TIMEOUT_SECONDS = env.integer(
    "PATHSEARCH_DICOM_TIMEOUT",
    30,
    "Seconds in which a DICOM peer must finish a PDU or say something",
)
DICOM_MEMORY_BYTES = (
    env.integer(
        "PATHSEARCH_DICOM_MEMORY_MB", 1536, "Memory limit in MiB of the DICOM receiver's process"
    )
    * 1024**2
)
DICOM_COMMITMENT_HOURS = env.integer(
    "PATHSEARCH_DICOM_COMMITMENT_HOURS",
    72,
    "Hours that a storage commitment waits for a slide that needs matching",
)
DICOM_TLS_CERTIFICATE = env.string(
    "PATHSEARCH_DICOM_TLS_CERTIFICATE", "", "PEM file of the DICOM receiver; empty: no TLS"
)
DICOM_TLS_KEY = env.string(
    "PATHSEARCH_DICOM_TLS_KEY", "", "PEM file of its key; empty: in the certificate's file"
)
DICOM_TLS_CA = env.string(
    "PATHSEARCH_DICOM_TLS_CA",
    "",
    "PEM file of the CA whose certificates peers must show; empty: none is asked for",
)
