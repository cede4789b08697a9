"""The two addresses of studies, each with several services."""

from cases.dicomweb.qido import SearchStudies
from cases.dicomweb.retrieve import RetrieveObjects
from cases.dicomweb.stow import StoreMixin


class StudiesView(StoreMixin, SearchStudies):
    """`/dicomweb/studies`: searched, and stored to."""


class StudyView(StoreMixin, RetrieveObjects):
    """`/dicomweb/studies/{study}`: retrieved, and stored to."""
