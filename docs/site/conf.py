"""How Sphinx makes a site of the repository's Markdown: `make docs`.

The source folder is the root of the repository: README.md, CONTRIBUTING.md and CHANGELOG.md are pages like those of
docs/, and every link and picture is found where GitHub finds it.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Any, get_origin

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config as Sections
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.matching import patfilter
from sphinx.writers.html5 import HTML5Translator

from genbench import registry

ROOT = Path(__file__).parents[2]

project = "genbench"
author = "the genbench developers"
project_copyright = "2026, the genbench developers"
version = release = installed("genbench")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "README"
PAGES = ["README", "CONTRIBUTING", "CHANGELOG"]
include_patterns = [*(f"{page}.md" for page in PAGES), "docs/**.md", "docs/**.ipynb"]
exclude_patterns = [
    *(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"),  # not searched for pages
    # A lesson's notebook is a file beside its page, which has the name that the notebook's page would have.
    *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.ipynb") if path.with_suffix(".md").exists()),
    "**/.ipynb_checkpoints",
]

myst_enable_extensions = ["alert", "dollarmath", "tasklist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {  # `PositiveInt` instead of `Annotated[int, Range(minimum=1)]`
    name: name for name in registry.__all__ if get_origin(getattr(registry, name)) is Annotated
}
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
add_module_names = False

SECTIONS = Sections(napoleon_use_ivar=True)

html_theme = "furo"
html_title = "genbench"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

CONTENTS = {
    "Using genbench": ["docs/usage", "docs/keys", "docs/clusters", "docs/notebooks/*"],
    "Course": ["docs/course/README"],
    "Results": ["docs/results", "docs/measurements", "docs/sources"],
    "Python reference": ["docs/reference/door", "docs/reference/*"],
    "Changing genbench": ["docs/extending", "docs/architecture", "docs/reliability", "CONTRIBUTING", "CHANGELOG"],
    "More": ["docs/*", "docs/*/README"],
}
"""Headings of the navigation, and patterns of their pages; a page is under the first that fits."""


def contents(page: str, pages: set[str]) -> dict[str, list[str]]:
    """What is below a page, by heading: of a folder's README all others in it, of X.md the pages in the folder X."""
    folder, _, name = page.rpartition("/")
    if page == root_doc:
        headings, left = CONTENTS, pages - {page}
    elif name == "README":
        headings, left = {"": [f"{folder}/*", f"{folder}/*/*"]}, pages - {page}
    else:
        headings, left = {"": [f"{page}/*"]}, set(pages)
    found: dict[str, list[str]] = {}
    for heading, patterns in headings.items():
        for pattern in patterns:
            fitting = patfilter(sorted(left), pattern)  # `*` does not go into folders
            left.difference_update(fitting)
            found.setdefault(heading, []).extend(fitting)
    return {heading: entries for heading, entries in found.items() if entries}


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Navigation, which GitHub does not know, is no part of the Markdown."""
    if app.env.doc2path(page).suffix != ".md":
        return
    for heading, entries in contents(page, app.env.found_docs).items():
        caption = [f":caption: {heading}"] if heading else []
        links = [f"/{entry}" for entry in entries]
        source[0] += "\n\n" + "\n".join(["```{toctree}", ":hidden:", *caption, "", *links, "```"]) + "\n"


def link_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """`[text](NAME.ipynb)` is a download where NAME.md is the page."""

    def download(match: re.Match[str]) -> str:
        text, target = match.groups()
        twin = (app.env.doc2path(page).parent / target).with_suffix(".md")
        return f"{{download}}`{text} <{target}>`" if twin.exists() else match[0]

    source[0] = re.sub(r"\[([^\]]+)\]\(([^)\s]+\.ipynb)\)", download, source[0])


def copy_pictures(app: Sphinx, page: str, source: list[str]) -> None:
    """Sphinx finds those of Markdown; those of raw HTML, such as one for each colour scheme, keep their places."""
    for target in re.findall(r'<(?:img|source)\b[^>]*\bsrc(?:set)?="([^":]+)"', source[0]):
        picture = (app.env.doc2path(page).parent / target).resolve()
        copy = Path(app.outdir) / picture.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, copy)


def inline_formula(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def without_markup(line: str) -> str:
    """A docstring's line, in which `code` is code, and `*`, `|` and a last `_` are themselves."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(f"`{part}`" if part.startswith("`") else re.sub(r"[*|]|_\b", r"\\\g<0>", part) for part in parts)


def read_docstring(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with Google's sections."""
    lines[:] = map(without_markup, lines)
    if what not in ("attribute", "data", "property"):  # of which it takes what stands before a colon for a type
        lines[:] = GoogleDocstring(lines, SECTIONS, app, what, name, obj).lines()


def valid_signature(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A dataclass's `<factory>` is no Python."""
    return signature and signature.replace("<factory>", "..."), returns


def begin_at_the_readme(app: Sphinx, error: Exception | None) -> None:
    """A folder's address shows index.html."""
    if error is None and app.builder.format == "html":
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))  # needs no script from elsewhere
    app.connect("source-read", copy_pictures)
    app.connect("source-read", link_notebooks)
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", valid_signature)
    app.connect("build-finished", begin_at_the_readme)
