"""Makes rows for tests. Two departments with a user of every role are the usual cast."""

import hashlib
import uuid

import factory
from django.contrib.auth import get_user_model
from factory.django import DjangoModelFactory

from cases import models
from cases.permissions import Role
from retrieval.services.report_words import report_words_write


class DepartmentFactory(DjangoModelFactory):
    class Meta:
        model = models.Department
        django_get_or_create = ("code",)

    code = factory.Sequence(lambda n: f"department-{n}")
    name = factory.LazyAttribute(lambda o: o.code.replace("-", " ").title())
    mrn_issuer = factory.LazyAttribute(lambda o: f"{o.code}-mrn")
    accession_issuer = factory.LazyAttribute(lambda o: f"{o.code}-lis")


class UserFactory(DjangoModelFactory):
    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user{n}")
    password = factory.django.Password("correct horse battery")


class PatientFactory(DjangoModelFactory):
    class Meta:
        model = models.Patient

    department = factory.SubFactory(DepartmentFactory)
    mrn = factory.Sequence(lambda n: f"MRN{n:05}")
    mrn_issuer = factory.LazyAttribute(lambda o: o.department.mrn_issuer)
    family_name = factory.Sequence(lambda n: f"Family{n}")
    given_name = "Given"
    sex = "F"


class CaseFactory(DjangoModelFactory):
    class Meta:
        model = models.Case

    department = factory.SubFactory(DepartmentFactory)
    patient = factory.SubFactory(PatientFactory, department=factory.SelfAttribute("..department"))
    accession_number = factory.Sequence(lambda n: f"S26-{n:05}")
    accession_issuer = factory.LazyAttribute(lambda o: o.department.accession_issuer)


class SpecimenFactory(DjangoModelFactory):
    class Meta:
        model = models.Specimen

    case = factory.SubFactory(CaseFactory)
    label = "A"
    organ = "Lung"


class SlideFactory(DjangoModelFactory):
    class Meta:
        model = models.Slide

    case = factory.SubFactory(CaseFactory)
    label = factory.Sequence(lambda n: f"A1-{n}")
    stain = "H&E"


class SlideImageFactory(DjangoModelFactory):
    """A row without a file behind it; tests of pixels take a real one through the intake."""

    class Meta:
        model = models.SlideImage

    slide = factory.SubFactory(SlideFactory)
    department = factory.SelfAttribute("slide.case.department")
    source_format = models.SlideImage.Format.VENDOR
    vendor = "generic-tiff"
    content_sha256 = factory.LazyFunction(lambda: hashlib.sha256(uuid.uuid4().bytes).hexdigest())
    path = factory.Sequence(lambda n: f"slides/missing-{n}/slide.tiff")
    size_bytes = 1000
    width_l0 = 2048
    height_l0 = 2048
    level_count = 3
    mpp = 0.5
    mpp_source = models.SlideImage.MppSource.FILE


class ReportFactory(DjangoModelFactory):
    class Meta:
        model = models.Report

    case = factory.SubFactory(CaseFactory)
    version = 1
    status = models.Report.Status.FINAL
    diagnosis_line = "Adenocarcinoma of the lung"
    diagnosis_code = "8140/3"
    diagnosis_system = "ICD-O-3"
    diagnosis_text = "Invasive adenocarcinoma, acinar pattern."

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        """Save it and read it, as the service that saves reports has it done."""
        report = super()._create(model_class, *args, **kwargs)
        report_words_write([report])
        return report


def make_member(department: models.Department | None, role: Role | str, **fields):
    """Return a new user with this role (department None: system administrator)."""
    user = UserFactory(**fields)
    models.Membership.objects.create(user=user, department=department, role=role)
    return user


def make_slide_image(department: models.Department, **fields) -> models.SlideImage:
    """Return a slide image with its own patient, case and glass in this department."""
    case = CaseFactory(department=department)
    specimen = SpecimenFactory(case=case)
    return SlideImageFactory(slide=SlideFactory(case=case, specimen=specimen), **fields)
