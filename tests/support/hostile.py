# SPDX-License-Identifier: Apache-2.0
"""Folders as a stranger may hand them over, at random, and what must hold whatever is in them.

    python tests/support/hostile.py FIRST COUNT

makes the folders of the seeds FIRST, FIRST + 1, ... one after another, runs commands in each as
somebody would who was given it, and ends with 1 and the seed where a promise is broken:

- nothing outside of the folder is changed, made, or read into a manifest;
- in the folder nothing is replaced but an output of ours, by an output of ours;
- every digest in a manifest is that of the bytes, and what "matches" has nothing beside it;
- no command runs longer, or takes more memory, than its bound; none ends with a traceback.

Beside `evil`, the folder that was handed over and in which the commands run, lies `outside`, which
is the victim's.
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from atlas12288 import WINDOW_BYTES, TreeWitness
from atlas12288._cli import main

SECONDS_MOST: Final = 60
MEMORY_MOST: Final = 2 << 30  # of addresses: stacks of threads count whole
MANIFESTS: Final = ("data.atlas.json", "data/inside.atlas.json")
_TEXT: Final = b"the only copy of a text that is no output of any command\n"
_HASHED_MOST: Final = 1 << 20  # bytes of a file that a snapshot looks at


class World:
    """A folder of a stranger, and what is around it.

    Attributes:
        base: holds all of it.
        evil: what was handed over; the current folder of the commands.
        outside: the victim's, never to be touched.
        rng: decides everything.
        replaceable: files of `evil` that are outputs of ours.
    """

    def __init__(self, base: Path, seed: int) -> None:
        self.base = base
        self.rng = Random(seed)
        self.evil = base / "evil"
        self.data = self.evil / "data"
        self.outside = base / "outside"
        self.replaceable: set[Path] = set()
        for folder in (self.data, self.outside / "deep", base / "home", base / "tmp"):
            folder.mkdir(parents=True)
        self.secrets = {
            "secret-shadow.txt": self.rng.randbytes(100),
            "secret-key.bin": self.rng.randbytes(64),  # as long as two leaves
            "deep/secret-thesis": self.rng.randbytes(5000),
        }
        for name, content in self.secrets.items():
            (self.outside / name).write_bytes(content)
        (self.outside / "empty").touch()
        (self.data / "plain").write_bytes(self.rng.randbytes(100))

    def name(self, *names: str) -> str:
        return self.rng.choice(names)

    def place(self) -> Path:
        """A new name in a folder of the data, at random."""
        folders = [path for path in self.data.rglob("*") if _is_folder(path)]
        folder = self.rng.choice([self.data, *folders[:20]])
        return folder / f"{self.name('a', 'b', 'lib', 'setup', 'x')}{self.rng.randrange(10**6)}"

    def victim(self) -> Path:
        """Something of the victim's, or a name at which nothing is yet."""
        names = [*self.secrets, "empty", "deep", "new-file", "."]
        return self.outside / self.rng.choice(names)

    def link(self, at: Path) -> None:
        """A link out of the folder, relative or not."""
        victim = self.victim()
        at.symlink_to(self.rng.choice([victim, os.path.relpath(victim, at.parent)]))


KINDS: Final[dict[str, Callable[[World], None]]] = {}


def kind(make: Callable[[World], None]) -> Callable[[World], None]:
    KINDS[make.__name__] = make
    return make


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


# --- Files


@kind
def a_file(world: World) -> None:
    world.place().write_bytes(world.rng.randbytes(world.rng.randrange(200)))


@kind
def an_empty_file(world: World) -> None:
    world.place().touch()


@kind
def a_file_of_many_windows(world: World) -> None:
    size = world.rng.choice([1, 20, 300]) * WINDOW_BYTES + world.rng.randrange(-1, 2)
    world.place().write_bytes(world.rng.randbytes(size))


@kind
def a_sparse_file(world: World) -> None:
    with world.place().open("wb") as file:
        file.truncate(50_000_000)


@kind
def a_file_that_may_not_be_read(world: World) -> None:
    path = world.place()
    path.write_bytes(b"read me not")
    path.chmod(world.rng.choice([0, 0o4777, 0o200]))


@kind
def hard_links(world: World) -> None:
    os.link(world.data / "plain", world.place())


@kind
def a_hard_link_of_an_output(world: World) -> None:
    path = world.evil / "data.atlas.json"
    if path.is_file() and not path.is_symlink():
        os.link(path, world.place())


# --- Names


@kind
def names_of_any_bytes(world: World) -> None:
    names = (
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[31mred",
        b"cr\r",
        b"back\\slash",
        "\u202egnp".encode(),
    )
    path = os.path.join(os.fsencode(world.data), world.rng.choice(names))
    with open(path, "wb") as file:
        file.write(b"odd name")


@kind
def names_that_look_the_same(world: World) -> None:
    (world.data / "caf\u00e9").write_bytes(b"one")
    (world.data / "cafe\u0301").write_bytes(b"two")


@kind
def names_like_options(world: World) -> None:
    (world.data / world.name("-", "--help", "-o", "--", "*", "~", "$HOME")).write_bytes(b"x")


@kind
def a_long_name(world: World) -> None:
    (world.data / ("n" * 255)).write_bytes(b"long")


@kind
def deep_folders(world: World) -> None:
    path = world.place() / "/".join("d" * world.rng.choice([10, 300]))
    path.mkdir(parents=True)
    (path / "bottom").write_bytes(b"deep")


@kind
def an_empty_folder(world: World) -> None:
    world.place().mkdir()


@kind
def a_folder(world: World) -> None:
    path = world.place()
    path.mkdir()
    (path / "inside").write_bytes(world.rng.randbytes(10))


@kind
def names_of_python_modules(world: World) -> None:
    for name in ("click.py", "sqlite3.py", "pathspec.py", "json.py", "sitecustomize.py"):
        (world.evil / name).write_text("raise SystemExit('code of the folder was run')\n")


# --- Links, devices


@kind
def a_link_out_of_the_folder(world: World) -> None:
    world.link(world.place())


@kind
def a_link_to_the_system(world: World) -> None:
    world.place().symlink_to(world.name("/etc/passwd", "/proc/self/environ", "/dev/zero", "/"))


@kind
def a_link_to_nothing(world: World) -> None:
    world.place().symlink_to(world.name("nothing", "/no/such/thing", "plain/x"))


@kind
def a_link_to_itself(world: World) -> None:
    path = world.place()
    path.symlink_to(path.name)


@kind
def a_link_to_a_folder_around(world: World) -> None:
    world.place().symlink_to(world.name(".", "..", "../..", "../data"))


@kind
def a_link_within(world: World) -> None:
    world.place().symlink_to(world.data / "plain")


@kind
def a_chain_of_links(world: World) -> None:
    target: Path = world.outside / "secret-shadow.txt"
    for _ in range(world.rng.choice([3, 60])):
        path = world.place()
        path.symlink_to(target)
        target = path


@kind
def a_link_through_a_link(world: World) -> None:
    path = world.place()
    path.symlink_to(world.outside)
    world.place().symlink_to(path / "deep" / "secret-thesis")


@kind
def a_fifo(world: World) -> None:
    os.mkfifo(world.place())


@kind
def a_socket(world: World) -> None:
    # A path that is longer than a socket's may be is reached from its folder.
    place = world.place()
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(place.parent)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name)
    finally:
        os.chdir(before)
        os.close(before)


@kind
def a_device(world: World) -> None:
    try:
        os.mknod(world.place(), stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        a_fifo(world)


# --- Rules


def _ignore(world: World, content: bytes) -> None:
    path = world.data / ".atlasignore"
    if not os.path.lexists(path):
        path.write_bytes(content)


@kind
def rules_that_hide(world: World) -> None:
    _ignore(world, world.rng.choice([b"*\n", b"plain\n", b"/*\n!plain\n", b"*.py\n.atlasignore\n"]))


@kind
def rules_that_never_end(world: World) -> None:
    star = world.rng.choice([rb"*\a", b"*a", b"**/a", b"?*", b"[a-]*"])
    _ignore(world, star * world.rng.choice([4, 13, 200]) + b"b\n")
    (world.data / ("a" * 200)).write_bytes(b"a name for them")


@kind
def many_rules(world: World) -> None:
    _ignore(world, b"".join(b"*a%d*b\n" % number for number in range(2000)))


@kind
def rules_that_are_no_text(world: World) -> None:
    _ignore(
        world, world.rng.choice([b"\xff\xfe\n", b"[\n", b"\\\n", b"!\n", b"\0\n", b"[[:x:]]\n"])
    )


@kind
def rules_without_end(world: World) -> None:
    path = world.data / ".atlasignore"
    if not os.path.lexists(path):
        with path.open("wb") as file:
            file.truncate(3_000_000_000)


@kind
def rules_that_are_no_file(world: World) -> None:
    path = world.data / ".atlasignore"
    if os.path.lexists(path):
        return
    match world.rng.randrange(3):
        case 0:
            world.link(path)
        case 1:
            path.mkdir()
        case _:
            os.mkfifo(path)


# --- What lies at the names of outputs


def _output(world: World) -> Path:
    return world.evil / world.rng.choice(MANIFESTS)


def _beside(world: World, *suffixes: str) -> Path:
    output = world.rng.choice(["data.atlas", "data/inside.atlas"])
    return world.evil / f"{output}{world.rng.choice(suffixes)}"


@kind
def an_output_that_is_a_link(world: World) -> None:
    path = _output(world)
    if not os.path.lexists(path):
        world.link(path)


@kind
def an_output_that_is_a_text(world: World) -> None:
    path = _output(world)
    if not os.path.lexists(path):
        path.write_bytes(_TEXT)


@kind
def an_output_that_is_no_file(world: World) -> None:
    path = _output(world)
    if not os.path.lexists(path):
        path.mkdir() if world.rng.random() < 0.5 else os.mkfifo(path)


@kind
def an_output_of_a_stranger(world: World) -> None:
    """A manifest that says what its maker liked."""
    path = _output(world)
    if os.path.lexists(path):
        return
    run(world, "witness", "--tree", "data", "-o", "made.atlas.json", check=False)
    made = world.evil / "made.atlas.json"
    if not made.is_file():
        return
    text = made.read_bytes()
    match world.rng.randrange(6):
        case 0:
            text = text.replace(b'"path":"plain"', b'"path":"../../outside/secret-shadow.txt"')
        case 1:
            text = b'{"_type":' + b"[" * 100_000
        case 2:
            key = b'"k%d":1,'
            text = b'{"_type":1,' + b"".join(key % (at // 2) for at in range(20_000)) + b'"z":1}'
        case 3:
            text = text.replace(b'"exclude":[]', b'"exclude":["*"]')
        case 4:
            text = text.replace(b'"size":', b'"size":' + b"9" * world.rng.choice([3, 5000]))
        case _:
            leaves = world.evil / "made.atlas.leaves"
            beside = path.with_name(path.name.replace(".json", ".leaves"))
            if leaves.is_file() and not os.path.lexists(beside):
                leaves.rename(beside)
                world.replaceable.add(beside)
    path.write_bytes(text)
    world.replaceable.add(path)
    for rest in (made, world.evil / "made.atlas.leaves"):
        rest.unlink(missing_ok=True)


@kind
def leaves_that_are_a_link(world: World) -> None:
    path = _beside(world, ".leaves")
    if not os.path.lexists(path):
        world.link(path)


@kind
def leaves_that_are_something_else(world: World) -> None:
    path = _beside(world, ".leaves")
    if not os.path.lexists(path):
        path.write_bytes(
            world.rng.choice([_TEXT, world.rng.randbytes(64), world.rng.randbytes(320)])
        )


@kind
def leaves_that_are_a_folder(world: World) -> None:
    path = _beside(world, ".leaves")
    if not os.path.lexists(path):
        (path / "hidden").mkdir(parents=True)
        (path / "hidden" / "evil.py").write_bytes(b"import os")


@kind
def a_state_of_a_stranger(world: World) -> None:
    path = _beside(world, ".state")
    if os.path.lexists(path):
        return
    made = world.base / "tmp" / "made"
    base = sqlite3.connect(made)  # in its place SQLite would open a journal of a stranger
    base.executescript(
        "CREATE TABLE run (options TEXT, number INTEGER, finished INTEGER);"
        "INSERT INTO run VALUES (NULL, 0, 0);"
        "CREATE TABLE files (path BLOB PRIMARY KEY, size, identity, target, trusted, number,"
        " residue, sha256, root, checksum, leaf, part_blocks, part_residue, part_flat,"
        " part_checksum) WITHOUT ROWID;"
        "CREATE TRIGGER known AFTER INSERT ON files BEGIN UPDATE files SET residue = 0,"
        f" sha256 = x'{'ab' * 32}' WHERE path = NEW.path; END;"
        "PRAGMA application_id = 1096040531; PRAGMA user_version = 1;"
    )
    base.close()
    made.rename(path)


@kind
def a_state_that_is_a_link(world: World) -> None:
    path = _beside(world, ".state", ".state-wal", ".state-shm", ".state-journal")
    if not os.path.lexists(path):
        world.link(path)


@kind
def a_journal_that_names_a_victim(world: World) -> None:
    path = _beside(world, ".state-journal", ".state-wal")
    if os.path.lexists(path):
        return
    name = os.fsencode(os.path.relpath(world.outside / "secret-shadow.txt", world.evil))
    checksum = sum(name) % 2**32
    magic = bytes.fromhex("d9d505f920a163d7")
    record = name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big") + magic
    header = magic + (0).to_bytes(4, "big") + bytes(4) + (1).to_bytes(4, "big")
    header += (512).to_bytes(4, "big") + (4096).to_bytes(4, "big")
    path.write_bytes(header.ljust(512, b"\0") + (1).to_bytes(4, "big") + record)


@kind
def what_looks_like_a_temporary_file(world: World) -> None:
    folder = world.rng.choice([world.evil, world.data])
    path = folder / f".atlas12288-{world.rng.randbytes(8).hex()}.tmp"
    match world.rng.randrange(4):
        case 0:
            (path / "plugins").mkdir(parents=True)
            (path / "plugins" / "evil.py").write_bytes(b"import os")
        case 1:
            world.link(path)
        case 2:
            os.mkfifo(path)
        case _:
            path.write_bytes(b"hidden?")


@kind
def a_configuration_of_a_library(world: World) -> None:
    (world.evil / "matplotlibrc").write_text("savefig.dpi: 20000\ntext.usetex: True\n")
    (world.evil / "fsspec.json").write_text('{"file": {"auto_mkdir": true}}')


@kind
def a_list_of_sums_of_a_stranger(world: World) -> None:
    path = world.evil / "SHA256SUMS"
    if not os.path.lexists(path):
        digest = hashlib.sha256((world.data / "plain").read_bytes()).hexdigest()
        line = world.rng.choice(
            [
                f"{digest}  data/plain\n",
                f"{digest}  {world.outside}/secret-key.bin\n",
                f"{digest}  /dev/zero\n",
                f"{digest}  {'x' * 100_000}\n",
            ]
        )
        path.write_text(line * world.rng.choice([1, 3]))


# --- Commands


def _commands(world: World) -> Iterator[tuple[str, ...]]:
    """What somebody does who was given the folder."""
    rng = world.rng
    output = rng.choice(MANIFESTS)
    tree = ("--tree",) if rng.random() < 0.5 else ()
    symlinks = rng.choice([(), ("--symlinks", "follow"), ("--symlinks", "error")])
    hidden = rng.choice([(), (), ("--exclude", "*.py")])
    make = ("witness", *tree, *symlinks, *hidden, "data", "-o", output)
    yield ("verify", "--json", output, "data")
    yield make
    yield ("verify", "--json", output, "data")
    if rng.random() < 0.5:
        yield (*make[:1], "--update", *make[1:])
        yield ("verify", "--json", output, "data")
    yield rng.choice(
        [
            ("witness", "--format", "sha256sum", "data", "-o", "SUMS"),
            ("witness", *tree, "data/plain", "-o", "plain.json"),
            ("check-sums", "SHA256SUMS"),
            ("verify", "--plot", "map.png", output, "data"),
            ("verify", "--quiet", "--allow-extra", output, "data"),
        ]
    )


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out
        self.err = err


def run(world: World, *arguments: str, check: bool = True) -> Done:
    """Runs a command in a process of its own, and looks whether it kept what is promised."""
    before = snapshot(world)
    out, err = world.base / "tmp" / "out", world.base / "tmp" / "err"
    child = os.fork()
    if child == 0:
        _be_the_command(world, arguments, out, err)
    deadline = time.monotonic() + SECONDS_MOST
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"{arguments} did not end in {SECONDS_MOST} s")
        time.sleep(0.002)
    done = Done(os.waitstatus_to_exitcode(ended[1]), out.read_bytes(), err.read_bytes())
    out.unlink()
    err.unlink()
    if check:
        _check(world, arguments, done, before, snapshot(world))
    return done


def _be_the_command(world: World, arguments: tuple[str, ...], out: Path, err: Path) -> None:
    """Becomes the command; does not return."""
    code = 99
    try:
        os.chdir(world.evil)
        os.environ |= {
            "HOME": str(world.base / "home"),
            "XDG_STATE_HOME": str(world.base / "home" / "state"),
            "TMPDIR": str(world.base / "tmp"),
        }
        for descriptor, path in ((1, out), (2, err)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.dup2(file, descriptor)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MOST, MEMORY_MOST))
        code = main(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- What must hold


def snapshot(world: World) -> dict[Path, tuple[object, ...]]:
    """Everything that is there, but the user's own state and what the command prints."""
    found = {}
    waiting = [world.evil, world.outside]
    while waiting:
        path = waiting.pop()
        status = path.lstat()
        content: object = None
        if stat.S_ISDIR(status.st_mode):
            content = "a folder"
            waiting += path.iterdir()
            found[path] = (status.st_mode, content)
            continue
        if stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        elif stat.S_ISREG(status.st_mode) and status.st_size <= _HASHED_MOST:
            content = hashlib.sha256(path.read_bytes()).digest()
        found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def _check(
    world: World,
    arguments: tuple[str, ...],
    done: Done,
    before: dict[Path, tuple[object, ...]],
    after: dict[Path, tuple[object, ...]],
) -> None:
    said = f"{arguments}: {done.code}\n{done.out[-500:]!r}\n{done.err[-1500:]!r}"
    assert done.code in (0, 1, 2), said
    assert b"Traceback" not in done.err, said
    assert b"\x1b" not in done.err + done.out, said
    outputs = _outputs(world, arguments)
    for path in before.keys() | after.keys():
        if before.get(path) == after.get(path):
            continue
        assert path in outputs, f"{path} was {before.get(path)}, is {after.get(path)}; {said}"
        if path in before:
            assert path in world.replaceable, f"{path} was replaced; {said}"
        assert stat.S_ISREG(path.lstat().st_mode), said
        world.replaceable.add(path)
    output = _output_of(arguments)
    if arguments[0] == "witness" and output is not None and done.code == 0:
        made = (world.evil / output).read_bytes()
        for name, content in world.secrets.items():
            assert Path(name).name.encode() not in made or b"symlink" in made, said
            assert hashlib.sha256(content).hexdigest().encode() not in made, said
        if output.endswith(".atlas.json"):
            _check_manifest(world, json.loads(made), "follow" in arguments, said)
    if arguments[:2] == ("verify", "--json") and done.code == 0:
        report = json.loads(done.out)
        manifest = json.loads((world.evil / arguments[2]).read_bytes())
        _check_manifest(world, manifest, _options(manifest)["symlinks"] == "follow", said)
        _check_nothing_beside(world, manifest, report, said)


def _output_of(arguments: tuple[str, ...]) -> str | None:
    return arguments[arguments.index("-o") + 1] if "-o" in arguments else None


def _outputs(world: World, arguments: tuple[str, ...]) -> set[Path]:
    """The files that a command may write."""
    output = _output_of(arguments)
    names = [] if output is None else [output]
    if output is not None and "--tree" in arguments:
        is_manifest = output.endswith(".atlas.json")
        bare = output.removesuffix(".atlas.json") if is_manifest else output
        names.append(f"{bare}.atlas.leaves")
    if "--plot" in arguments:
        names.append(arguments[arguments.index("--plot") + 1])
    return {world.evil / name for name in names}


def _options(manifest: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = manifest["predicate"]["options"]
    return options


def _path(fields: dict[str, str], key: str) -> bytes:
    return bytes.fromhex(fields[f"{key}Hex"]) if f"{key}Hex" in fields else fields[key].encode()


def _check_manifest(world: World, manifest: dict[str, Any], follow: bool, said: str) -> None:
    """Every entry is what is there."""
    root = os.path.realpath(os.fsencode(world.data))
    for entry in manifest["predicate"]["files"]:
        path = _path(entry, "path")
        place = os.path.join(root, path)
        around = os.path.realpath(os.path.dirname(place))
        assert around == root or around.startswith(root + b"/"), (path, said)
        if "symlink" in entry or "symlinkHex" in entry:
            assert os.readlink(place) == _path(entry, "symlink"), (path, said)
            continue
        real = os.path.realpath(place)
        assert real.startswith(root + b"/"), (path, said)
        assert follow or real == os.path.join(around, os.path.basename(place)), (path, said)
        assert stat.S_ISREG(os.lstat(real).st_mode), (path, said)
        with open(real, "rb") as file:
            content = file.read()
        assert entry["size"] == len(content), (path, said)
        assert entry["residue"] == sum(content) % 96, (path, said)
        if "sha256" in entry:
            assert entry["sha256"] == hashlib.sha256(content).hexdigest(), (path, said)
        if "sha256-merkle-12288" in entry:
            tree = TreeWitness.generate(content)
            assert entry["sha256-merkle-12288"] == tree.hexdigest(), (path, said)


def _check_nothing_beside(
    world: World, manifest: dict[str, Any], report: dict[str, Any], said: str
) -> None:
    """What matches has nothing that is neither in the manifest nor said to be left out."""
    options = _options(manifest)
    if options["exclude"] or options["symlinks"] == "follow":
        return
    root = os.fsencode(world.data)
    known = {_path(entry, "path") for entry in manifest["predicate"]["files"]}
    known |= {_path(each, "path") for each in report["left_out"]}
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            path = os.path.relpath(os.path.join(folder, name), root)
            assert path in known, (path, said)


def try_folder(seed: int) -> int:
    """Makes the folder of a seed and runs commands in it.

    Returns:
        How many commands were run.
    """
    base = Path(tempfile.mkdtemp(prefix="hostile-"))
    count = 0
    try:
        world = World(base, seed)
        kinds = world.rng.sample(sorted(KINDS), world.rng.randrange(3, 11))
        try:
            for name in kinds:
                KINDS[name](world)
            for arguments in _commands(world):
                run(world, *arguments)
                count += 1
        except BaseException:
            print(f"seed {seed}: {', '.join(kinds)}", file=sys.stderr)
            raise
    finally:
        shutil.rmtree(base)
    return count


if __name__ == "__main__":
    first, folders = map(int, sys.argv[1:])
    commands = sum(try_folder(seed) for seed in range(first, first + folders))
    print(f"{folders} folders of {len(KINDS)} kinds of things, {commands} commands")
