# SPDX-License-Identifier: Apache-2.0
"""The `sha256sum` of GNU coreutils, as the judge of lists of sums."""

import hashlib
import os
import subprocess
from pathlib import Path

from support.tools import needs

needed = needs("sha256sum")

# Names that a reader of lists can take for something else. The bytes of each file are its name.
NAMES = (
    *(b"plain", b"1", b"two words", b" space before", b"space after ", b"*star", b"#hash"),
    *(b"new\nline", b"carriage\rreturn", b"ends with\r", b"back\\slash", b"\\", b"\\n", b"tab\tx"),
    *(
        b"par) = en",
        b")",
        b"(",
        b"SHA256 (x) = y",
        b"bad\xffutf8",
        "schön 漢".encode(),
        b"\x1b[31m",
    ),
)


def digest_of(name: bytes) -> str:
    """What a list should say about the file of this name."""
    return hashlib.sha256(name).hexdigest()


def make_files(folder: Path) -> None:
    """The files of NAMES."""
    for name in NAMES:
        (folder / os.fsdecode(name)).write_bytes(name)


def sha256sum(*arguments: str | bytes, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Runs it to its end."""
    return subprocess.run(
        ("sha256sum", *arguments),
        cwd=cwd,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def says(output: bytes, verdicts: list[tuple[bytes, str]]) -> bool:
    """Whether the output of `sha256sum -c` is these names and verdicts, in this order."""
    for name, verdict in verdicts:
        end = f": {verdict}\n".encode()
        escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\r", rb"\r")
        # Which names it escapes depends on its version; a newline always is.
        forms = [b"\\" + escaped + end] if escaped != name else []
        if b"\n" not in name:
            forms.append(name + end)
        for form in forms:
            if output.startswith(form):
                output = output[len(form) :]
                break
        else:
            return False
    return not output
