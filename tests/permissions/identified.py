"""Gives the world's patients what identifies: what a researcher must find in no answer."""

from datetime import UTC, date, datetime
from typing import Any

from django.conf import settings

from cases import models
from retrieval.services.report_words import report_words_write
from tests.factories import UserFactory
from tests.synthetic_slide import picture, write_dicom_slide

FAMILY, GIVEN = "Zwetschgenbaum", "Leopoldine"
AUTHOR, SURGEON = "Ypsilander", "Katzenellenbogen"
MRN, ACCESSION, BARCODE = "QX7730451", "K26-77123", "BC551277"
BORN, RECEIVED = date(1931, 4, 29), date(2023, 8, 17)
SIGNED = datetime(2023, 8, 21, 9, 30, tzinfo=UTC)
SCANNED = datetime(2023, 8, 19, 10, 11, tzinfo=UTC)
REPORT = f"""Patient: {FAMILY}, {GIVEN}
MRN: {MRN}    DOB: {BORN}
Requested by: Dr. Hieronymus {SURGEON}
Carcinoma with clear margins. Mrs. {FAMILY} was seen on {RECEIVED:%d.%m.%Y}, see {ACCESSION}.
Discussed with Dr. {SURGEON}."""

SECRETS = {
    "family name": FAMILY,
    "given name": GIVEN,
    "author": AUTHOR,
    "surgeon": SURGEON,
    "MRN": MRN[:-1],
    "accession number": ACCESSION[:-1],
    "barcode": BARCODE,
    "birth date": str(BORN),
    "birth date in DICOM": f"{BORN:%Y%m%d}",
    "received": str(RECEIVED),
    "received, as written": f"{RECEIVED:%d.%m.%Y}",
    "signed": str(SIGNED.date()),
    "scanned": str(SCANNED.date()),
    "scanned in DICOM": "20260102",
    "file name": "tray-77.svs",
}


def identify(world: Any, place: str, number: int) -> None:
    """Write names, numbers and dates into what the place has."""
    image = models.SlideImage.objects.get(pk=world.id("slide_image", place))
    case = image.slide.case
    accession = ACCESSION[:-1] + str(number)
    models.Patient.objects.filter(pk=case.patient_id).update(
        family_name=FAMILY, given_name=GIVEN, mrn=MRN[:-1] + str(number), birth_date=BORN
    )
    models.Case.objects.filter(pk=case.pk).update(
        accession_number=accession, received_on=RECEIVED, clinical_history=REPORT
    )
    world.ids["accession"][place] = accession
    models.Slide.objects.filter(pk=image.slide_id).update(
        label=f"{accession}-A1", label_barcode=BARCODE
    )
    models.Specimen.objects.filter(case=case).update(description=f"Of {FAMILY}, marked {accession}")
    models.Block.objects.filter(specimen__case=case).update(label=f"{accession} A1")
    author = UserFactory(first_name="Quentin", last_name=AUTHOR, username=f"author-{place}")
    models.Report.objects.filter(case=case).update(
        diagnosis_line=f"Carcinoma of Mrs {FAMILY}",
        diagnosis_text=REPORT,
        microscopic_description=f"{GIVEN} {FAMILY}: carcinoma.",
        gross_description=f"A jar labelled {FAMILY} {accession}.",
        comment=f"Told to {AUTHOR} on {RECEIVED}.",
        author=author,
        signed_at=SIGNED,
    )
    report_words_write(list(models.Report.objects.filter(case=case).select_related("case")))
    models.CohortEntry.objects.filter(slide_image=image).update(note=f"The slide of {FAMILY}")
    _file(image, accession, number)
    models.UploadItem.objects.filter(pk=world.id("item", place)).update(
        name=f"{FAMILY} tray-77.svs", slide_image=image
    )


def _file(image: models.SlideImage, accession: str, number: int) -> None:
    """Give the slide a file whose header says it too."""
    folder = settings.DATA_DIR / "slides" / f"identified-{number}"
    write_dicom_slide(
        folder,
        rgb=picture(512, 512),
        levels=1,
        label=True,
        patient_id=MRN,
        patient_name=f"{FAMILY}^{GIVEN}",
        birth_date=f"{BORN:%Y%m%d}",
        accession_number=accession,
        container_id=BARCODE,
    )
    models.SlideImage.objects.filter(pk=image.pk).update(
        path=str(folder.relative_to(settings.DATA_DIR)), scanned_at=SCANNED
    )
    header = {
        "00080020": {"vr": "DA", "Value": [f"{RECEIVED:%Y%m%d}"]},
        "00080050": {"vr": "SH", "Value": [accession]},
        "00080060": {"vr": "CS", "Value": ["SM"]},
        "00081048": {"vr": "PN", "Value": [{"Alphabetic": f"{SURGEON}^H"}]},
        "0008002A": {"vr": "DT", "Value": ["20260102030405"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": f"{FAMILY}^{GIVEN}"}]},
        "00400512": {"vr": "LO", "Value": [BARCODE]},
    }
    for instance in image.instances.all():
        models.SlideInstanceHeader.objects.update_or_create(
            instance=instance, defaults={"attributes": header}
        )
