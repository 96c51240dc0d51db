# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings for the documentation site; `make docs` builds it, and needs no network."""

import builtins
import collections.abc
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

if sys.version_info < (3, 12):  # where `object` would stand for the type of a buffer
    collections.abc.Buffer = type("Buffer", (), {})  # type: ignore[attr-defined]

import atlas12288  # noqa: E402

# A name is shown as users import it, and not with the private module that defines it.
for package in ("", ".conformance", ".manifest", ".tables", ".tensors"):
    for name in import_module(f"atlas12288{package}").__all__:
        value = getattr(import_module(f"atlas12288{package}"), name)
        if getattr(value, "__module__", "").startswith(f"atlas12288{package}._"):
            value.__module__ = f"atlas12288{package}"

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
autodoc_default_options = {
    "members": True,
    "inherited-members": "object,int,Exception,tuple",
    "exclude-members": "add_note, with_traceback",
}
autodoc_preserve_defaults = True  # a default is written as in the code
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_preprocess_types = False
napoleon_use_ivar = True  # "Attributes:" of a docstring describe what autodoc describes again

# The contract declares its kernels without the % that LLVM IR has before names.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _unlink_builtins)
    app.connect("autodoc-process-docstring", _keep_text, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", _readable_signature)


def _keep_text(
    app: Sphinx, what: str, name: str, object: Any, options: Any, lines: list[str]
) -> None:
    """Keep the text of a docstring from being taken for markup."""
    # A name in backquotes that begins with a dot, such as `.npz`, would lose the dot.
    lines[:] = [re.sub(r"(?<!`)`(\.[^`]+)`(?!`)", r"``\1``", line) for line in lines]
    # napoleon takes what stands before the first colon of a property for its type, but not of a
    # comment, which an empty directive is.
    if what in ("property", "attribute") and lines:
        lines[:0] = ["..", ""]


def _unlink_builtins(app: Sphinx, doctree: nodes.document) -> None:
    """Keep Sphinx from taking the type `bytes` for `Domain.bytes`."""
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if hasattr(builtins, reference.get("reftarget", "")):
            reference.replace_self(reference.children)


def _readable_signature(
    app: Sphinx, what: str, name: str, object: Any, options: Any, signature: str | None, result: Any
) -> tuple[str, Any] | None:
    """Show the types that only a checker sees, and no arguments where a call is refused."""
    if signature is None:
        return None
    if what == "class" and signature.startswith("(*_"):  # other calls make its objects
        return "", None
    signature = signature.replace("PathLike[str] | object", "PathLike[str] | BinaryIO")
    return signature.replace("client: _Unknown", "client: distributed.Client"), result
