# SPDX-License-Identifier: Apache-2.0
"""Makes the pages of the C header and of the JavaScript package from their comments."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "include" / "atlas" / "conservation.h"
JAVASCRIPT = ROOT / "js" / "lib"


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _append)
    return {"parallel_read_safe": True}


def _append(app: Any, name: str, source: list[str]) -> None:
    if name == "reference/c":
        app.env.note_dependency(str(HEADER))
        source[0] += c_reference(HEADER.read_text(encoding="utf-8"))
    elif name == "reference/javascript":
        for path in JAVASCRIPT.glob("*.js"):
            app.env.note_dependency(str(path))
        source[0] += javascript_reference(JAVASCRIPT)


def _indented(text: str, spaces: int = 3) -> str:
    return textwrap.indent(text, " " * spaces)


# --- C ---


def c_reference(header: str) -> str:
    """Return the reStructuredText of a header: its sections, and each declaration with the comment
    above it."""
    lines = header.split("\n")
    guarded = [
        line for line in lines if not line.startswith(("#if", "#endif", "#pragma", "#include"))
    ]
    text = "\n".join(guarded).replace('extern "C" {\n', "").replace("\n}\n", "\n")
    text = re.sub(r"#define ATLAS_CONSERVATION_H\n", "", text)
    found = []
    for chunk in _c_chunks(text):
        comment, code = _split_comment(chunk)
        heading = re.match(r"-{3,}\s*\n(.*?)\.?\s*(\n|$)", comment) or re.match(
            r"--- ([^:]*?)(?:: | ---)", comment
        )
        if heading and not code:
            found.append(_c_section(comment))
        elif comment or code:
            found.append(_c_declarations(comment, code))
    return "\n\n".join(found) + "\n"


def _c_chunks(text: str) -> list[str]:
    """Return the parts of a header between blank lines; a comment is never cut."""
    chunks: list[list[str]] = [[]]
    in_comment = False
    for line in text.split("\n"):
        if not line.strip() and not in_comment:
            chunks.append([])
            continue
        chunks[-1].append(line)
        if "/*" in line or in_comment:
            in_comment = "*/" not in line.rsplit("/*", 1)[-1]
    return ["\n".join(chunk) for chunk in chunks if chunk]


def _split_comment(chunk: str) -> tuple[str, str]:
    """Split a chunk into the text of its leading comment, "" without one, and its code."""
    if not chunk.startswith("/*"):
        return "", chunk
    comment, _, code = chunk[2:].partition("*/")
    stripped = [re.sub(r"^ \* ?", "", line) for line in comment.split("\n")]
    stripped[0] = stripped[0].lstrip()
    return "\n".join(stripped).strip(), code.strip("\n")


def _c_section(comment: str) -> str:
    text = re.sub(r"(^-{3,}\s*)|(\s*-{3,}$)", "", comment).strip()
    title, _, rest = re.split(r"([.:] |\.?\n|$)", text, maxsplit=1)[:3]
    if "\n\n" in rest and "declare" in rest:  # the kernels in LLVM IR
        title, rest = "Kernels in LLVM IR", text
    rest = rest.strip()
    rest = rest[:1].upper() + rest[1:]
    return f"{title}\n{'-' * len(title)}\n\n{_c_text(rest)}"


def _c_declarations(comment: str, code: str) -> str:
    parts = []
    if comment.startswith("SPDX"):
        comment = comment.split("\n\n", 1)[-1]
    description = _c_text(comment)
    functions = re.findall(r"^(?!typedef|#)(\w[^;{}]*\([^;]*\));", code, re.MULTILINE)
    if not functions:
        parts.append(description)
    for struct in re.findall(r"typedef struct (\w+) \w+;", code):
        parts.append(f".. c:type:: struct {struct} {struct}_t")
    for body, name in re.findall(r"typedef enum \{(.*?)\} (\w+);", code, re.DOTALL):
        parts.append(f".. c:enum:: {name}\n")
        for enumerator, value, note in re.findall(r"(\w+) = (\d+),?\s*(?://(.*))?", body):
            parts.append(
                _indented(f".. c:enumerator:: {enumerator} = {value}\n\n   {note.strip()}")
            )
    for name, value, note in re.findall(r"#define (\w+) (\w+)\s*/\*(.*?)\*/", code):
        parts.append(f".. c:macro:: {name}\n\n   {value}: {_c_text(note.strip())}")
    if functions:
        signatures = [" ".join(function.split()) for function in functions]
        parts.append(".. c:function:: " + "\n                 ".join(signatures))
        parts.append(_indented(description))
    return "\n\n".join(part for part in parts if part)


def _c_text(comment: str) -> str:
    """Return the reStructuredText of a comment: paragraphs, bullets, and what is laid out as a
    block."""
    found = []
    comment = re.sub(r":\n(  - )", r":\n\n\1", comment)
    for paragraph in re.split(r"\n\n+", comment):
        if not paragraph.strip():
            continue
        if paragraph.startswith("  - "):
            found.append(_c_words(textwrap.dedent(paragraph)))
        elif paragraph.startswith("  "):
            found.append("::\n\n" + _indented(textwrap.dedent(paragraph)))
        else:
            found.append(_c_words(paragraph))
    return "\n\n".join(found)


def _c_words(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    text = re.sub(r"\b(atlas_\w+)\(\)", r":c:func:`\1`", text)
    return re.sub(r"(?<![`\w])(ATLAS_(?:OK|E_[A-Z]+))\b", r"``\1``", text)


# --- JavaScript ---

_DOC = r"/\*\*((?:[^*]|\*(?!/))*)\*/\n"


def exported_names(folder: Path) -> dict[str, str]:
    """Return the file of each name that the package exports, in the order of its index."""
    index = (folder / "index.js").read_text(encoding="utf-8")
    names: dict[str, str] = {}
    for listed, file in re.findall(r'^export (\*|\{[^}]*\}) from "\./(.*?)";', index, re.MULTILINE):
        if listed == "*":
            text = (folder / file).read_text(encoding="utf-8")
            found = re.findall(r"^export (?:const|class|function) (\w+)", text, re.MULTILINE)
        else:
            found = re.findall(r"\w+", listed)
        names |= dict.fromkeys(found, file)
    return names


def javascript_reference(folder: Path) -> str:
    """Return the reStructuredText of all that the package exports, a section for each file.

    Raises:
        ValueError: an exported name has no description.
    """
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.js")}
    found = [".. js:module:: atlas12288"]
    section = ""
    for name, file in exported_names(folder).items():
        if file != section:
            section = file
            title = _file_title(texts[file])
            found.append(f"{title}\n{'-' * len(title)}")
        found.append(_js_declaration(name, texts[file], "\n".join(texts.values())))
    return "\n\n".join(found) + "\n"


def _file_title(text: str) -> str:
    (title,) = re.findall(r"@file (.*?)(?:[.:,]\s|\n)", text)
    return title.strip(" */")


def _js_declaration(name: str, text: str, everything: str) -> str:
    match = re.search(
        rf"{_DOC}export (const|(?:async )?function|class) {name}\b(.*)$", text, re.MULTILINE
    )
    if match is None:
        match = re.search(rf"()export (const) {name}\b(.*)$", text, re.MULTILINE)
        if match is None:
            raise ValueError(f"{name} has no description in {JAVASCRIPT}")
    doc, kind, rest = match.groups()
    if kind == "class":
        return _js_class(name, doc, everything)
    if kind == "const":
        beside = re.search(r"//\s*(.*)$", rest)
        note = _js_doc(doc) or (beside.group(1) if beside else "")
        return f".. js:data:: {name}\n\n{_indented(note)}"
    return f".. js:function:: {name}({_js_arguments(doc)})\n\n{_indented(_js_doc(doc))}"


def _js_class(name: str, doc: str, everything: str) -> str:
    parts = []
    members: dict[str, str] = {}
    around: str | None = name
    while around:  # what it inherits is described with it
        match = re.search(
            rf"^(?:export )?class {around}(?: extends (\w+))? \{{\n(.*?)^\}}",
            everything,
            re.MULTILINE | re.DOTALL,
        )
        if match is None:
            break
        around, body = match.groups()
        for member, described in _js_members(body):
            members.setdefault(member, described)
    constructor = members.pop("constructor", "")
    # A constructor that says no error is for the package itself.
    arguments = _js_arguments(constructor) if "@throws" in constructor else ""
    parts.append(f".. js:class:: {name}({arguments})")
    parts.append(_indented(_js_doc(doc)))
    if arguments:
        parts.append(_indented(_js_doc(constructor)))
    parts += [_indented(described) for described in members.values()]
    return "\n\n".join(parts)


def _js_members(body: str) -> list[tuple[str, str]]:
    found = []
    pattern = rf"^  {_DOC}  (static )?(?:async )?(get |set )?(\*?\w+)(\(| =|;)"
    for doc, static, access, member, after in re.findall(pattern, body, re.MULTILINE):
        if member == "constructor":
            found.append((member, doc))
        elif after == "(" and not access:
            described = f".. js:method:: {member}({_js_arguments(doc)})"
            text = "Static. " * bool(static) + _js_doc(doc)
            found.append((member, f"{described}\n\n{_indented(text)}"))
        else:
            found.append((member, _js_attribute(member, doc)))
    for doc, member in re.findall(rf"^    {_DOC}    this\.(\w+) =", body, re.MULTILINE):
        found.append((member, _js_attribute(member, doc)))
    return found


def _js_attribute(name: str, doc: str) -> str:
    text, tags = _js_tags(doc)
    said = [_js_words(text.strip())]
    said += [f"``{kind}``." for tag, kind, _ in tags if tag == "returns"]
    said += [
        f"Throws ``{kind}``: {_js_words(rest)}." for tag, kind, rest in tags if tag == "throws"
    ]
    return f".. js:attribute:: {name}\n\n{_indented(' '.join(said))}"


def _js_tags(doc: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the text of a comment before its tags, and of each tag its name, type and text."""
    plain = textwrap.dedent(re.sub(r"^ *\* ?", "", doc.strip("\n"), flags=re.MULTILINE)).strip()
    text, *tagged = re.split(r"(?:^|(?<=\n))@", plain)
    if not text.strip() and tagged and tagged[0].startswith("readonly "):
        text = tagged.pop(0).removeprefix("readonly ")
    tags = []
    for tag in tagged:
        name, _, rest = tag.partition(" ")
        kind = ""
        if rest.startswith("{"):
            depth = 0
            for at, character in enumerate(rest):
                depth += {"{": 1, "}": -1}.get(character, 0)
                if depth == 0:
                    kind, rest = rest[1:at], rest[at + 1 :]
                    break
        tags.append((name.strip(), " ".join(kind.split()), " ".join(rest.split())))
    return text, tags


def _js_arguments(doc: str) -> str:
    _, tags = _js_tags(doc)
    names = [rest.split(" ")[0] for tag, _, rest in tags if tag == "param"]
    return ", ".join(name for name in names if "." not in name)


def _js_words(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")
    text = re.sub(r"\{@link (\w+)\}", r"`\1`", text)
    return re.sub(r"`([^`]+)`", r"``\1``", text)


def _js_doc(doc: str) -> str:
    text, tags = _js_tags(doc)
    paragraphs = []
    for paragraph in re.split(r"\n\n+", text.strip()):
        block = paragraph.startswith("    ")
        paragraphs.append(
            "::\n\n" + _indented(textwrap.dedent(paragraph)) if block else _js_words(paragraph)
        )
    fields = []
    for tag, kind, rest in tags:
        shown = f" (``{kind}``)" if kind else ""
        if tag == "param":
            name, _, said = rest.partition(" ")
            name = name.strip("[]")
            fields.append(f":param {name}:{shown} {_js_words(said)}")
        elif tag in ("returns", "return"):
            fields.append(f":returns:{shown} {_js_words(rest)}")
        elif tag == "throws":
            fields.append(f":throws {kind}: {_js_words(rest)}")
    return "\n\n".join(part for part in ("\n\n".join(paragraphs), "\n".join(fields)) if part)
