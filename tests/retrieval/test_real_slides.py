"""The whole engine on real slides, with the encoder that comes with the project."""

import numpy as np
import pytest

from cases.wsi.reader import open_slide
from retrieval.engine.encoders import load_image_encoder
from retrieval.engine.errors import SkipSlide
from retrieval.engine.patches import region_patches
from retrieval.engine.pipeline import embed_slide
from retrieval.services.models import centre_asset

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def encoder():
    return load_image_encoder("efficientnet-lite0", "cpu")


def embed(path, encoder, mpp=None):
    reader = open_slide(path, mpp=mpp)
    try:
        return embed_slide(reader, encoder, centre=centre_asset())
    finally:
        reader.close()


def test_one_glass_in_two_formats_is_one_place_and_another_glass_is_not(shared_data, encoder):
    slides = shared_data / "slides"
    svs = embed(slides / "svs" / "cmu-1-small-region.svs", encoder)
    dicom = embed(slides / "dicom" / "cmu-1-small-region", encoder)
    other = embed(slides / "svs" / "tcga-cr-7395-01a-01-ts1.svs", encoder, mpp=0.5)
    assert 40 <= len(svs.features) <= 70
    assert len(svs.mosaic.tokens) == len(dicom.mosaic.tokens) == 16
    same = float(svs.mosaic.slide_vector @ dicom.mosaic.slide_vector)
    different = float(svs.mosaic.slide_vector @ other.mosaic.slide_vector)
    assert same > 0.93, "compressed again, so not quite equal"
    assert different < same - 0.15
    # The SVS and its DICOM copy put their tissue in the same places.
    common = {tuple(c) for c in svs.coords_l0.tolist()} & {
        tuple(c) for c in dicom.coords_l0.tolist()
    }
    assert len(common) > 0.9 * len(svs.coords_l0)


def test_a_regions_patches_are_found_in_its_own_slide(shared_data, encoder):
    reader = open_slide(shared_data / "slides" / "svs" / "cmu-1-small-region.svs")
    embedded = embed_slide(reader, encoder, centre=centre_asset())
    x, y = embedded.coords_l0[len(embedded.coords_l0) // 2].tolist()
    patches = region_patches(reader, (x, y, 224, 224), encoder.spec)
    reader.close()

    def unit(features):
        centred = np.asarray(features, np.float32) - centre_asset()
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    similarity = unit(embedded.features) @ unit(encoder.encode(patches.pixels))[0]
    assert embedded.coords_l0[similarity.argmax()].tolist() == [x, y]


def test_an_overview_is_too_coarse(shared_data, encoder):
    with pytest.raises(SkipSlide) as skipped:
        embed(shared_data / "slides" / "dicom" / "camelyon-jpeg", encoder)
    assert skipped.value.code == "too_coarse"
