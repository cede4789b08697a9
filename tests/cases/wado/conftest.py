"""A department that takes slides in, for those who read them over DICOMweb."""

from tests.cases.intake.conftest import data_dir, deliver, department, technician  # noqa: F401
