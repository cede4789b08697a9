"""The helper itself: Orthanc starts, takes a file, lists it, and stops."""

import requests

from tests.partners.orthanc import require_orthanc, running_orthanc
from tests.synthetic_slide import write_dicom_slide


def test_orthanc_takes_a_slide_and_lists_it(tmp_path):
    require_orthanc()
    files = sorted(write_dicom_slide(tmp_path / "slide").iterdir())
    with running_orthanc(tmp_path) as orthanc:
        for file in files:
            orthanc.upload(file)
        (study,) = requests.get(orthanc.url + "/dicom-web/studies", timeout=60).json()
        assert study["00201208"]["Value"] == [len(files)]
        process = orthanc.process
    assert process.poll() is not None
