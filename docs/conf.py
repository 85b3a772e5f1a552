"""The documentation site: `scripts/dev docs` builds it."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "fastent"
author = copyright = "The fastent developers"
version = release = installed("fastent")

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser", "from_package"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # numpydoc says it in words
smartquotes = False  # --base is an option
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "fastent"
html_static_path = ["_static"]
html_css_files = ["fastent.css"]
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses for files
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "fastent"},
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {"index": [], "changelog": []}
