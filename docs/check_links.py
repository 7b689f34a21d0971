"""Checks the links of a built site, without a network.

    python docs/check_links.py docs/_build/html

Every link of a page to the site itself must lead to a file, and to an anchor
that is there. Links elsewhere are not followed, but what a page loads (styles,
scripts, pictures) must lie on the site.
"""

import pathlib
import sys
import urllib.parse

import bs4

_LINKS = {
    **dict.fromkeys(("a", "link"), "href"),
    **dict.fromkeys(("iframe", "img", "script", "source"), "src"),
}
_LOADED = {"stylesheet", "icon", "preload"}


def problems(site):
    """Yields a line for each link that leads nowhere."""
    pages = {
        path: bs4.BeautifulSoup(path.read_bytes(), "lxml")
        for path in sorted(site.rglob("*.html"))
    }
    anchors = {path: _anchors(page) for path, page in pages.items()}
    for path, page in pages.items():
        for element in page.find_all(list(_LINKS)):
            link = element.get(_LINKS[element.name])
            if link is not None:
                problem = _problem(site, path, element, link, anchors)
                if problem:
                    yield f"{path.relative_to(site)}: {link}: {problem}"


def _anchors(page):
    named = page.find_all("a", attrs={"name": True})
    ids = {element["id"] for element in page.find_all(id=True)}
    return ids | {element["name"] for element in named}


def _problem(site, path, element, link, anchors):
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        loaded = _LINKS[element.name] == "src" or (
            element.name == "link" and _LOADED & set(element.get("rel", ()))
        )
        outside = loaded and parts.scheme != "data"
        return "is loaded from elsewhere" if outside else None
    target = path
    if parts.path:
        target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
        if target.is_dir():
            target = target / "index.html"
        if not target.is_relative_to(site) or not target.is_file():
            return "no such file"
    fragment = urllib.parse.unquote(parts.fragment)
    if fragment and target in anchors and fragment not in anchors[target]:
        return "no such anchor"
    return None


def main():
    site = pathlib.Path(sys.argv[1]).resolve()
    found = [*problems(site)]
    print(*found, sep="\n", end="\n" if found else "")
    pages = len([*site.rglob("*.html")])
    if not pages:
        sys.exit(f"No pages in '{site}'.")
    print(f"{pages} pages, {len(found)} links that lead nowhere")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
