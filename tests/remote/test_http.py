# SPDX-License-Identifier: Apache-2.0
"""A web server as the source of a manifest."""

from collections.abc import Iterator

import pytest
from servers import Web, serving

from atlas12288._subtree import BLOCK_BYTES
from atlas12288.files import CHANGED, FileError
from atlas12288.manifest.remote import RemoteFolder
from strategies import noise
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
