# SPDX-License-Identifier: Apache-2.0
"""Storage that cannot be relied on: sizes that lie, identities that are not there or do not tell
much, listings that are stale, answers that are too short or too long, and files that change between
any two requests. Mixed at random, by a seed.

One request is answered from one moment; between two of them anything may happen. Left out is what
no reader can know: a size that is too small, and an answer that by chance ends just there.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

WINDOW = 12288
BLOCK = 2 * WINDOW  # in place of the 256 windows that would make each run read megabytes
START_NS = 1_700_000_000 * 10**9 + 123_000_000
_S = 10**9
SIZES = (0, 1, 500, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 77, 5 * BLOCK)
# What tells that a file is the same, by the keys that it is told under.
IDENTITIES = ("none", "content", "weak", "version", "fine", "coarse", "both", "created")
SHOWN = ("everywhere", "everywhere", "everywhere", "in listings", "in looks at one file")
LIES = ("none", "none", "none", "none", "none", "less", "more", "less in listings")
WAYS = (
    "ranges",
    "ranges",
    "buffered",
    "buffered",
    "whole file object",
    "no ranges",
    "too much",
    "too little",
)


@dataclass(repr=False)
class World:
    """Some files of a storage, and what happens to them.

    Attributes:
        whole: the contents that each file had as a whole, each at some moment since `forget`.
        requests: how many were made.
        changes: how many contents were replaced, each between two requests.
        now_ns: its clock.
    """

    seed: int
    identity: str = ""
    shown: str = ""
    lie: str = ""
    way: str = ""
    caches: bool = False
    rate: float = 0.0
    failures: float = 0.0
    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    written_ns: dict[str, int] = field(default_factory=dict)
    whole: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    requests: int = 0
    changes: int = 0
    now_ns: int = START_NS

    def __post_init__(self) -> None:
        self.random = random = Random(self.seed)
        self.lock = threading.RLock()
        self.identity = self.identity or random.choice(IDENTITIES)
        self.shown = self.shown or random.choice(SHOWN)
        self.lie = self.lie or random.choice(LIES)
        self.way = self.way or random.choice(WAYS)
        if self.way == "too little" and self.lie.startswith("less"):
            self.lie = "more"
        self.caches = random.random() < 0.5
        self.rate = random.choice((0.0, 0.02, 0.1, 0.3))
        self.slow_ns = random.choice((20_000_000, 300_000_000))
        self.failures = random.choice((0.0, 0.0, 0.0, 0.02))
        # Few contents of a size, so that old ones come back.
        self.contents = {
            size: [random.randbytes(size) for _ in range(2)] for size in random.choices(SIZES, k=3)
        }
        for index in range(random.randint(1, 4)):
            folder = random.choice(("", "deep/", "deep/er/"))
            self.write(f"{folder}{index}", self.any_content())
        self.now_ns += random.choice((0, 3 * _S))

    def __repr__(self) -> str:
        names = ("seed", "identity", "shown", "lie", "way", "caches", "rate")
        return f"World({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def any_content(self, size: int | None = None) -> bytes:
        sizes = self.contents
        return self.random.choice(sizes[self.random.choice(list(sizes)) if size is None else size])

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = data
        self.versions[name] = self.versions.get(name, 0) + 1
        self.written_ns[name] = self.now_ns
        self.whole[name].add(data)

    def was_whole(self, name: str) -> list[bytes]:
        """What a file was, at some moment since `forget`."""
        with self.lock:
            return list(self.whole[name])

    def forget(self) -> None:
        """A new run begins: what counts is what the files are from here on."""
        self.whole.clear()
        for name, data in self.files.items():
            self.whole[name].add(data)

    def change(self) -> None:
        if not self.files:
            return
        name = self.random.choice(list(self.files))
        size = len(self.files[name])
        what = self.random.random()
        if what < 0.75:  # what shows least: another content of the same size
            self.write(name, self.any_content(size))
        elif what < 0.85:
            self.write(name, self.any_content())
        elif what < 0.9:
            self.write(f"new{self.changes}", self.any_content())
        elif what < 0.95 and len(self.files) > 1:
            del self.files[name]
        else:
            self.write(name, self.files[name])
        self.changes += 1

    def request(self) -> None:
        """Something is asked for: before it is answered, things happen."""
        self.requests += 1
        self.now_ns += self.random.randint(0, self.slow_ns)
        while self.random.random() < self.rate:
            self.change()
        if self.random.random() < self.failures:
            raise self.random.choice((TimeoutError(), RuntimeError("of the storage"), OSError(5)))

    def info(self, name: str, listed: bool) -> dict[str, Any]:
        data = self.files[name]
        size = len(data)
        if self.lie == "less" or (self.lie == "less in listings" and listed):
            size = max(0, size - 5)
        elif self.lie == "more":
            size += 5
        found: dict[str, Any] = {"name": f"/{name}", "size": size, "type": "file"}
        if self.shown == "everywhere" or listed == (self.shown == "in listings"):
            found |= self._identity(name, data)
        return found

    def _identity(self, name: str, data: bytes) -> dict[str, Any]:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        fine = (self.written_ns[name] - self.written_ns[name] % 10_000_000) / _S
        coarse = self.written_ns[name] // _S
        return {
            "none": {},
            "content": {"ETag": etag},
            "weak": {"ETag": "W/" + '"1"'},
            "version": {"generation": self.versions[name]},
            "fine": {"mtime": fine},
            "coarse": {"mtime": coarse},
            "both": {"etag": etag, "last_modified": fine},
            "created": {"created": START_NS / _S},
        }[self.identity]


class _File(AbstractBufferedFile):
    """Fetches parts, and believes the size that it was told."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs._part(self.path, start, end)  # type: ignore[no-any-return]


class UnreliableFileSystem(AbstractFileSystem):
    """A file system of fsspec over a `World`."""

    protocol = "unreliable"
    root_marker = "/"
    cachable = True  # as most are: others may have listed with the same instance

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(**options)
        self.world = world

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("unreliable://").strip("/")

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if self.world.caches and path in self.dircache:
            infos = list(self.dircache[path])
        else:
            with self.world.lock:
                self.world.request()
                infos = self._listing(path.strip("/"))
            self.dircache[path] = infos
        return infos if detail else [info["name"] for info in infos]

    def _listing(self, folder: str) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        infos, folders = [], set()
        for name in self.world.files:
            if name.startswith(start):
                first, separator, _ = name[len(start) :].partition("/")
                if separator:
                    folders.add(f"/{start}{first}")
                else:
                    infos.append(self.world.info(name, listed=True))
        if not infos and not folders and folder:
            raise FileNotFoundError(folder)
        return infos + [{"name": name, "size": 0, "type": "directory"} for name in folders]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path).strip("/")
        if self.world.caches:
            for infos in self.dircache.values():
                for info in infos:
                    if info["name"] == f"/{name}":
                        return dict(info)
        with self.world.lock:
            self.world.request()
            if name in self.world.files:
                return self.world.info(name, listed=False)
            if not name or any(other.startswith(f"{name}/") for other in self.world.files):
                return {"name": f"/{name}", "size": 0, "type": "directory"}
            raise FileNotFoundError(name)

    def _part(self, path: str, start: int | None, end: int | None) -> bytes:
        world = self.world
        with world.lock:
            world.request()
            data = world.files.get(self._strip_protocol(path).strip("/"))
            if data is None:
                raise FileNotFoundError(path)
            part = data[start:end]
            if world.way == "no ranges":
                return data
            if world.way == "too much" and world.random.random() < 0.3:
                return part + b"more"
            if world.way == "too little" and world.random.random() < 0.3:
                return part[: world.random.randint(0, len(part))]
            return part

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        return self._part(path, start, end)


class OpeningFileSystem(UnreliableFileSystem):
    """The same by files that are opened, as fsspec does it where nothing else is said."""

    cat_file = AbstractFileSystem.cat_file
    protocol = "opening"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("opening://").strip("/")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if self.world.way == "whole file object":
            return BytesIO(self._part(path, None, None))
        return _File(self, path, mode, **options)


def register() -> None:
    """Makes both known to fsspec."""
    for kind in UnreliableFileSystem, OpeningFileSystem:
        fsspec.register_implementation(kind.protocol, kind, clobber=True)


def url(world: World) -> str:
    """Where the files of a world are."""
    opens = world.way in ("buffered", "whole file object")
    return f"{'opening' if opens else 'unreliable'}://"
