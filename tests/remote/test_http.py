# SPDX-License-Identifier: Apache-2.0
"""A web server as the source of a manifest."""

import hashlib
from collections.abc import Iterator

import pytest

from atlas12288._files import CHANGED, FileError
from atlas12288._subtree import BLOCK_BYTES
from atlas12288.manifest._entries import DIGESTS
from atlas12288.manifest._hashing.engine import hash_files
from atlas12288.manifest._hashing.file_hash import Checkpoint, Digests
from atlas12288.manifest._sources import http_storage
from atlas12288.manifest._sources.remote import RemoteFolder
from support.servers import Web, serving
from support.strategies import noise
from test_manifest_remote import FILES, digests, error, listed


@pytest.fixture
def web() -> Iterator[Web]:
    with serving({f"/data/{name}": data for name, data in FILES.items()}) as server:
        yield server


@pytest.mark.parametrize("threads", [1, 4])
def test_the_links_of_pages_are_the_files(web: Web, threads: int) -> None:
    found = digests(RemoteFolder(f"{web.url}/data/"), threads)
    with serving({f"/{name}": data for name, data in FILES.items()}) as other:
        assert digests(RemoteFolder(f"{other.url}/"), 1) == found
    assert set(found) == set(FILES)


def test_a_file_is_listed_alone(web: Web) -> None:
    founds, problems = listed(RemoteFolder(f"{web.url}/data/deep/large"))
    assert (set(founds), problems) == ({"large"}, {})
    assert set(digests(RemoteFolder(f"{web.url}/data/with%20space%3F%23%2541%C3%A9"))) == {
        "with space?#%41é"
    }


def test_files_are_read_in_ranges_at_once(web: Web) -> None:
    web.files = {"/data/large": noise(12 * BLOCK_BYTES)}
    source = RemoteFolder(f"{web.url}/data/large")
    web.delay = 0.05
    web.most = 0
    digests(source, threads=8)
    assert web.requests["GET", "/data/large"] == 12
    assert 4 <= web.most <= 8


@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_of_a_server_that_gives_no_parts_is_one_stream(web: Web, threads: int) -> None:
    expected = digests(RemoteFolder(f"{web.url}/data/"))
    web.ranges = False
    web.requests.clear()
    assert digests(RemoteFolder(f"{web.url}/data/"), threads) == expected
    assert web.requests["GET", "/data/deep/large"] == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "Permission denied"),
        (404, "No such file or directory"),
        (500, "500, message='Internal Server Error'"),
    ],
)
def test_what_the_server_refuses_is_an_error(web: Web, status: int, reason: str) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    founds, _ = listed(source)
    web.status["/data/a.bin"] = status
    assert error(source, founds["a.bin"]).startswith(reason)
    with pytest.raises(FileError, match=f"^{reason}"):
        RemoteFolder(f"{web.url}/data/a.bin")
    web.status["/data/"] = status
    with pytest.raises(FileError, match=f"^{reason}"):
        listed(source)


def test_what_changes_is_an_error(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    founds, _ = listed(source)
    web.files["/data/a.bin"] = bytes(100)
    web.files["/data/deep/large"] = b"short"
    assert error(source, founds["a.bin"]) == CHANGED
    assert error(source, founds["deep/large"]) == CHANGED


def test_a_server_that_is_gone_is_an_error() -> None:
    with serving({"/a": b"x"}) as server:
        url = server.url
        source = RemoteFolder(f"{url}/")
        found = listed(source)[0]["a"]
    assert "Connect call failed" in error(source, found)
    for name in ("", "/", "/a"):
        with pytest.raises(FileError, match="Connect call failed"):
            listed(RemoteFolder(url + name))


def test_of_what_is_sent_no_more_is_taken_than_was_asked_for(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    founds, _ = listed(source)
    for name in ("a.bin", "empty", "deep/large"):
        web.sent = 0
        web.more[f"/data/{name}"] = iter([bytes(1 << 20)] * 1500)
        assert error(source, founds[name]).startswith(CHANGED)
        # What is on its way when the connection is closed: buffers of both sides.
        assert web.sent < 100 << 20


def test_what_is_packed_is_not_unpacked(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    founds, _ = listed(source)

    def pack(method: str, _: str) -> None:
        web.headers = {"Content-Encoding": "gzip"} if method == "GET" else {}

    web.before = pack
    reason = "is sent in the encoding 'gzip', which was not asked for"
    for name in ("a.bin", "empty", "deep/large"):
        assert error(source, founds[name]) == reason
    with pytest.raises(FileError, match=f"^{reason}$"):
        source.read_small(b"a.bin")
    with pytest.raises(FileError, match=f"^{reason}$"):
        listed(source)


def test_a_page_without_end_is_an_error(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_storage, "PAGE_MOST_BYTES", 1 << 20)
    web.more["/data/"] = iter([b'<a href="x">x</a>' * 1000] * 100_000)
    with pytest.raises(FileError, match=r"^has a page of more than 1,048,576 bytes$"):
        listed(RemoteFolder(f"{web.url}/data/"))


def test_a_redirection_to_another_server_is_not_followed(web: Web) -> None:
    with serving({"/secret": b"x" * 100}) as other:
        source = RemoteFolder(f"{web.url}/data/")
        founds, _ = listed(source)
        web.redirects["/data/a.bin"] = f"{other.url}/secret"
        reason = f"is redirected to '{other.url}/secret', another server, which is not followed"
        assert error(source, founds["a.bin"]).startswith(reason)
        assert listed(source)[1]["a.bin"].startswith(reason)
        with pytest.raises(FileError, match="another server"):
            RemoteFolder(f"{web.url}/data/a.bin")
        web.redirects["/data/"] = other.url
        with pytest.raises(FileError, match="another server"):
            listed(source)
        web.redirects["/data/.atlasignore"] = f"//127.0.0.1:{other.server_address[1]}/secret"
        with pytest.raises(FileError, match="another server"):
            source.read_small(b".atlasignore")
        assert other.requests == {}
        web.redirects["/data/a.bin"] = "/data/a.bin"
        web.requests.clear()
        assert error(source, founds["a.bin"]) != ""
        assert web.requests.total() < 50


def test_a_redirection_to_the_same_server_is_followed(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    expected = digests(source)
    web.files["/elsewhere/large"] = web.files.pop("/data/deep/large")
    web.redirects["/data/deep/large"] = "../../elsewhere/large"
    web.files["/data/deep/x"] = b""
    found = digests(RemoteFolder(f"{web.url}/data/deep/large"))
    assert found["large"] == expected["deep/large"]


def test_a_page_that_is_there_for_each_name_is_no_file_of_rules(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    assert source.read_small(b".atlasignore") is None
    web.files["/data/.atlasignore"] = b"*.bin\n"
    assert source.read_small(b".atlasignore") == b"*.bin\n"
    web.headers = {"Content-Type": "Text/HTML; charset=utf-8"}
    assert source.read_small(b".atlasignore") is None


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_a_file_without_a_strong_etag_is_one_stream(
    web: Web, threads: int, etag: str | None
) -> None:
    expected = digests(RemoteFolder(f"{web.url}/data/"))
    web.headers = {"ETag": etag}
    web.requests.clear()
    assert digests(RemoteFolder(f"{web.url}/data/"), threads) == expected
    assert web.requests["GET", "/data/deep/large"] == 1


@pytest.mark.parametrize("etag", [True, False])
def test_a_content_that_comes_back_makes_no_mixture(web: Web, etag: bool) -> None:
    """Two servers behind one name, which answer in turn, and have another version each."""
    first = noise(4 * BLOCK_BYTES)
    both = [first, first[::-1]]
    web.files = {"/data/big": first}
    if not etag:
        web.headers = {"ETag": None}
    source = RemoteFolder(f"{web.url}/data/")
    found = listed(source)[0]["big"]

    def swap(method: str, _: str) -> None:
        if method == "GET":
            both.reverse()
            web.files["/data/big"] = both[0]
        else:  # a look at it finds the first one
            web.files["/data/big"] = first

    web.before = swap
    for threads in (1, 4):
        ((_, result),) = hash_files(source, [found], DIGESTS, threads=threads)
        if etag:
            assert isinstance(result, FileError)
        else:
            assert isinstance(result, Digests)
            whole = {hashlib.sha256(data).digest() for data in both}
            assert result.sha256 in whole


def test_a_stream_goes_on_where_it_was_left(web: Web) -> None:
    web.headers = {"ETag": None}
    source = RemoteFolder(f"{web.url}/data/")
    found = listed(source)[0]["deep/large"]
    kept: list[tuple[Checkpoint, bytes]] = []
    ((_, expected),) = hash_files(
        source, [found], DIGESTS, progress=lambda _, *some: kept.append(some)
    )
    checkpoint, root = kept[0]
    for ranges in (True, False):
        web.ranges = ranges
        ((_, result),) = hash_files(source, [found], DIGESTS, resume=lambda _: (checkpoint, [root]))
        assert result == expected


def test_a_body_that_breaks_off_is_an_error(web: Web) -> None:
    source = RemoteFolder(f"{web.url}/data/")
    founds, _ = listed(source)
    web.headers = {"Content-Length": "1000", "Connection": "close"}
    assert "a.bin" in founds
    assert error(source, founds["a.bin"]) != ""


def test_links_are_taken_from_a_hostile_page_in_time() -> None:
    for page in (
        "<a " * 10**6,
        '<a href="' * 10**6,
        "<a " + " " * 10**6,
        "<a href =" + " " * 10**6,
    ):
        assert len(http_storage._links(page, "http://x/y/", bare=True)) <= 1
    page = (
        "<A class=x HREF='a&amp;b'>1</A><a href=sub/>2</a><a href=\"/y/c\">3</a>"
        '<a href="http://x/y/d">4</a><a href="../up">5</a><a href="http://other/y/e">6</a>'
        '<a href="https://x/y/f">7</a><a href="http://[">8</a><a href="javascript:x()">9</a>'
    )
    assert http_storage._links(page, "http://x/y/", bare=False) == {
        f"http://x/y/{name}" for name in ("a&b", "sub/", "c", "d", "f")
    }
