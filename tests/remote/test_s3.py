# SPDX-License-Identifier: Apache-2.0
"""A bucket of a real S3 server, which moto is, as the source of a manifest."""

import json
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from werkzeug import Request, Response

from atlas12288 import WINDOW_BYTES
from atlas12288._cli.manifests import amount
from atlas12288._files import CHANGED, FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._sources.remote import RemoteFolder
from atlas12288.manifest._sources.selection import Selection
from support import commandline
from support.commandline import DOES_NOT_HOLD, HOLDS
from support.strategies import noise
from test_manifest_remote import FILES, digests, error, listed

BUCKET = "bucket"


class Failures:
    """Between the client and the server: fails requests to order.

    Attributes:
        answers: those to be given in place of the server's, the next one first.
        only: the method and the part of the path of what fails.
        requests: each method and path with query.
        page: how many keys a page of a listing has, None for the server's own number.
    """

    def __init__(self, server: ThreadedMotoServer) -> None:
        self.answers: list[tuple[int, str]] = []
        self.only = ("GET", "/")
        self.requests: list[str] = []
        self.page: int | None = None
        self._inner: Any = None
        self._server = server

    def begin(self) -> None:
        server: Any = self._server._server
        self._inner, server.app = server.app, self

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        if self.page is not None and "list-type=2" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] += f"&max-keys={self.page}"
        request = Request(environ)
        self.requests.append(f"{request.method} {request.full_path}")
        method, part = self.only
        if self.answers and request.method == method and part in request.full_path:
            status, code = self.answers.pop(0)
            body = f"<Error><Code>{code}</Code><Message>to order</Message></Error>"
            return Response(body, status, content_type="application/xml")(environ, start)
        return self._inner(environ, start)


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def failures(server: ThreadedMotoServer) -> Iterator[Failures]:
    between = Failures(server)
    before = server._server.app  # type: ignore[union-attr]
    between.begin()
    yield between
    server._server.app = before  # type: ignore[union-attr]


@pytest.fixture
def options(server: ThreadedMotoServer) -> dict[str, Any]:
    host, port = server.get_host_and_port()
    return {
        "endpoint_url": f"http://{host}:{port}",
        "key": "test",
        "secret": "test",
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"retries": {"max_attempts": 1}},
    }


@pytest.fixture
def s3(options: dict[str, Any]) -> Iterator[S3FileSystem]:
    """The bucket, with FILES below data/."""
    storage = S3FileSystem(**options)
    storage.call_s3("create_bucket", Bucket=BUCKET)
    for name, data in FILES.items():
        put(storage, f"data/{name}", data)
    yield storage
    storage.invalidate_cache()
    for key in keys(storage):
        storage.call_s3("delete_object", Bucket=BUCKET, Key=key)
    storage.call_s3("delete_bucket", Bucket=BUCKET)


def put(storage: S3FileSystem, key: str, data: bytes) -> None:
    storage.call_s3("put_object", Bucket=BUCKET, Key=key, Body=data)


def keys(storage: S3FileSystem) -> list[str]:
    found: list[str] = []
    request: dict[str, str] = {}
    while True:
        page = storage.call_s3("list_objects_v2", Bucket=BUCKET, **request)
        found += [content["Key"] for content in page.get("Contents", ())]
        if not page["IsTruncated"]:
            return found
        request = {"ContinuationToken": page["NextContinuationToken"]}


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_bucket_has_the_digests_of_its_objects(
    s3: S3FileSystem, options: dict[str, Any], end: str, threads: int
) -> None:
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    for name, data in FILES.items():
        MemoryFileSystem().pipe_file(f"/same/{name}", data)
    expected = digests(RemoteFolder("memory://same"))
    assert digests(RemoteFolder(f"s3://{BUCKET}/data{end}", **options), threads) == expected
    whole = digests(RemoteFolder(f"s3://{BUCKET}{end}", **options), threads)
    assert whole == {f"data/{name}": value for name, value in expected.items()}


def test_one_object_is_listed_alone(s3: S3FileSystem, options: dict[str, Any]) -> None:
    founds, problems = listed(RemoteFolder(f"s3://{BUCKET}/data/deep/large", **options))
    assert (set(founds), problems) == ({"large"}, {})


def test_keys_that_are_no_paths_are_problems_and_markers_of_folders_no_files(
    s3: S3FileSystem, options: dict[str, Any]
) -> None:
    odd = ("a//b", "../x", "./x", "/x", "b/../c", "slash/")
    for name in odd:
        put(s3, f"data/{name}", b"x")
    for name in ("", "deep/", "nothing/"):
        put(s3, f"data/{name}", b"")
    founds, problems = listed(RemoteFolder(f"s3://{BUCKET}/data", **options))
    assert set(founds) == set(FILES)
    assert set(problems) == set(odd)
    assert all("must be relative, without NUL" in reason for reason in problems.values())


def test_a_listing_of_several_pages_has_each_object_once(
    s3: S3FileSystem, options: dict[str, Any], failures: Failures
) -> None:
    names = [f"many/{index // 10}/{index}" for index in range(35)]
    for name in names:
        put(s3, name, b"")
    source = RemoteFolder(f"s3://{BUCKET}/many/", **options)
    failures.requests.clear()
    failures.page = 10
    founds, problems = listed(source)
    assert (sorted(f"many/{path}" for path in founds), problems) == (sorted(names), {})
    assert len(failures.requests) == 4
    founds, _ = listed(source, Selection(exclude=["/2/", "1[0-9]"]))
    assert len(founds) == 35 - 20


def test_a_file_is_asked_for_by_its_ranges_alone(
    s3: S3FileSystem, options: dict[str, Any], failures: Failures
) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    founds, _ = listed(source)
    failures.requests.clear()
    with source.open(founds["deep/large"]) as reader:
        for offset in range(0, founds["deep/large"].size, BLOCK_BYTES):
            reader.read_into(offset, memoryview(bytearray(BLOCK_BYTES)))
        reader.finish()
    methods = [request.split()[0] for request in failures.requests]
    assert methods == ["GET", "GET", "GET", "HEAD"]


@pytest.mark.parametrize("data", [bytes(100), b"short", noise(101)])
def test_what_changes_after_it_was_listed_is_an_error(
    s3: S3FileSystem, options: dict[str, Any], data: bytes
) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    founds, _ = listed(source)
    for name in ("a.bin", "deep/large"):
        put(s3, f"data/{name}", data)
        assert error(source, founds[name]) == CHANGED


def test_what_changes_while_it_is_read_is_an_error(
    s3: S3FileSystem, options: dict[str, Any]
) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    found = listed(source)[0]["deep/large"]
    with source.open(found) as reader:
        reader.read_into(0, memoryview(bytearray(BLOCK_BYTES)))
        put(s3, "data/deep/large", noise(found.size))
        reader.read_into(BLOCK_BYTES, memoryview(bytearray(BLOCK_BYTES)))
        reader.finish()  # it has the same bytes
        put(s3, "data/deep/large", bytes(found.size))
        with pytest.raises(FileError, match=CHANGED):
            reader.finish()


def test_what_vanishes_is_an_error(s3: S3FileSystem, options: dict[str, Any]) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    founds, _ = listed(source)
    for name in ("a.bin", "empty", "deep/large"):
        s3.call_s3("delete_object", Bucket=BUCKET, Key=f"data/{name}")
        assert error(source, founds[name]) == "No such file or directory"


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (400, "SlowDown")])
def test_requests_that_fail_for_a_while_are_made_again(
    s3: S3FileSystem, options: dict[str, Any], failures: Failures, status: int, code: str
) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    expected = digests(source)
    failures.only = ("GET", "/data/a.bin")
    failures.answers = [(status, code)] * 2
    assert digests(source) == expected
    failures.only = ("GET", "list-type=2")
    failures.answers = [(status, code)] * 2
    assert digests(source) == expected
    assert failures.answers == []


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "AccessDenied", "Permission denied"), (500, "InternalError", "to order")],
)
def test_requests_that_always_fail_are_errors_of_their_file(
    s3: S3FileSystem,
    options: dict[str, Any],
    failures: Failures,
    status: int,
    code: str,
    reason: str,
) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    founds, _ = listed(source)
    failures.only = ("GET", "/data/a.bin")
    failures.answers = [(status, code)] * 100
    assert reason in error(source, founds["a.bin"])
    assert "\n" not in error(source, founds["a.bin"])
    failures.only = ("GET", "list-type=2")
    with pytest.raises(FileError, match=reason):
        listed(source)


@pytest.mark.parametrize("url", ["s3://no-such-bucket", "s3://no-such-bucket/x", "s3://bucket/no"])
def test_a_bucket_or_object_that_is_not_there(
    s3: S3FileSystem, options: dict[str, Any], url: str
) -> None:
    with pytest.raises(FileError, match=r"^No such file or directory$"):
        RemoteFolder(url, **options)


def test_no_bucket_and_no_server() -> None:
    with pytest.raises(FileError, match="names no bucket"):
        RemoteFolder("s3://", key="x", secret="x")
    with pytest.raises(FileError, match="Could not connect to the endpoint URL"):
        RemoteFolder("s3://bucket", endpoint_url="http://127.0.0.1:9", key="x", secret="x")


def test_the_command_line_from_witness_to_update(
    s3: S3FileSystem, server: ThreadedMotoServer, tmp_path: Path
) -> None:
    host, port = server.get_host_and_port()
    environment = os.environ | {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def run(*arguments: str, noted: bytes = b"") -> tuple[int, list[str]]:
        done = commandline.run(*arguments, env=environment, cwd=tmp_path)
        assert re.fullmatch(noted, done.stderr), done.stderr
        return done.returncode, done.stdout.decode().splitlines()

    url, manifest = f"s3://{BUCKET}/data", "data.atlas.json"
    count = len(FILES)
    size = amount(sum(map(len, FILES.values())))
    assert run("witness", "--tree", url, "-o", manifest) == (
        HOLDS,
        [f"{manifest}: {count} files, {size}"],
    )
    code, lines = run("verify", manifest, url)
    assert (code, len(lines)) == (HOLDS, 1)
    assert lines[0].startswith(f"{url}: matches its manifest; {count} files, {size}: ")

    damaged = bytearray(FILES["deep/large"])
    damaged[3 * WINDOW_BYTES] ^= 1
    put(s3, "data/deep/large", bytes(damaged))
    put(s3, "data/new", b"new")
    s3.call_s3("delete_object", Bucket=BUCKET, Key="data/a.bin")
    code, lines = run("verify", manifest, url)
    assert code == DOES_NOT_HOLD
    assert lines[0] == "a.bin: missing"
    assert lines[1].startswith("deep/large: changed, differs in residue, sha256")
    assert lines[3] == "           bytes [36864, 49152)  window 3"
    assert lines[4] == "new: added"

    known = rb"atlas12288: data\.atlas\.json: .*: %d files known\n" % (count - 2)
    code, lines = run("witness", "--update", "--tree", url, "-o", manifest, noted=known)
    assert code == HOLDS
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == [
        *("a.bin", "deep/large", "new", manifest)
    ]
    assert f"; 2 read, {count - 2} known, " in lines[-1]
    counts = "1 changed, 1 missing, 1 added since the manifest that it replaces"
    assert lines[-1].endswith(f"; {counts}")
    assert run("verify", "--quiet", manifest, url) == (HOLDS, [])
    assert run("witness", "--tree", url, "-o", "new.atlas.json")[0] == HOLDS
    for end in "json", "leaves":
        updated, new = (tmp_path / f"{name}.atlas.{end}" for name in ("data", "new"))
        assert updated.read_bytes() == new.read_bytes()


def test_a_bucket_can_be_pickled(s3: S3FileSystem, options: dict[str, Any]) -> None:
    source = RemoteFolder(f"s3://{BUCKET}/data", **options)
    assert json.dumps(str(listed(pickle.loads(pickle.dumps(source))))) == json.dumps(
        str(listed(source))
    )
