"""De-identified copies of slides (PS3.15 Annex E), and the proof that nothing is left.

Pure: keys and identities come from the caller, files are read and written here.
"""

from cases.wsi.deidentify.identifiers import Identifiers
from cases.wsi.deidentify.keys import ProjectKey
from cases.wsi.deidentify.scan import LeakError, scan_file, scan_words
from cases.wsi.deidentify.source import Source, read_source
from cases.wsi.deidentify.subject import Pseudonyms, Subject
from cases.wsi.deidentify.write import Written, export_file, export_instance, is_exported

__all__ = [
    "Identifiers",
    "LeakError",
    "ProjectKey",
    "Pseudonyms",
    "Source",
    "Subject",
    "Written",
    "export_file",
    "export_instance",
    "is_exported",
    "read_source",
    "scan_file",
    "scan_words",
]
