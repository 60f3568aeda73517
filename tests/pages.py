"""Reads an HTML page strictly, as an oracle: what is open is closed, and nothing is fetched."""

from html.parser import HTMLParser

VOID = {"img", "link", "meta"}
FETCHED = {"src", "href", "srcset", "poster", "data", "action", "background"}


class Page(HTMLParser):
    """The tags, headings, tables and texts of a page.

    Attributes:
      tags: of all elements, in order, with their attributes.
      tables: for each, its rows; a row is the texts of its cells.
      values: likewise, the cells' `data-value`.
      texts: the texts of the elements that a name has, scripts and styles too.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.values, self.texts, self._open = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self._open == [], "not closed"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), "an attribute twice"
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        for name in FETCHED & set(names):
            assert attrs[name].startswith(("data:", "#")), attrs[name][:60]
        assert not any(name.startswith("on") for name in names)
        if tag == "table":
            self.tables.append([])
            self.values.append([])
        if tag == "tr":
            self.tables[-1].append([])
            self.values[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.values[-1][-1].append(attrs.get("data-value"))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data


def markdown_tables(text):
    """The tables of a text in Markdown, without the rules below their heads."""
    tables, inside = [], False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return [[head, *body] for head, _, *body in tables]
