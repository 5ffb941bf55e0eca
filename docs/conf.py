"""Configuration of the documentation site: `tox run -e docs` builds it and runs its examples."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extension"))

project = "eavit-bench"
author = "the eavit-bench contributors"
project_copyright = author
version = release = metadata.version("eavit-bench")
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "generated_pages",
]
highlight_language = "none"
exclude_patterns = ["_build"]
nitpicky = False
suppress_warnings = ["misc.highlighting_failure"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "attrs_inline"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True

doctest_global_setup = """
import eavit, timm, torch
"""

html_theme = "furo"
html_title = f"eavit-bench {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
