"""Every link inside a built site leads to a page and an anchor that are there, and nothing that a
page needs is fetched from elsewhere: ``python scripts/check_links.py docs/_build/html``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

NEEDED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
ONLY_NAMED = ("canonical", "alternate")  # links of a head that fetch nothing


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str | None, bool]] = []  # tag, target, whether it is fetched
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and "href" in found:
            self.links.append((tag, found["href"], False))
        elif tag in NEEDED and NEEDED[tag] in found:
            fetched = found.get("rel") not in ONLY_NAMED
            self.links.append((tag, found[NEEDED[tag]], fetched))


def faults(site: Path) -> list[str]:
    # templates of the theme lie among the static files
    paths = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path) for path in paths}
    found = []
    for path, page in pages.items():
        for tag, target, fetched in page.links:
            where = urlsplit(target or "")
            if where.scheme or where.netloc:
                if fetched and where.scheme != "data":
                    found.append(f"{path.relative_to(site)}: <{tag}> fetches {target}")
                continue
            to = (path.parent / unquote(where.path)).resolve() if where.path else path
            if not to.is_file():
                found.append(f"{path.relative_to(site)}: no {target}")
            elif where.fragment and to in pages:
                anchor = unquote(where.fragment)
                if anchor not in pages[to].ids:
                    found.append(f"{path.relative_to(site)}: no anchor {target}")
    return found


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve()
    missing = faults(site)
    print("\n".join(missing) or f"links of {len(list(site.rglob('*.html')))} pages are whole")
    sys.exit(bool(missing))
