"""Checks that an HTML file stands alone and is built for every reader."""

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input", "line", "circle"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[tuple[str, dict[str, str | None]]]] = []

    def handle_starttag(self, tag, attrs):
        found = (tag, dict(attrs))
        self.tags.append(found)
        if tag == "table":
            self.tables.append([])
        elif self.tables:
            self.tables[-1].append(found)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in _VOID:  # written as <line/>
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def assert_page_is_sound(text: str) -> _Page:
    """Fail where the page needs another host or script, or leaves readers without headings."""
    page = _Page()
    page.feed(text)
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert "script" not in names
    assert "http:" not in text and "https:" not in text
    assert ("html", {"lang": "en"}) in page.tags
    assert names.count("h1") == names.count("title") == names.count("main") == 1
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["src"].startswith("data:image/") and attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
    assert page.tables
    for cells in page.tables:
        assert cells[0][0] == "caption"
        heads = [attributes.get("scope") for tag, attributes in cells if tag == "th"]
        assert heads and set(heads) <= {"col", "row"}
    return page
