# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings for the documentation site; `make docs` builds it, and needs no network."""

import builtins
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

import atlas12288  # noqa: E402

project = "atlas12288"
copyright = "the atlas12288 authors, Apache-2.0"
version = release = atlas12288.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "source_reference",  # pages of the C header and the JavaScript package
]
exclude_patterns = ["_build", "package.md"]  # package.md: what a package index shows
html_theme = "furo"
html_title = f"atlas12288 {version}"
html_static_path: list[str] = []
html_copy_source = False

myst_heading_anchors = 4
# `$ ` and `>>> ` are not copied with a command, nor is what it prints.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

default_role = "py:obj"  # a name in backquotes links to its description, where there is one
autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True, "inherited-members": "object,int,Exception,tuple"}
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_preprocess_types = False
napoleon_use_ivar = True  # "Attributes:" of a docstring describe what autodoc describes again

# The contract declares its kernels without the % that LLVM IR has before names.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _unlink_builtins)
    app.connect("autodoc-process-docstring", _keep_colon, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", _hide_refused)


def _keep_colon(
    app: Sphinx, what: str, name: str, object: Any, options: Any, lines: list[str]
) -> None:
    """Keep napoleon from taking what stands before the first colon of a property for its type."""
    if what in ("property", "attribute") and lines:
        lines.insert(0, "")


def _unlink_builtins(app: Sphinx, doctree: nodes.document) -> None:
    """Keep Sphinx from taking the type `bytes` for `Domain.bytes`."""
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if hasattr(builtins, reference.get("reftarget", "")):
            reference.replace_self(reference.children)


def _hide_refused(
    app: Sphinx, what: str, name: str, object: Any, options: Any, signature: str | None, result: Any
) -> tuple[str, None] | None:
    """Show no arguments for a class whose call is refused, since other calls make its objects."""
    refused = what == "class" and signature is not None and signature.startswith("(*_")
    return ("", None) if refused else None
