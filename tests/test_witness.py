# SPDX-License-Identifier: Apache-2.0
"""Witnesses from Python: fields, verdicts, streams, byte form, JSON."""

import copy
import hashlib
import json
import pickle
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atlas12288 as atlas
from atlas12288 import _native
from support import model, strategies

DATA = strategies.noise(1000)
MAX_TIMESTAMP_NS = 2**64 - 1
DIGEST = "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81"  # of 1, 2, 3
FIELDS: dict[str, object] = {
    "type": "atlas12288/witness/v1",
    "algorithm": "sha256",
    "length": 3,
    "residue": 6,
    "digest": DIGEST,
    "timestamp": "2025-01-31T12:00:00.000000007Z",
}


def with_timestamp(timestamp_ns: int) -> atlas.Witness:
    form = bytearray(bytes(atlas.Witness.generate(b"")))
    form[16:24] = timestamp_ns.to_bytes(8, "little")
    return atlas.Witness.from_bytes(form)


# --- Fields ---


@given(strategies.buffers())
def test_a_witness_records_length_residue_and_plain_sha256(data: bytes) -> None:
    witness = atlas.Witness.generate(data)
    assert witness.algorithm == "sha256"
    assert witness.length == len(data)
    assert witness.residue == model.residue(data)
    assert witness.digest == hashlib.sha256(data).digest()
    assert witness.hexdigest() == hashlib.sha256(data).hexdigest()


def test_the_timestamp_is_the_time_of_generation_in_utc() -> None:
    before = time.time_ns()
    witness = atlas.Witness.generate(DATA)
    assert before <= witness.timestamp_ns <= time.time_ns()
    since_1970 = datetime.fromisoformat(witness.timestamp) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = witness.timestamp_ns // 1000
    assert since_1970.total_seconds() == pytest.approx(microseconds / 1e6, abs=1e-5)


@pytest.mark.parametrize(
    ("timestamp_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (951_782_400 * 10**9, "2000-02-29T00:00:00.000000000Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        (MAX_TIMESTAMP_NS, "2554-07-21T23:34:33.709551615Z"),
    ],
)
def test_the_timestamp_is_rfc_3339_with_nanoseconds(timestamp_ns: int, text: str) -> None:
    witness = with_timestamp(timestamp_ns)
    assert witness.timestamp == text
    assert atlas.Witness.from_json(witness.to_json()) == witness


def test_the_empty_region_has_a_witness() -> None:
    witness = atlas.Witness.generate(b"")
    assert (witness.length, witness.residue) == (0, 0)
    assert witness.verify(b"")
    assert not witness.verify(b"\0")


# --- A value ---


@pytest.mark.parametrize(
    "name", ["algorithm", "length", "residue", "digest", "timestamp", "timestamp_ns", "note"]
)
def test_no_attribute_of_a_witness_can_be_set_or_deleted(name: str) -> None:
    witness = atlas.Witness.generate(DATA)
    before = bytes(witness)
    with pytest.raises(AttributeError):
        setattr(witness, name, 0)
    with pytest.raises(AttributeError):
        delattr(witness, name)
    assert bytes(witness) == before


def test_witnesses_are_equal_when_all_fields_are() -> None:
    witness = atlas.Witness.generate(DATA)
    same = atlas.Witness.from_bytes(bytes(witness))
    assert witness == same
    assert hash(witness) == hash(same)
    assert len({witness, same}) == 1
    assert witness != with_timestamp(witness.timestamp_ns)
    assert with_timestamp(5) == with_timestamp(5) != with_timestamp(6)
    assert witness != bytes(witness)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_witness_can_be_pickled(protocol: int) -> None:
    witness = atlas.Witness.generate(DATA)
    again = pickle.loads(pickle.dumps(witness, protocol))
    assert again == witness
    assert type(again) is atlas.Witness


def test_a_witness_can_be_copied() -> None:
    witness = atlas.Witness.generate(DATA)
    assert copy.copy(witness) == copy.deepcopy(witness) == witness


def test_a_subclass_makes_witnesses_of_the_subclass() -> None:
    class Signed(atlas.Witness):
        pass

    assert type(Signed.generate(DATA)) is Signed
    assert type(Signed.from_json(Signed.generate(DATA).to_json())) is Signed


def test_a_witness_is_not_made_by_its_class() -> None:
    with pytest.raises(TypeError, match=r"Witness\.generate\(\)"):
        atlas.Witness()
    with pytest.raises(TypeError, match=r"Witness\.generate\(\)"):
        atlas.Witness.__new__(atlas.Witness).digest  # noqa: B018


def test_repr_tells_what_is_witnessed() -> None:
    text = repr(atlas.Witness.from_json(json.dumps(FIELDS)))
    assert text == (
        "<Witness sha256 039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81 "
        "length 3 residue 6 at 2025-01-31T12:00:00.000000007Z>"
    )


# --- Verdicts ---


@given(strategies.buffers().filter(len), st.data())
def test_verify_holds_for_the_same_bytes_only(data: bytes, choice: st.DataObject) -> None:
    witness = atlas.Witness.generate(data)
    assert witness.verify(bytearray(data))
    changed = bytearray(data)
    changed[choice.draw(st.integers(0, len(data) - 1))] ^= choice.draw(st.integers(1, 255))
    assert not witness.verify(changed)
    assert not witness.verify(data[:-1])
    assert not witness.verify(data + b"\0")


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (b"\x01\x02\x03", ()),
        (b"\x02\x01\x03", ("digest",)),
        (b"\x01\x02\x04", ("residue", "digest")),
        (b"\x01\x02\x03\x00", ("length", "digest")),
        (b"\x01\x02", ("length", "residue", "digest")),
    ],
)
def test_differences_names_the_fields_that_differ(
    other: bytes, differences: tuple[str, ...]
) -> None:
    one, two = atlas.Witness.generate(b"\x01\x02\x03"), atlas.Witness.generate(other)
    assert one.differences(two) == two.differences(one) == differences


# --- Streams ---


@given(strategies.splits())
def test_the_witness_of_chunks_is_that_of_the_whole(chunks: list[bytes]) -> None:
    stream = atlas.WitnessStream()
    for chunk in chunks:
        stream.update(chunk)
    witness = stream.witness()
    assert type(witness) is atlas.Witness
    assert witness.differences(atlas.Witness.generate(b"".join(chunks))) == ()


def test_a_stream_goes_on_after_its_witness() -> None:
    stream = atlas.WitnessStream()
    stream.update(DATA)
    assert stream.witness().verify(DATA)
    stream.update(DATA)
    assert stream.witness().verify(DATA + DATA)


# --- Byte form ---


@given(strategies.buffers(), st.integers(0, MAX_TIMESTAMP_NS))
def test_bytes_and_json_give_the_witness_back(data: bytes, timestamp_ns: int) -> None:
    form = bytearray(bytes(atlas.Witness.generate(data)))
    form[16:24] = timestamp_ns.to_bytes(8, "little")
    witness = atlas.Witness.from_bytes(form)
    assert bytes(witness) == form
    assert bytes(atlas.Witness.from_json(witness.to_json())) == form
    assert atlas.Witness.from_json(witness.to_json().encode()).to_json() == witness.to_json()


@given(st.binary(max_size=80))
def test_bytes_that_are_no_witness_are_refused(data: bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        atlas.Witness.from_bytes(data)


# --- Byte form of a stream ---

# Magic to reserved byte, length, words, block: by an implementation of FIPS 180-4 in plain Python.
FIRST_WORDS = "67e6096a85ae67bb72f36e3c3af54fa57f520e518c68059babd9831f19cde05b"
STREAM_FORMS = {
    b"": "41544c5301010000" + "0000000000000000" + FIRST_WORDS + "00" * 64,
    b"abc": "41544c5301010600" + "0300000000000000" + FIRST_WORDS + "616263" + "00" * 61,
    bytes(range(67)): "41544c5301010300"
    + "4300000000000000"
    + "dfa299fc7a2af48880d1b97ba2c6cd335f755602509a5b9d31cca944a784be5a"
    + "404142"
    + "00" * 61,
    bytes(range(200)) * 5: "41544c5301012c00"
    + "e803000000000000"
    + "9dedb502f5e864ea226695968632cd3daee742bd01b5db94ebd799f83005f705"
    + bytes(range(160, 200)).hex()
    + "00" * 24,
}


def streamed(*chunks: bytes) -> atlas.WitnessStream:
    stream = atlas.WitnessStream()
    for chunk in chunks:
        stream.update(chunk)
    return stream


@pytest.mark.parametrize("data", STREAM_FORMS, ids=len)
def test_the_byte_form_of_a_stream_is_the_documented_one(data: bytes) -> None:
    expected = bytes.fromhex(STREAM_FORMS[data])
    assert len(expected) == _native.WITNESS_STREAM_BYTES
    for cut in (0, 1, len(data) // 2, len(data)):
        assert bytes(streamed(data[:cut], data[cut:])) == expected
    resumed = atlas.WitnessStream.from_bytes(expected)
    assert resumed.witness().verify(data)


@given(strategies.buffers(), strategies.buffers(), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_stream_can_be_pickled_and_copied_at_any_place(
    data: bytes, more: bytes, protocol: int
) -> None:
    stream = streamed(data)
    form = bytes(stream)
    others = [pickle.loads(pickle.dumps(stream, protocol)), copy.copy(stream)]
    stream.update(more)
    assert stream.witness().verify(data + more)
    for other in others:
        assert type(other) is atlas.WitnessStream
        assert bytes(other) == form
        other.update(more)
        assert bytes(other) == bytes(stream)


def test_a_subclass_of_a_stream_goes_on_as_the_subclass() -> None:
    class Named(atlas.WitnessStream):
        pass

    assert type(Named.from_bytes(bytes(Named()))) is Named
    assert type(_native.WitnessStream.from_bytes(bytes(Named()))) is _native.WitnessStream
    assert type(pickle.loads(pickle.dumps(_native.WitnessStream()))) is _native.WitnessStream


@pytest.mark.parametrize(
    ("data", "at", "value", "message"),
    [
        (b"abc", 0, b"a", 'magic must be "ATLS"'),
        (b"abc", 3, b"W", 'magic must be "ATLS"'),
        (b"abc", 4, b"\2", "version is 2, must be 1"),
        (b"abc", 5, b"\0", "algorithm is 0, must be 1"),
        (b"abc", 6, b"\x60", "residue is 96, must be in 0..95"),
        (b"abc", 7, b"\1", "reserved byte is 1, must be 0"),
        (b"abc", 6, b"\7", "residue is 7, must be 6 as of the bytes where length is below 64"),
        (b"abc", 8, b"\0", "residue is 6, must be 0 where length is 0"),
        (b"abc", 8, b"\2", "byte 2 of the block is 99, must be 0 behind the 2 that it holds"),
        (b"abc", 51, b"d", "byte 3 of the block is 100, must be 0 behind the 3 that it holds"),
        (b"abc", 111, b"d", "byte 63 of the block is 100, must be 0 behind the 3 that it holds"),
        (
            b"abc",
            20,
            b"\0",
            "word 1 of the hash is bb67ae00, must be bb67ae85 where length is below 64",
        ),
        (bytes(64), 48, b"\1", "byte 0 of the block is 1, must be 0 behind the 0 that it holds"),
        (
            bytes(64),
            8,
            (2**61).to_bytes(8, "little"),
            "length is 2305843009213693952, must be at most 2305843009213693951",
        ),
    ],
)
def test_a_malformed_state_of_a_stream_is_refused(
    data: bytes, at: int, value: bytes, message: str
) -> None:
    form = bytearray(bytes(streamed(data)))
    form[at : at + len(value)] = value
    with pytest.raises(atlas.WitnessError) as refusal:
        atlas.WitnessStream.from_bytes(form)
    assert str(refusal.value) == message


@given(st.binary(max_size=160))
def test_bytes_that_are_no_stream_are_refused(data: bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        atlas.WitnessStream.from_bytes(data)


def test_a_witness_is_no_stream_and_a_stream_no_witness() -> None:
    with pytest.raises(atlas.WitnessError, match="len is 56, must be 112"):
        atlas.WitnessStream.from_bytes(bytes(atlas.Witness.generate(DATA)))
    with pytest.raises(atlas.WitnessError, match="len is 112, must be 56"):
        atlas.Witness.from_bytes(bytes(streamed(DATA)))


@given(strategies.buffers(300), st.data())
def test_a_changed_state_is_refused_or_says_again_what_was_read(
    data: bytes, choice: st.DataObject
) -> None:
    form = bytearray(bytes(streamed(data)))
    for _ in range(choice.draw(st.integers(1, 3))):
        form[choice.draw(st.integers(0, len(form) - 1))] = choice.draw(st.integers(0, 255))
    length, block = int.from_bytes(form[8:16], "little"), form[48:]
    if length < len(block):
        # It has all bytes of its data, so that one form is right.
        right = form == bytes(streamed(block[:length]))
    else:
        head = b"ATLS\1\1" + bytes([min(form[6], 95), 0])
        right = form[:8] == head and length < 2**61 and not any(block[length % len(block) :])
    if not right:
        with pytest.raises(atlas.WitnessError):
            atlas.WitnessStream.from_bytes(form)
        return
    stream = atlas.WitnessStream.from_bytes(form)
    assert bytes(stream) == form
    assert stream.witness().length == length


def test_a_stream_takes_no_more_than_sha_256_is_defined_for() -> None:
    form = bytearray(bytes(streamed(bytes(64))))
    form[8:16] = (2**61 - 64).to_bytes(8, "little")
    stream = atlas.WitnessStream.from_bytes(form)
    with pytest.raises(atlas.StateError) as refusal:
        stream.update(bytes(64))
    assert str(refusal.value) == "n is 64, must be at most 63 behind 2305843009213693888 bytes"
    assert bytes(stream) == form
    stream.update(bytes(63))
    assert stream.witness().length == 2**61 - 1


# --- JSON ---


def test_the_json_form_is_one_line_with_the_keys_in_their_order() -> None:
    text = json.dumps(FIELDS)
    assert atlas.Witness.from_json(text).to_json() == text
    assert text == (
        '{"type": "atlas12288/witness/v1", "algorithm": "sha256", "length": 3, "residue": 6, '
        '"digest": "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81", '
        '"timestamp": "2025-01-31T12:00:00.000000007Z"}'
    )


def test_the_json_of_a_witness_verifies_its_bytes() -> None:
    assert atlas.Witness.from_json(json.dumps(FIELDS)).verify(b"\x01\x02\x03")


def test_json_is_read_in_any_order_and_spacing() -> None:
    text = json.dumps(dict(reversed(FIELDS.items())), indent=3)
    assert atlas.Witness.from_json(text).to_json() == json.dumps(FIELDS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "atlas12288/witness/v2"),
        ("type", None),
        ("type", ["atlas12288/witness/v1"]),
        ("algorithm", "SHA256"),
        ("algorithm", "sha256-merkle-12288"),
        ("length", -1),
        ("length", 2**64),
        ("length", 10**700),
        ("length", 3.0),
        ("length", True),
        ("length", "3"),
        ("length", None),
        ("length", 0),  # with residue 6
        ("residue", -1),
        ("residue", 96),
        ("residue", False),
        ("residue", 6.0),
        ("digest", DIGEST.upper()),
        ("digest", DIGEST[:-1]),
        ("digest", DIGEST + "00"),
        ("digest", "g" * 64),
        ("digest", "\u0661" * 64),  # a digit, not one of hex
        ("digest", " 0" * 32),
        ("digest", 0),
        ("digest", ["0"] * 64),
        ("timestamp", ""),
        ("timestamp", 0),
        ("timestamp", None),
        ("timestamp", "2025-01-31T12:00:00Z"),
        ("timestamp", "2025-01-31T12:00:00.000000Z"),
        ("timestamp", "2025-01-31t12:00:00.000000000z"),
        ("timestamp", "2025-01-31 12:00:00.000000000Z"),
        ("timestamp", "2025-01-31T12:00:00.000000000+00:00"),
        ("timestamp", "2025-01-31T12:00:00.0000000000Z"),
        ("timestamp", "2025-01-31T12:00:00.0000_0000Z"),
        ("timestamp", "2025-01-31T12:00:00.00000000\u0661Z"),
        ("timestamp", "2025-02-30T12:00:00.000000000Z"),
        ("timestamp", "2025-01-31T24:00:00.000000000Z"),
        ("timestamp", "2025-01-31T12:00:60.000000000Z"),
        ("timestamp", "2025-W05-5T12:00:00.000000000Z"),
        ("timestamp", "1969-12-31T23:59:59.999999999Z"),
        ("timestamp", "2554-07-21T23:34:33.709551616Z"),
        ("timestamp", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_json_with_a_wrong_value_is_refused_by_the_name_of_its_key(key: str, value: object) -> None:
    named = "residue" if (key, value) == ("length", 0) else key  # no bytes have residue 0
    with pytest.raises(atlas.WitnessError, match=rf"^{named} is .+, must be "):
        atlas.Witness.from_json(json.dumps(FIELDS | {key: value}))


@pytest.mark.parametrize("key", FIELDS)
def test_json_without_a_key_is_refused_by_its_name(key: str) -> None:
    fields = {name: value for name, value in FIELDS.items() if name != key}
    with pytest.raises(atlas.WitnessError, match=f"key '{key}' is missing"):
        atlas.Witness.from_json(json.dumps(fields))


@pytest.mark.parametrize("key", FIELDS)
def test_json_with_a_key_twice_is_refused_by_its_name(key: str) -> None:
    text = json.dumps(FIELDS)[:-1] + f', "{key}": {json.dumps(FIELDS[key])}}}'
    with pytest.raises(atlas.WitnessError, match=f"key '{key}' occurs twice"):
        atlas.Witness.from_json(text)


@pytest.mark.parametrize("key", ["note", "", "Length", "length ", "\ud800"])
def test_json_with_an_unknown_key_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(atlas.WitnessError, match=r"^key '.*' is unknown"):
        atlas.Witness.from_json(json.dumps(FIELDS | {key: 1}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "NaN",
        "7",
        '"type"',
        json.dumps(FIELDS) + "{}",
        "\ufeff" + json.dumps(FIELDS),
        json.dumps(FIELDS).replace("3,", "NaN,"),
        json.dumps(FIELDS).replace("3,", "1e999,"),
        json.dumps(FIELDS).replace("3,", "9" * 5000 + ","),
        json.dumps(FIELDS).replace("3,", "[" * 100_000 + "]" * 100_000 + ","),
        '{"a":' * 100_000,
        "[" * 100_000 + "]" * 100_000,
        b"\xff\xfe",
        json.dumps(FIELDS).encode("utf-16"),
        json.dumps(FIELDS).encode() + b"\0",
    ],
    ids=lambda text: repr(text)[:40],
)
def test_text_that_is_no_json_object_of_a_witness_is_refused(text: str | bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        atlas.Witness.from_json(text)


@given(st.text() | st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_read_or_refused_with_a_witness_error(text: str | bytes) -> None:
    with pytest.raises(atlas.WitnessError):
        atlas.Witness.from_json(text)


@given(st.data())
def test_json_with_one_character_changed_is_refused_or_another_value(choice: st.DataObject) -> None:
    text = json.dumps(FIELDS)
    at = choice.draw(st.integers(0, len(text) - 1))
    other = choice.draw(st.characters().filter(lambda character: character != text[at]))
    try:
        witness = atlas.Witness.from_json(text[:at] + other + text[at + 1 :])
    except atlas.WitnessError:
        return
    # What differs is a value, or white space.
    assert witness.to_json() != text or text[at].isspace()


@pytest.mark.parametrize("text", [None, 5, bytearray(b"{}"), FIELDS])
def test_text_of_another_type_is_a_type_error(text: object) -> None:
    with pytest.raises(TypeError, match=f"text is of type {type(text).__name__}, must be str"):
        atlas.Witness.from_json(text)  # type: ignore[arg-type]


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(atlas.WitnessError) as caught:
        atlas.Witness.from_json(json.dumps(FIELDS | {"digest": "0" * 10_000}))
    assert len(str(caught.value)) < 200
