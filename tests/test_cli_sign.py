# SPDX-License-Identifier: Apache-2.0
"""Signatures on the command line: `sign`, and `verify` of what it wrote."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.commandline import (
    COULD_NOT_CHECK,
    DOES_NOT_HOLD,
    HOLDS,
    INTERRUPTED,
    PROGRAM,
    TIMEOUT_S,
    run,
    run_each,
    start,
)
from support.signing import (
    FILES,
    certificate,
    certificate_pem,
    make_folder,
    payload_of,
    private_key,
    private_pem,
    public_pem,
    resigned,
)

KEY = private_key()
ROOT = private_key("P-384", 7)
HINT = "signed with the key "
SIZE = sum(map(len, FILES.values()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the folder `data`, its manifest and a pair of keys."""
    monkeypatch.chdir(tmp_path)
    make_folder(Path("data"))
    Path("key.pem").write_bytes(private_pem(KEY))
    Path("key.pub").write_bytes(public_pem(KEY))
    done = run("witness", "data", "-o", "data.atlas.json")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    return tmp_path


def sign(*arguments: str, signed: str = "data.atlas.json", output: str = "data.sig") -> str:
    done = run("sign", signed, "--private-key", "key.pem", "-o", output, *arguments)
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    return done.stdout.decode()


def verify(*arguments: str, key: str = "key.pub") -> tuple[int, list[str], str]:
    done = run("verify", "data.sig", *arguments, "--public-key", key)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("method", [(), ("--method", "shards")], ids=["files", "shards"])
def test_moves_parts_and_a_wrong_root_are_as_of_manifests(method: tuple[str, ...]) -> None:
    sign(*method, signed="data" if method else "data.atlas.json")
    Path("empty").mkdir()
    code, lines, error = verify("empty")
    assert (code, len(lines)) == (COULD_NOT_CHECK, 1)
    assert error.endswith("paths is in empty: is that the folder that was witnessed?\n")
    code, lines, error = verify("nowhere")
    assert (code, len(lines), error) == (
        COULD_NOT_CHECK,
        0,
        "atlas12288: nowhere: No such file or directory\n",
    )
    (Path("data") / "sub").mkdir(exist_ok=True)
    files = [path for path in Path("data").iterdir() if path.is_file() and path.stat().st_size]
    name = min(files).name
    Path("data", name).rename(Path("data", "sub", "there"))
    code, lines, _ = verify("data")
    assert (code, lines[1]) == (DOES_NOT_HOLD, f"{name}: moved to sub/there")
    assert "0 missing, 0 added, 1 moved" in lines[-1]
    code, lines, _ = verify("data", "--path", max(files).name)
    assert (code, "the part matches what was signed; 1 of " in lines[-1]) == (HOLDS, True)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("method", [(), ("--method", "shards")], ids=["files", "shards"])
def test_a_signature_takes_a_rate_and_passes(
    method: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    sign(*method, signed="data" if method else "data.atlas.json")
    code, lines, _ = verify("--rate", "1TB/s")
    assert code == HOLDS
    assert "matches what was signed" in lines[-1]
    code, lines, errors = verify("--every", "1d", "--once", "--rate", "1TB/s")
    assert (code, errors) == (HOLDS, "")
    assert f"data: matches what was signed; {len(FILES)} files: 0 changed" in lines[-1]
    # A pass that was interrupted reads nothing that it had read, empty files included.
    (state,) = Path("state/atlas12288").glob("*.rotation")
    kept = json.loads(state.read_text())
    last = max(map(os.fsencode, FILES)).hex()
    state.write_text(json.dumps(kept | {"ended": None, "done": last}))
    code, lines, _ = verify("--every", "1d", "--once", "--json")
    counts = json.loads(lines[-1])["counts"]
    assert (code, counts["files"], counts["bytes"]) == (HOLDS, len(FILES), 0)


@pytest.mark.usefixtures("place")
def test_the_last_line_says_what_was_signed_and_that_no_file_was_read() -> None:
    Path("data").rename("moved")
    line = "data.sig: 6 digests of the manifest data.atlas.json signed; no file was read\n"
    assert sign() == line
    Path("moved").rename("data")
    code, lines, errors = verify()
    assert (code, errors) == (HOLDS, "")
    assert lines[0].startswith(f"data.sig: {HINT}")
    assert lines[0].endswith(": signature holds")
    assert lines[1].startswith("data: matches what was signed; 6 files, ")


@pytest.mark.usefixtures("place")
def test_with_verify_the_folder_is_read_first_and_must_match() -> None:
    lines = sign("--verify", "data").splitlines()
    assert lines[0].startswith("data: matches its manifest; 6 files")
    assert lines[1].endswith("signed; all files in data match")
    before = Path("data.sig").read_bytes()
    Path("data/new").touch()
    arguments = ("sign", "data.atlas.json", "--private-key", "key.pem", "-o", "data.sig")
    done = run(*arguments, "--verify", "data")
    assert done.returncode == DOES_NOT_HOLD
    *_, last = done.stdout.decode().splitlines()
    assert done.stdout.decode().startswith("new: added\n")
    assert last == "data.sig: not signed"
    assert Path("data.sig").read_bytes() == before
    Path("data/new").unlink()
    os.mkfifo("data/fifo")
    done = run(*arguments, "--verify", "data")
    assert done.returncode == COULD_NOT_CHECK
    assert b"not signed, because data could not be read as a whole" in done.stderr
    assert Path("data.sig").read_bytes() == before
    Path("empty").mkdir()
    for root, reason in (
        ("nowhere", "nowhere: No such file or directory"),
        ("empty", "data.atlas.json: none of its 6 paths is in empty: "),
    ):
        done = run(*arguments, "--verify", root)
        assert done.returncode == COULD_NOT_CHECK
        assert done.stderr.decode().startswith(f"atlas12288: {reason}")


@pytest.mark.usefixtures("place")
def test_a_folder_is_read_and_signed_in_shards() -> None:
    line = sign("--method", "shards", "--shard-size", "1000", signed="data")
    assert line == "data.sig: 5 files, 77.9 kB read and signed, in 81 shards\n"
    assert verify()[0] == HOLDS
    line = sign("--hash", "blake2b", signed="data")
    assert line == "data.sig: 6 files, 77.9 kB read and signed\n"
    assert verify("data")[0] == HOLDS
    sign("--method", "shards", "--for-model-signing", signed="data")
    (name,) = {
        each["algorithm"]
        for each in payload_of(Path("data.sig").read_text())["predicate"]["resources"]
    }
    assert name == "sha256-sharded-1000000000"
    assert verify("data")[0] == HOLDS


@pytest.mark.usefixtures("place")
def test_what_differs_is_named_as_for_a_manifest() -> None:
    sign()
    Path("data/config.json").unlink()
    Path("data/new").touch()
    Path("data/a.b").write_bytes(b"changed")
    code, lines, errors = verify("data")
    assert (code, errors) == (DOES_NOT_HOLD, "")
    assert lines[1:] == [
        "a.b: changed, differs in sha256",
        "config.json: missing",
        "new: added",
        "data: does not match what was signed; 6 files, 76.9 kB: "
        "1 changed, 1 missing, 1 added, 0 unreadable",
    ]
    code, lines, _ = verify("data", "--quiet", "--fail-fast")
    assert code == DOES_NOT_HOLD
    assert len(lines) == 1
    Path("data/a.b").write_bytes(FILES["a.b"])
    Path("data/config.json").write_bytes(FILES["config.json"])
    assert verify("data", "--allow-extra")[0] == HOLDS
    assert verify("data", "--ignore", "new")[0] == HOLDS


@pytest.mark.usefixtures("place")
def test_a_signature_that_does_not_hold_is_said_before_any_file_is_read() -> None:
    sign()
    Path("other.pub").write_bytes(public_pem(private_key("P-256", 1)))
    code, lines, errors = verify("no such folder", key="other.pub")
    assert (code, errors) == (DOES_NOT_HOLD, "")
    assert len(lines) == 1
    assert lines[0].startswith("data.sig: signature does not hold: is signed with another key")
    done = run("verify", "--json", "data.sig", "data", "--public-key", "other.pub")
    report = json.loads(done.stdout)
    assert done.returncode == DOES_NOT_HOLD
    assert (report["type"], report["holds"]) == ("atlas12288/report/v1", False)
    assert report["signature"]["holds"] is False
    assert "another key" in report["signature"]["reason"]
    assert report["counts"] is None
    assert report["error"] is None


@pytest.mark.usefixtures("place")
def test_the_report_has_the_keys_of_a_manifest_and_the_signature() -> None:
    sign()
    of_manifest = json.loads(run("verify", "--json", "data.atlas.json").stdout)
    done = run("verify", "--json", "data.sig", "data", "--public-key", "key.pub")
    report = json.loads(done.stdout)
    assert (done.returncode, report["holds"], report["manifest"]) == (HOLDS, True, "data.sig")
    signature = report.pop("signature")
    assert signature["holds"] is True
    assert len(signature["hint"]) == 64
    assert report.keys() == of_manifest.keys()
    assert report["counts"] == of_manifest["counts"]
    done = run("sign", "--json", "data", "--private-key", "key.pem", "-o", "data.sig")
    assert json.loads(done.stdout) == {
        "type": "atlas12288/report/v1",
        "command": "sign",
        "holds": None,
        "error": None,
        "output": "data.sig",
        "signed": "data",
        "form": "files",
        "method": "files",
        "algorithm": "sha256",
        "files": 6,
        "bytes_read": SIZE,
    }


@pytest.mark.usefixtures("place")
def test_the_manifest_itself_can_be_signed() -> None:
    assert sign("--form", "manifest") == (
        "data.sig: the manifest data.atlas.json signed; no file was read\n"
    )
    bundle = Path("data.sig").read_text()
    assert payload_of(bundle) == json.loads(Path("data.atlas.json").read_bytes())
    assert verify("data")[0] == HOLDS
    Path("data/new").touch()
    assert verify("data")[0] == DOES_NOT_HOLD
    code, _, errors = verify("data", "--ignore", "new")
    assert code == COULD_NOT_CHECK
    assert "a manifest is signed, with its own rules" in errors


@pytest.mark.usefixtures("place")
def test_certificates_are_signed_with_and_verified_under_a_root() -> None:
    Path("root.pem").write_bytes(certificate_pem(certificate("root", ROOT, authority=True)))
    leaf = certificate("signer", KEY, ("root", ROOT))
    Path("leaf.pem").write_bytes(certificate_pem(leaf))
    Path("expired.pem").write_bytes(
        certificate_pem(certificate("signer", KEY, ("root", ROOT), days=(-9, -1)))
    )
    sign("--certificate", "leaf.pem", "--chain", "root.pem")
    done = run("verify", "data.sig", "data", "--certificate-root", "root.pem")
    assert (done.returncode, done.stderr) == (HOLDS, b"")
    assert done.stdout.startswith(b"data.sig: signed by CN=signer: signature holds\n")
    sign("--certificate", "expired.pem")
    done = run("verify", "data.sig", "data", "--certificate-root", "root.pem")
    assert done.returncode == DOES_NOT_HOLD
    assert b"signature does not hold: the certificate of 'CN=signer' is valid from" in done.stdout
    a_time = leaf.not_valid_before_utc.replace(microsecond=0).isoformat()
    done = run("verify", "data.sig", "data", "--certificate-root", "root.pem", "--at", a_time)
    assert done.returncode == DOES_NOT_HOLD  # before the expired one, too
    done = run("verify", "data.sig", "data", "--certificate-root", "root.pem", "--at", "yesterday")
    assert done.returncode == COULD_NOT_CHECK
    done = run("verify", "data.sig", "data", "--certificate-root", "key.pem")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == (
        b"atlas12288: data.sig: key.pem: has no certificate in PEM, or one that is not valid\n"
    )


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("signed", ["data.atlas.json", "data"])
def test_a_certificate_that_does_not_fit_is_named(signed: str) -> None:
    Path("other.pem").write_bytes(certificate_pem(certificate("other", ROOT)))
    command = ("sign", signed, "--private-key", "key.pem", "-o", "data.sig")
    done = run(*command, "--certificate", "other.pem", "--json")
    reason = "other.pem: the certificate of 'CN=other' is of another key"
    assert (done.returncode, done.stderr.decode()) == (COULD_NOT_CHECK, f"atlas12288: {reason}\n")
    assert json.loads(done.stdout)["error"] == reason
    assert not Path("data.sig").exists()


@pytest.mark.usefixtures("place")
def test_the_signature_in_the_folder_and_the_manifest_beside_it_are_left_out() -> None:
    run("witness", "data", "-o", "data/all.atlas.json")
    sign(signed="data/all.atlas.json", output="data/all.sig")
    chosen = payload_of(Path("data/all.sig").read_text())["predicate"]["serialization"]
    assert chosen["ignore_paths"][4:] == ["all.atlas.json", "all.sig"]
    done = run("verify", "data/all.sig", "data", "--public-key", "key.pub")
    assert done.returncode == HOLDS
    assert done.stdout.endswith(b"; 2 paths left out by the signer\n")
    # It is signed again, although it is there.
    run("witness", "data", "-o", "data/all.atlas.json")
    done = run(*("sign", "data/all.atlas.json", "--private-key", "key.pem", "-o", "data/all.sig"))
    assert done.returncode == COULD_NOT_CHECK
    assert b"has 'all.sig', which is to be left out" in done.stderr


@pytest.mark.usefixtures("place")
def test_only_a_signature_over_a_folder_is_replaced() -> None:
    sign()
    other = json.loads(Path("data.sig").read_text())
    texts = [
        b"notes",
        b"{}",
        b'{"mediaType":"x"}',
        json.dumps(other).replace(other["dsseEnvelope"]["payload"], "e30=").encode(),
    ]
    for text in texts:
        Path("out").write_bytes(text)
        done = run("sign", "data", "--private-key", "key.pem", "-o", "out")
        assert done.returncode == COULD_NOT_CHECK
        assert b"-o out: is not a signature over a folder, and is not replaced" in done.stderr
        assert Path("out").read_bytes() == text
    for name in ("key.pem", "data.atlas.json"):
        done = run("sign", "data.atlas.json", "--private-key", "key.pem", "-o", name)
        assert done.returncode == COULD_NOT_CHECK
    sign()
    sign("--form", "manifest")
    sign()


@pytest.mark.usefixtures("place")
def test_nothing_is_written_where_something_fails() -> None:
    Path("data/link").symlink_to("empty")
    for signed, reason in (
        ("data", b"has 1 symbolic link, such as 'link'"),
        ("missing", b"missing: No such file or directory"),
    ):
        done = run("sign", signed, "--private-key", "key.pem", "-o", "out.sig")
        assert done.returncode == COULD_NOT_CHECK
        assert reason in done.stderr
        assert not Path("out.sig").exists()
    Path("broken.atlas.json").write_bytes(Path("data.atlas.json").read_bytes()[:-40])
    done = run("sign", "broken.atlas.json", "--private-key", "key.pem", "-o", "out.sig")
    assert (done.returncode, Path("out.sig").exists()) == (COULD_NOT_CHECK, False)


SENSELESS = [
    (("sign", "data", "-o", "x"), "--private-key"),
    (("sign", "data", "--private-key", "key.pem"), "--output"),
    (("sign", "data", "--private-key", "key.pem", "-o", "-"), "-o must name a file"),
    (("sign", "data", "--private-key", "key.pem", "-o", "x", "--form", "files"), "a manifest"),
    (("sign", "data", "--private-key", "key.pem", "-o", "x", "--verify", "y"), "a manifest"),
    (
        ("sign", "data", "--private-key", "key.pem", "-o", "x", "--shard-size", "5"),
        "need --method shards",
    ),
    (
        ("sign", "data", "--private-key", "key.pem", "-o", "x", "--chain", "y"),
        "--chain needs --certificate",
    ),
    (
        ("sign", "x.atlas.json", "--private-key", "key.pem", "-o", "x", "--hash", "blake2b"),
        "--hash is for a folder",
    ),
    (
        ("sign", "x.atlas.json", "--private-key", "key.pem", "-o", "x", "--ignore", "y"),
        "--ignore is for a folder",
    ),
    (("verify", "data.sig", "data"), "one of --public-key, --certificate-root and --identity"),
    (
        ("verify", "data.sig", "data", "--public-key", "a", "--certificate-root", "b"),
        "one of --public-key, --certificate-root and --identity",
    ),
    (
        ("verify", "data.sig", "data", "--public-key", "a", "--at", "2026-01-01"),
        "--at is for certificates",
    ),
    (
        ("verify", "data.sig", "data", "--certificate-root", "a", "--at", "0001-01-01T00:00+14:00"),
        "0001-01-01T00:00+14:00 is not a time such as",
    ),
    (("verify", "data.sig", "a", "b", "--public-key", "a"), "one ROOT is compared, not 2"),
    (
        ("verify", "data.atlas.json", "--public-key", "key.pub"),
        "--public-key is for signatures",
    ),
    (
        ("verify", "data.atlas.json", "--certificate-root", "key.pub"),
        "--certificate-root is for signatures",
    ),
]


@pytest.mark.usefixtures("place")
def test_options_that_make_no_sense_are_refused() -> None:
    sign()
    done = run_each([arguments for arguments, _ in SENSELESS], os.environ)
    for (arguments, words), each in zip(SENSELESS, done, strict=True):
        assert each.returncode == COULD_NOT_CHECK, arguments
        assert words in " ".join(each.stderr.decode().split()), arguments


@pytest.mark.usefixtures("place")
def test_a_key_that_is_not_suitable_gets_the_list_of_those_that_are() -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    Path("wrong.pem").write_bytes(private_pem(ed25519.Ed25519PrivateKey.generate()))
    done = run("sign", "data.atlas.json", "--private-key", "wrong.pem", "-o", "data.sig")
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr.decode() == (
        "atlas12288: wrong.pem: is a key of Ed25519, must be a key of ECDSA on P-256 (secp256r1, "
        "prime256v1), P-384 (secp384r1) or P-521 (secp521r1)\n"
    )
    report = json.loads(
        run(
            *("sign", "--json", "data.atlas.json", "--private-key", "wrong.pem", "-o", "data.sig")
        ).stdout
    )
    assert report["error"].startswith("wrong.pem: is a key of Ed25519")


def _on_terminal(answer: bytes) -> tuple[int, bytes]:
    """Sign with an encrypted key on a terminal; return the exit code and what was printed."""
    child, terminal = pty.fork()
    if child == 0:
        arguments = ("sign", "data.atlas.json", "--private-key", "locked.pem", "-o", "data.sig")
        os.execv(PROGRAM[0], (*PROGRAM, *arguments))
    printed = b""
    asked = False
    while True:
        ready, _, _ = select.select([terminal], [], [], TIMEOUT_S)
        assert ready, printed
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        printed += chunk
        if not asked and b"Passphrase of locked.pem: " in printed:
            asked = True
            os.write(terminal, answer + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


@pytest.mark.usefixtures("place")
def test_an_encrypted_key_asks_for_its_passphrase_at_the_terminal() -> None:
    Path("locked.pem").write_bytes(private_pem(KEY, b"open sesame"))
    code, printed = _on_terminal(b"wrong")
    assert code == COULD_NOT_CHECK
    assert b"locked.pem: cannot be decrypted: is this its passphrase?" in printed
    assert not Path("data.sig").exists()
    code, printed = _on_terminal(b"open sesame")
    assert code == HOLDS
    assert b"sesame" not in printed
    assert verify("data")[0] == HOLDS
    done = subprocess.run(
        (*PROGRAM, "sign", "data", "--private-key", "locked.pem", "-o", "data.sig"),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == COULD_NOT_CHECK
    assert done.stderr == (
        b"atlas12288: locked.pem: is encrypted, and there is no terminal to ask for its "
        b"passphrase\n"
    )


@pytest.mark.usefixtures("place")
def test_forged_and_damaged_signatures_never_end_with_0() -> None:
    sign("--method", "shards", "--shard-size", "100", signed="data")
    text = Path("data.sig").read_text()
    forged = [
        text[:-100],
        text.replace('"sig":"M', '"sig":"N'),
        text.replace('"mediaType"', '"mediaType":1,"mediaType"'),
        '{"mediaType":' * 50_000,
        resigned(text, lambda s: s["predicate"]["resources"].pop(3), KEY),
        resigned(text, lambda s: s["predicate"]["resources"].reverse(), KEY),
        resigned(text, lambda s: s["subject"].append(s["subject"][0]), KEY),
        resigned(
            text, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), KEY, root=False
        ),
        resigned(text, lambda s: s.update(_type="x"), KEY),
        resigned(text, lambda s: None, private_key("P-256", 1)),
    ]
    commands = []
    for number, each in enumerate(forged):
        Path(f"{number}.sig").write_text(each)
        commands.append(("verify", f"{number}.sig", "data", "--public-key", "key.pub"))
    for each, done in zip(forged, run_each(commands, os.environ), strict=True):
        assert done.returncode in (DOES_NOT_HOLD, COULD_NOT_CHECK), each[:200]
        assert b"matches" not in done.stdout
        assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("place")
def test_links_are_followed_below_named_folders_alone() -> None:
    Path("blobs").mkdir()
    Path("blobs/blob").write_bytes(b"outside")
    Path("data/link").symlink_to("../blobs/blob")
    sign("--symlinks", "follow", "--links-below", "blobs", signed="data")
    assert verify("data", "--links-below", "blobs")[0] == HOLDS
    code, _, errors = verify("data")
    assert code == COULD_NOT_CHECK
    assert "out of the folder" in errors


# --- again and again ---


def test_a_signature_is_verified_in_rotation(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    sign()
    code, lines, errors = verify("data", "--every", "0.001s", "--once")
    assert (code, errors) == (HOLDS, "")
    assert lines[0].startswith(f"data.sig: {HINT}")
    assert lines[0].endswith(": signature holds")
    assert lines[1] == "data.sig: compared with data every 0.001s"
    assert lines[2].startswith(f"data: matches what was signed; {len(FILES)} files: 0 changed")
    name = next(name for name, content in FILES.items() if content)
    Path("data", name).write_bytes(b"another")
    code, lines, _ = verify("data", "--every", "0.001s", "--once")
    assert (code, lines[2].startswith(f"{name}: changed")) == (DOES_NOT_HOLD, True)
    code, lines, _ = verify("--every", "0.001s", "--once", "--json")
    (whole,) = map(json.loads, lines)
    assert (code, whole["event"], whole["differences"]) == (DOES_NOT_HOLD, "pass", None)
    assert (whole["counts"]["changed"], whole["signature"]["holds"]) == (1, True)


def test_a_signature_that_does_not_hold_begins_no_rotation(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    sign()
    Path("other.pub").write_bytes(public_pem(private_key("P-256", 1)))
    for more in ((), ("--once",)):
        code, lines, _ = verify("data", "--every", "1d", *more, key="other.pub")
        assert (code, len(lines)) == (DOES_NOT_HOLD, 1)
        assert "signature does not hold" in lines[0]
    assert not Path("state").exists()


def test_a_signature_that_no_longer_holds_is_said_once_and_compared_with_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    sign()
    Path("other.pem").write_bytes(private_pem(private_key("P-256", 1)))
    sign("--private-key", "other.pem", output="other.sig")
    Path("data.sig").rename("first.sig")
    os.link("first.sig", "data.sig")
    arguments = ("verify", "data.sig", "data", "--public-key", "key.pub", "--every", "0.05s")
    with start(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"matches what was signed" not in process.stdout.readline():
            assert process.poll() is None
        Path("other.sig").rename("data.sig")
        assert b"data.sig: is signed with another key" in process.stderr.readline()
        time.sleep(0.3)  # several passes; a second line would only be missed, never invented
        Path("first.sig").rename("data.sig")
        Path("data/added").write_bytes(b"1")
        while b"added: added" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == INTERRUPTED
        assert process.stderr.read() == b"\n"  # of Ctrl-C
