"""The two addresses of studies, each with several services."""

from cases.dicomweb.retrieve import RetrieveObjects
from cases.dicomweb.stow import StoreMixin


class StudiesView(StoreMixin):
    """`/dicomweb/studies`: stored to."""


class StudyView(StoreMixin, RetrieveObjects):
    """`/dicomweb/studies/{study}`: retrieved, and stored to."""
