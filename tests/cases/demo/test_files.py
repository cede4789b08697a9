"""The slide files: read back by the libraries that the site reads them with."""

import hashlib
from dataclasses import replace

import numpy as np
import openslide
import pydicom
import pytest

from cases.demo.dicom import write_series
from cases.demo.plan import planned_slides
from cases.demo.pyramid import pyramid
from cases.demo.slides import write_slide
from cases.demo.tiff import write_tiff
from cases.wsi.reader import open_slide


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Return a smooth gradient with an odd size: no multiple of a tile."""
    y, x = np.mgrid[:777, :1100]
    return np.stack([x / 5, y / 4, (x + y) / 9], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def header():
    return planned_slides(1)[0].header()


def test_levels_halve_down_to_the_smallest(picture):
    levels = pyramid(picture)
    assert [(level.width, level.height) for level in levels] == [
        (1100, 777),
        (550, 389),
        (275, 195),
    ]
    assert len(levels[0].tiles) == 5 * 4


def test_tiff_is_read_back_with_its_resolution_and_pixels(picture, tmp_path):
    path = tmp_path / "slide.tiff"
    write_tiff(path, pyramid(picture, quality=95), 0.499, description="made", model="scanner")
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.499, abs=1e-5)
        assert slide.level_count == 3
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    assert np.abs(pixels.astype(int) - picture).mean() < 3


def test_tiff_without_resolution_states_none(picture, tmp_path):
    path = tmp_path / "slide.tiff"
    write_tiff(path, pyramid(picture), None, description="made", model="scanner")
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties


def test_dicom_series_is_read_back_with_its_resolution_and_pixels(picture, header, tmp_path):
    write_series(tmp_path, pyramid(picture, quality=95), header)
    reader = open_slide(tmp_path)
    try:
        assert (reader.width_l0, reader.height_l0) == (1100, 777)
        assert reader.level_count == 3
        assert reader.mpp == pytest.approx(header.mpp)
        assert reader.label_image() is not None
        pixels = reader.read_region_l0(0, 0, 1100, 777, 1100, 777)
    finally:
        reader.close()
    assert np.abs(pixels.astype(int) - picture).mean() < 3


def test_dicom_headers_state_patient_case_specimen_and_stain(picture, header, tmp_path):
    write_series(tmp_path, pyramid(picture), header)
    files = sorted(tmp_path.glob("*.dcm"))
    datasets = [pydicom.dcmread(file) for file in files]
    assert len({d.SOPInstanceUID for d in datasets}) == len(files) == 4
    assert len({d.SeriesInstanceUID for d in datasets}) == 1
    for d in datasets:
        assert d.SOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.6"
        assert d.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
        assert (d.PatientID, d.IssuerOfPatientID) == (header.mrn, header.mrn_issuer)
        assert d.AccessionNumber == header.accession_number
        assert d.ContainerIdentifier == header.container_id
        specimen = d.SpecimenDescriptionSequence[0]
        assert specimen.PrimaryAnatomicStructureSequence[0].CodeMeaning == header.organ
        steps = specimen.SpecimenPreparationSequence[0].SpecimenPreparationStepContentItemSequence
        stains = {step.ConceptCodeSequence[0].CodeValue for step in steps}
        assert {"12710003", "36879007"} <= stains  # haematoxylin, eosin
        is_label = d.ImageType[2] == "LABEL"
        assert d.SpecimenLabelInImage == ("YES" if is_label else "NO")
        tiles = -(-d.TotalPixelMatrixColumns // d.Columns) * -(-d.TotalPixelMatrixRows // d.Rows)
        assert d.NumberOfFrames == tiles


def test_uids_follow_the_content(picture, header, tmp_path):
    def written(name: str, pixels: np.ndarray) -> tuple[str, list[str]]:
        folder = tmp_path / name
        folder.mkdir()
        write_series(folder, pyramid(pixels), header)
        files = sorted(folder.glob("*.dcm"))
        series = pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID
        return series, [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    once = written("once", picture)
    assert written("again", picture) == once
    assert written("other", 255 - picture)[0] != once[0]


def test_names_beyond_ascii_survive(picture, header, tmp_path):
    write_series(tmp_path, pyramid(picture), replace(header, family_name="Bergström"))
    d = pydicom.dcmread(tmp_path / "level-0.dcm", stop_before_pixels=True)
    assert d.PatientName.family_name == "Bergström"


def test_a_planned_slide_is_written_as_planned(tmp_path):
    slides = planned_slides(16)
    dicom = next(slide for slide in slides if slide.is_dicom)
    tiff = next(slide for slide in slides if not slide.is_dicom)
    for slide in (dicom, tiff):
        folder = write_slide(slide, tmp_path)
        assert folder == tmp_path / slide.key
        target = folder if slide.is_dicom else next(folder.iterdir())
        reader = open_slide(target)
        assert (reader.width_l0, reader.height_l0) == slide.size
        assert reader.mpp == pytest.approx(slide.header().mpp, rel=1e-4)
        reader.close()
