"""Settings of Sphinx for the docs site. build.py stages the pages and starts Sphinx."""

from importlib.metadata import version as installed

project = "iconicity"
author = "the iconicity authors"
copyright = author
release = installed("iconicity")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links like encoders.md#sscd, which a forge resolves too
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

smartquotes = False  # an option keeps its two hyphens

html_theme = "furo"
html_title = "iconicity"
html_static_path = ["static"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # a page that was opened from a disk may not fetch the texts of others
