"""The records of a pathology department."""

from cases.models.audit import AccessEvent, AuditRetirement, AuditSeal
from cases.models.boards import BoardItem, BoardMeeting
from cases.models.clinical import Block, Case, Patient, Report, Slide, Specimen
from cases.models.cohorts import Cohort, CohortEntry
from cases.models.derived import DerivedInstance
from cases.models.dicom import DicomPeer, StorageCommitment
from cases.models.exports import Export, ExportItem, ExportProject
from cases.models.history import ClinicalChange
from cases.models.images import SlideImage, SlideInstance, SlideInstanceHeader, SlideInstanceIndex
from cases.models.merges import MergedCase, PatientMerge
from cases.models.openings import Consult, ConsultOpinion, EmergencyAccess
from cases.models.organisation import ApiToken, Department, DirectoryAccount, Membership
from cases.models.regions import SlideRegion
from cases.models.retention import CaseDeletion, LegalHold
from cases.models.saved_views import SavedView
from cases.models.uploads import SlideUpload, UploadFile, UploadItem
from cases.models.work import LeasedWork

__all__ = [
    "AccessEvent",
    "ApiToken",
    "AuditRetirement",
    "AuditSeal",
    "Block",
    "BoardItem",
    "BoardMeeting",
    "Case",
    "CaseDeletion",
    "ClinicalChange",
    "Cohort",
    "CohortEntry",
    "Consult",
    "ConsultOpinion",
    "Department",
    "DerivedInstance",
    "DicomPeer",
    "DirectoryAccount",
    "EmergencyAccess",
    "Export",
    "ExportItem",
    "ExportProject",
    "LeasedWork",
    "LegalHold",
    "Membership",
    "MergedCase",
    "Patient",
    "PatientMerge",
    "Report",
    "SavedView",
    "Slide",
    "SlideImage",
    "SlideInstance",
    "SlideInstanceHeader",
    "SlideInstanceIndex",
    "SlideRegion",
    "SlideUpload",
    "Specimen",
    "StorageCommitment",
    "UploadFile",
    "UploadItem",
]
