"""Links of the built site: one that leads nowhere within it is an error, those that leave it are listed.

    python docs/check_links.py build/docs

Sphinx checks the links of Markdown; this reads what came out of it, with those of raw HTML, notebooks and the theme.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "check", "main"]

ADDRESSES = {"a": "href", "link": "href"} | dict.fromkeys(("img", "script", "video"), "src") | {"source": "srcset"}
"""Elements with an address, and where it stands."""


class Page(HTMLParser):
    """A page's links, and the names that a link may end in after a #."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.anchors.add(value)
            elif value and name == ADDRESSES.get(tag):
                self.links.add(value.split()[0])


def check(site: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Links that lead nowhere, each with its page, and addresses outside with the pages that name them."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    broken: list[str] = []
    outside: dict[str, list[str]] = defaultdict(list)
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for link in sorted(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                if address.scheme != "data":
                    outside[link].append(name)
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else {unquote(address.fragment)}
            if not target.is_file() or unquote(address.fragment) not in anchors:
                broken.append(f"{name}: {link}")
    return broken, dict(outside)


def main(words: list[str]) -> int:
    """List what is outside; exit code 1 if a link leads nowhere."""
    (site,) = words
    broken, outside = check(Path(site))
    for link, names in sorted(outside.items()):
        print(f"{link}  ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})")
    print(f"{len(outside)} addresses outside the site, not visited; {len(broken)} links that lead nowhere")
    for line in broken:
        print(f"leads nowhere: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
