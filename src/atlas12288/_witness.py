# SPDX-License-Identifier: Apache-2.0
"""Witnesses and their JSON form.

    {"type": "atlas12288/witness/v1", "algorithm": "sha256", "length": 12288, "residue": 0,
     "digest": "<64 lowercase hex digits>", "timestamp": "2025-01-31T12:00:00.000000000Z"}

on one line, with the keys in this order, so that equal witnesses give equal text. Readers accept
other order and white space; they refuse unknown, missing and repeated keys and other forms of a
value.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from . import _json, _native
from ._types import TYPE_CHECKING, Buffer, Readable, typing

if TYPE_CHECKING:
    _Made = typing.TypeVar("_Made")

JSON_TYPE = "atlas12288/witness/v1"
ALGORITHM = "sha256"
TREE_ALGORITHM = "sha256-merkle-12288"
_KEYS = ("type", "algorithm", "length", "residue", "digest", "timestamp")
# The most bytes of a witness in JSON. `to_json` writes less than 300.
WITNESS_MOST_BYTES = 1024
_NS_PER_S = 10**9
UINT64_MAX = 2**64 - 1  # the C type of a length and of a time
# Of many buffers, a thread takes no fewer bytes at a time, which are 0.1 ms or more, and as many
# buffers as a kernel hashes at once, if there are so many.
_PART_BYTES = 256 * 1024
_PART_BUFFERS = 16


class Record:
    """Base class of witnesses of all algorithms: algorithm, length, residue, digest, time."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def algorithm(self) -> str: ...
        @property
        def length(self) -> int: ...
        @property
        def residue(self) -> int: ...
        @property
        def digest(self) -> bytes: ...
        @property
        def timestamp_ns(self) -> int: ...

    @property
    def timestamp(self) -> str:
        """The time of creation: RFC 3339, UTC, nanoseconds."""
        return format_timestamp(self.timestamp_ns)

    def hexdigest(self) -> str:
        """Return the digest in lowercase hex."""
        return self.digest.hex()

    def differences(self, other: Record) -> tuple[str, ...]:
        """Return which of "length", "residue" and "digest" differ in `other`.

        If nothing differs, both witness the same bytes; the time is not compared.

        Raises:
            ValueError: the algorithms differ, so that the digests cannot be compared.
        """
        if self.algorithm != other.algorithm:
            raise ValueError(f"algorithm of other is {other.algorithm}, must be {self.algorithm}")
        fields = ("length", "residue", "digest")
        return tuple(name for name in fields if getattr(self, name) != getattr(other, name))

    def to_fields(self) -> dict[str, str | int]:
        """Return the keys and values of the witness's JSON object, in their order."""
        values = (
            JSON_TYPE,
            self.algorithm,
            self.length,
            self.residue,
            self.hexdigest(),
            self.timestamp,
        )
        return dict(zip(_KEYS, values, strict=True))

    def to_json(self) -> str:
        """Return the witness as JSON, on one line without a line break.

        Equal witnesses give equal text.
        """
        return _json.write(self.to_fields())

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.algorithm} {self.hexdigest()} length {self.length} "
            f"residue {self.residue} at {self.timestamp}>"
        )


class Witness(_native.Witness, Record):
    """Immutable record of a region: algorithm, length, residue, digest, time.

    Made by `Witness.generate(buf)`, `generate_from(source)`, `from_bytes`, `from_json` and
    `Domain.commit()`. bytes() gives its byte form. Two are equal if all fields are, including the
    time. It can be pickled.

    Contract: Witness Operations. JSON form: docs/witness-format.md.
    """

    __slots__ = ()

    @classmethod
    def generate_many(
        cls, buffers: Iterable[Buffer], /, *, threads: int | None = None
    ) -> list[typing.Self]:
        """Return the witnesses of many buffers, in their order, with the present time.

        They are hashed beside one another, which is faster than one after another. Nothing is
        hashed before all buffers are there.

        Args:
            buffers: any number of them, each of any length.
            threads: how many threads hash them; None: as many as there are cores.

        Raises:
            TypeError: an item is not a buffer, or has objects; the message names its index.
            BufferError: an item is not C-contiguous; the message names its index.
            ValueError: `threads` is less than 1.
        """
        return of_buffers(buffers, threads, lambda held, *part: held.witnesses(cls, *part))

    @classmethod
    def generate_from(cls, source: str | os.PathLike[str] | Readable, /) -> typing.Self:
        """Return the witness of a file, in less than 1 MiB of memory, with the present time.

        Args:
            source: the path of a regular file, or a binary file that blocks: one with `readinto`,
                which is read from its current position to its end and stays open.

        Raises:
            FileError: the path does not name a regular file, or the file cannot be read, or it
                changed while it was read.
            BlockingIOError: the binary file is non-blocking and has no bytes.
            TypeError: `source` is neither a path nor a binary file.
            ValueError: `source` is a URL, or a closed file.
        """
        from ._files import source_chunks  # imported here: witnessing buffers does not need it

        return cls._of_chunks(source_chunks(source))

    @classmethod
    def _of_chunks(cls, chunks: Generator[memoryview, None, None]) -> typing.Self:
        """Return the witness of bytes in chunks; closes the generator at once."""
        from contextlib import closing

        stream = WitnessStream()
        with closing(chunks):
            for chunk in chunks:
                stream.update(chunk)
        return cls.from_bytes(stream._witness_bytes())

    def verify_from(self, source: str | os.PathLike[str] | Readable, /) -> bool:
        """Return whether a file has this length, residue and digest; it is read to its end.

        The digest is compared in constant time.

        Args, Raises: as `generate_from`.
        """
        from hmac import compare_digest

        found = self.generate_from(source)
        return compare_digest(found.digest, self.digest) and not self.differences(found)

    @classmethod
    def from_json(cls, text: str | bytes) -> typing.Self:
        """Return the witness of a JSON text as written by `to_json`; bytes are UTF-8.

        Raises:
            WitnessError: not a witness, or more than 1,024 bytes; the message names the key, its
                value and the rule.
            TypeError: neither str nor bytes.
        """
        _, length, residue, digest, timestamp_ns = read_record(text, ALGORITHM)
        return cls._of_fields(length, residue, digest, timestamp_ns)

    @classmethod
    def _of_fields(cls, length: int, residue: int, digest: bytes, timestamp_ns: int) -> typing.Self:
        # The byte form: conservation.h, atlas_witness_to_bytes.
        form = (
            b"ATLW\x01\x01",
            bytes((residue, 0)),
            length.to_bytes(8, "little"),
            timestamp_ns.to_bytes(8, "little"),
            digest,
        )
        return cls.from_bytes(b"".join(form))


class WitnessStream(_native.WitnessStream):
    """WitnessStream(data=b"")

    Computes the witness of data in chunks of any size, in constant memory, with the interface of a
    `hashlib` object: `hashlib.file_digest(file, atlas12288.WitnessStream)`.

    Args:
        data: the first chunk.

    `update(chunk)` adds the next bytes. Only one thread may use a stream at a time; another one
    gets StateError. Header: Witnesses.

    bytes() gives its state. `from_bytes` continues from it, also in another process or on another
    machine; a stream can be pickled too. The state is not authenticated.
    """

    __slots__ = ()

    name = ALGORITHM
    digest_size: int = _native.DIGEST_BYTES
    block_size = 64

    def witness(self) -> Witness:
        """Return the witness of all bytes so far, with the present time; more may follow."""
        return Witness.from_bytes(self._witness_bytes())

    def digest(self) -> bytes:
        """Return the digest of all bytes so far; more may follow."""
        return self.witness().digest

    def hexdigest(self) -> str:
        """Return the digest in lowercase hex."""
        return self.digest().hex()

    @property
    def length(self) -> int:
        """The number of bytes so far."""
        return self.witness().length

    @property
    def residue(self) -> int:
        """The residue of all bytes so far, in 0..95."""
        return self.witness().residue

    def copy(self) -> typing.Self:
        """Return an independent stream with the same state."""
        return self.from_bytes(bytes(self))

    def __repr__(self) -> str:
        witness = self.witness()
        return f"<{type(self).__name__} {witness.hexdigest()} of {witness.length} bytes>"


def of_buffers(
    buffers: Iterable[Buffer],
    threads: int | None,
    make: Callable[[_native.Buffers, int, int], list[_Made]],
) -> list[_Made]:
    """Return what is made of many buffers, in their order.

    Args:
        buffers, threads: as for `Witness.generate_many`.
        make: makes something of each of the buffers start..stop - 1; called by the threads.
    """
    from contextlib import closing

    from ._parallel import parallel_map, thread_count

    count = thread_count(threads)
    held = _native.Buffers(buffers)
    results = parallel_map(lambda part: make(held, *part), _parts(held.lengths(), count), count)
    with closing(results):
        return [one for some in results for one in some]


def _parts(lengths: list[int], threads: int) -> Iterator[tuple[int, int]]:
    """Part buffers into groups of about equal size; yield the first index of each, and the one
    behind its last."""
    count = threads
    if threads > 1:  # more than one for each, so that they end together
        count *= max(1, min(4, len(lengths) // (threads * _PART_BUFFERS)))
    size = max(_PART_BYTES, sum(lengths) // count)
    start = held = 0
    for index, length in enumerate(lengths):
        held += length
        if held >= size and threads > 1:
            yield start, index + 1
            start, held = index + 1, 0
    if start < len(lengths):
        yield start, len(lengths)


def read_record(text: str | bytes, *algorithms: str) -> tuple[str, int, int, bytes, int]:
    """Return algorithm, length, residue, digest and time (ns since 1970) of a witness in JSON.

    Raises:
        WitnessError: not a witness of one of the algorithms; the message names key, value and rule.
        TypeError: neither str nor bytes.
    """
    return record_of(_json.Fields(text, _KEYS, most=WITNESS_MOST_BYTES), *algorithms)


def fields_of(value: object, name: str) -> _json.Fields:
    """Return the fields of a witness that is part of another JSON text.

    Raises:
        WitnessError: not an object with the keys of a witness; the message calls it `name`.
    """
    return _json.Fields.of(value, name, _KEYS)


def record_of(fields: _json.Fields, *algorithms: str) -> tuple[str, int, int, bytes, int]:
    """Return what `read_record` returns, of fields that were read already.

    Raises:
        WitnessError: as `read_record`.
    """
    fields.choice("type", JSON_TYPE)
    algorithm = fields.choice("algorithm", *algorithms)
    length = fields.integer("length", UINT64_MAX)
    residue = fields.integer("residue", _native.MODULUS - 1)
    fields.check("residue", residue == 0 or length > 0, "0 where length is 0")
    digest = fields.digest("digest")
    return algorithm, length, residue, digest, read_timestamp(fields)


def read_timestamp(fields: _json.Fields) -> int:
    """Return the field "timestamp" in nanoseconds since 1970.

    Raises:
        WitnessError: not in the form of `format_timestamp`.
    """
    timestamp_ns = _parse_timestamp(fields.text("timestamp"))
    rule = "like 2025-01-31T12:00:00.000000000Z, from 1970 to 2554"
    fields.check("timestamp", timestamp_ns >= 0, rule)
    return timestamp_ns


def format_timestamp(timestamp_ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339, UTC."""
    seconds, nanoseconds = divmod(timestamp_ns, _NS_PER_S)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"


def _parse_timestamp(text: str) -> int:
    """Return nanoseconds since 1970; -1 if the text is not in the form of `format_timestamp`."""
    from datetime import UTC, datetime, timedelta

    try:
        elapsed = datetime.fromisoformat(text[:19] + "Z") - datetime(1970, 1, 1, tzinfo=UTC)
        timestamp_ns = elapsed // timedelta(seconds=1) * _NS_PER_S + int(text[20:29])
    except ValueError:
        return -1
    if not 0 <= timestamp_ns <= UINT64_MAX or format_timestamp(timestamp_ns) != text:
        return -1
    return timestamp_ns
