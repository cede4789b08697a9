"""The evaluation's HTML file, opened from disk as who receives it opens it."""

import pytest
from playwright.sync_api import Browser

from retrieval.engine import evaluate_files, train_files
from tests.browser.conftest import AXE
from tests.retrieval.made_archive import made_archive, write_archive


def test_the_file_asks_no_host_and_breaks_no_rule_of_accessibility(chromium: Browser, tmp_path):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci")
    write_archive(made_archive(slides=40), tmp_path)
    model, page_at = tmp_path / "model", tmp_path / "report.html"
    train = [str(tmp_path), "--out", str(model), "--no-choice"]
    assert train_files.main(train) == 0
    measure = [str(tmp_path), "--model", str(model / "model.safetensors"), "--rounds", "20"]
    assert evaluate_files.main([*measure, "--html", str(page_at)]) == 0
    page = chromium.new_page(viewport={"width": 1000, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_at.as_uri())
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document)")
    assert [(v["id"], v["nodes"][0]["html"][:160]) for v in found["violations"]] == []
    assert len(found["passes"]) > 20
    assert asked == [page_at.as_uri()]
    assert page.locator("svg[role=img]").count() == 3
    page.close()
