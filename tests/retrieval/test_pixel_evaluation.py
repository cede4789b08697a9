"""Measuring from pixels: no original image in two slides, every step of the real way, a cache."""

import csv
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from retrieval.engine import evaluate_pixels
from retrieval.engine.errors import DataUnusable
from retrieval.engine.evaluate_pixels import Bag, compare, main, split
from retrieval.engine.pixel_slides import (
    LabelledPatch,
    deal_slides,
    open_archive,
    prototypes_at,
    read_patch_list,
    slide_pixels,
)
from tests.retrieval.fakes import FAKE_SPEC, ColourEncoder

LABELS = {"rose": (225, 110, 150), "violet": (140, 80, 170)}
SIDE = 64


def patch_list(prototypes=9, copies=3):
    return [
        LabelledPatch(f"{label}/{p}-{c}.jpeg", label, f"{label}-{p}")
        for label in LABELS
        for p in range(prototypes)
        for c in range(copies)
    ]


@pytest.fixture
def folder(tmp_path):
    """Pictures of two colours of tissue, noisy, as the data set lies on disk."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "lung.zip", "w") as archive:
        for patch in patch_list():
            rgb = rng.normal(LABELS[patch.label], 25, (SIDE, SIDE, 3)).clip(0, 255)
            buffer = io.BytesIO()
            Image.fromarray(rgb.astype(np.uint8)).save(buffer, "JPEG", quality=95)
            archive.writestr(patch.path, buffer.getvalue())
    with (tmp_path / "patches.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "prototype"])
        writer.writerows((p.path, p.label, p.prototype) for p in patch_list())
    return tmp_path


def test_no_original_image_is_in_two_slides_and_all_its_copies_are_in_one():
    slides = deal_slides(patch_list(), prototypes_per_slide=4)
    assert [slide.label for slide in slides] == ["rose"] * 2 + ["violet"] * 2
    homes = {}
    for slide in slides:
        assert len(slide.patches) == 4 * 3
        assert {patch.label for patch in slide.patches} == {slide.label}
        for patch in slide.patches:
            assert homes.setdefault(patch.prototype, slide.name) == slide.name
    assert len(homes) == 16, "nine a label, the ninth is left over"
    assert deal_slides(patch_list()) == deal_slides(patch_list())
    assert deal_slides(patch_list()) != deal_slides(patch_list(), seed=1)


def test_an_original_image_with_two_labels_is_refused():
    rows = [LabelledPatch("a", "rose", "p"), LabelledPatch("b", "violet", "p")]
    with pytest.raises(ValueError, match="several labels"):
        deal_slides(rows, prototypes_per_slide=1)


def test_a_slide_shows_its_tiles_on_glass_and_tells_them_apart_again():
    tiles = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30, 40, 50)]
    rgb = slide_pixels(tiles)
    assert rgb.shape == ((2 + 2) * 8, (3 + 2) * 8, 3)
    assert (rgb[0] == 243).all()
    assert rgb[8, 8].tolist() == [10] * 3
    assert rgb[16, 16].tolist() == [50] * 3
    slide = deal_slides(patch_list(5, 1), prototypes_per_slide=5)[0]
    coords = np.array([[8, 8], [24, 8], [16, 16], [24, 16], [0, 0], [32, 8]])
    names = [patch.prototype for patch in slide.patches]
    assert prototypes_at(slide, coords, 8) == [names[0], names[2], names[4], "", "", ""]


def test_the_whole_way_finds_the_colour_and_goes_on_from_its_cache(folder, monkeypatch, capsys):
    encoder = ColourEncoder(FAKE_SPEC.__class__(**vars(FAKE_SPEC) | {"patch_px": SIDE, "mpp": 0.5}))
    monkeypatch.setattr(evaluate_pixels, "load_image_encoder", lambda *a: encoder)
    arguments = [str(folder), "--cache", str(folder / "cache"), "--encoder", "fake"]
    arguments += ["--prototypes-per-slide", "3", "--rounds", "20"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "6 slides of 2 labels" in said
    assert "54 patches encoded of 54 shown" in said
    assert "Each of the 18 original images alone" in said
    for method in ("naive mean", evaluate_pixels.AS_THE_SITE):
        assert f"| {method}" in said
    line = next(
        row for row in said.splitlines() if row.startswith(f"| {evaluate_pixels.AS_THE_SITE}")
    )
    assert line.split("|")[2].strip().startswith("1.000")
    assert len(list((folder / "cache").glob("*.safetensors"))) == 6

    encoder.batches.clear()
    next((folder / "cache").glob("*.safetensors")).write_bytes(b"torn")
    assert main(arguments) == 0
    assert sum(encoder.batches) == 9, "one slide only was encoded again"
    without_time = [row for row in said.splitlines() if "slides of" not in row]
    assert without_time == [
        row for row in capsys.readouterr().out.splitlines() if "slides of" not in row
    ]


def test_chance_data_gives_chance(folder):
    rng = np.random.default_rng(0)
    bags = [
        Bag(rng.normal(size=(5, 8)).astype(np.float16), np.arange(10).reshape(5, 2), 1)
        for _ in range(90)
    ]
    results = compare(bags, ["a", "b", "c"] * 30, None, token_count=4)
    for result in results.values():
        assert 0.15 < result.summary()["top-1"] < 0.55


def test_a_slide_is_split_into_its_original_images(folder):
    slide = deal_slides(patch_list(2, 2), prototypes_per_slide=2)[0]
    coords = (np.array([[1, 1], [2, 1], [1, 2], [2, 2], [0, 0]])) * SIDE
    features = np.arange(10, dtype=np.float16).reshape(5, 2)
    parts = split(slide, Bag(features, coords, SIDE))
    assert [label for label, _ in parts] == [slide.label] * 2
    assert sorted(len(bag.features) for _, bag in parts) == [2, 2], "glass belongs to none"


def test_missing_data_is_named(tmp_path, capsys):
    with pytest.raises(DataUnusable, match=r"patches\.csv"):
        read_patch_list(tmp_path / "patches.csv")
    (tmp_path / "lung.zip").write_bytes(b"no zip")
    with pytest.raises(DataUnusable, match=r"lung\.zip"), open_archive(tmp_path / "lung.zip"):
        pass
    assert main([str(tmp_path), "--cache", str(tmp_path / "c")]) == 1
    assert "patches.csv" in capsys.readouterr().err


@pytest.mark.shared_data
def test_real_patches_go_the_whole_way(shared_data, tmp_path, capsys):
    arguments = ["--slides-per-label", "2", "--prototypes-per-slide", "2", "--rounds", "20"]
    assert main([str(shared_data / "lc25000"), "--cache", str(tmp_path), *arguments]) == 0
    said = capsys.readouterr().out
    assert "6 slides of 3 labels" in said
    assert "efficientnet-lite0" in said
