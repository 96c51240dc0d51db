# SPDX-License-Identifier: Apache-2.0
"""Proofs about trees, RFC 9162, sections 2.1.3 and 2.1.4, and their JSON forms.

    {"type": "atlas12288/inclusion-proof/v1", "algorithm": "sha256-merkle-12288", "index": 5,
     "size": 9, "path": ["<64 lowercase hex digits>", ...], "root": "<64 lowercase hex digits>"}
    {"type": "atlas12288/consistency-proof/v1", "algorithm": "sha256-merkle-12288", "old_size": 5,
     "new_size": 9, "path": [...], "old_root": "<64 hex>", "new_root": "<64 hex>"}

on one line each; as strict as the JSON form of a witness.
"""

from __future__ import annotations

import typing

from . import _json
from ._native import DIGEST_BYTES, WINDOW_BYTES, bytes_of, int_in, tree_leaves, tree_node
from ._subtree import Subtree, left_part, prefix_root, range_root
from ._types import Buffer
from ._value import Value
from ._witness import TREE_ALGORITHM

INCLUSION_TYPE = "atlas12288/inclusion-proof/v1"
CONSISTENCY_TYPE = "atlas12288/consistency-proof/v1"
_INCLUSION_KEYS = ("type", "algorithm", "index", "size", "path", "root")
_CONSISTENCY_KEYS = (
    *("type", "algorithm", "old_size", "new_size", "path", "old_root", "new_root"),
)
_SIZE_MOST = (2**63 - 1) // WINDOW_BYTES  # of a file: its offsets have 63 bits
PROOF_MOST_BYTES = 16384  # of a proof in JSON: its path has at most 51 hashes


class InclusionProof(Value):
    """Proof that a window is in a tree: the hashes beside its path to the root. Immutable.

    Made by `TreeWitness.prove(window)` and `from_json`. Two are equal when all fields are.

    Attributes:
        index: index of the window.
        size: number of windows in the tree.
        path: the hashes, from the leaf up.
        root: of the tree.
    """

    __slots__ = _FIELDS = ("index", "size", "path", "root")
    _MADE_BY = "TreeWitness.prove() or from_json()"

    index: int
    size: int
    path: tuple[bytes, ...]
    root: bytes

    @classmethod
    def _in_tree(cls, tree: Subtree, size: int, index: int) -> typing.Self:
        """Return PATH(index, D[size]) of section 2.1.3.1."""
        path = []
        start, stop = 0, size
        while stop - start > 1:
            middle = start + left_part(stop - start)
            if index < middle:
                path.append(range_root(tree, middle, stop))
                stop = middle
            else:
                path.append(range_root(tree, start, middle))
                start = middle
        return cls._of(index=index, size=size, path=tuple(reversed(path)), root=tree.root)

    def verify(self, window: Buffer, root: Buffer) -> bool:
        """Return whether these are the bytes of the window, in the tree with this root.

        A root does not tell the size of its tree, so that a proof with another size, and another
        index with it, may hold as well. Where they matter, use `TreeWitness.verify_window`.

        Args:
            window: its bytes: 12,288, or at least one for the last window.
            root: 32 bytes, from a source that you trust; the root in the proof is only compared.

        Raises:
            ValueError: `root` has not 32 bytes.
            TypeError, BufferError: an argument is not a C-contiguous buffer.
        """
        content = bytes_of(window)
        least = 1 if self.index == self.size - 1 else WINDOW_BYTES
        if _root_of(root, "root") != self.root or not least <= len(content) <= WINDOW_BYTES:
            return False
        # From here, section 2.1.3.2 with its names.
        r, _ = tree_leaves(content)
        fn, sn = self.index, self.size - 1
        for p in self.path:
            if sn == 0:
                return False
            if fn & 1 or fn == sn:
                r = tree_node(p, r)
                while not fn & 1 and fn != 0:
                    fn >>= 1
                    sn >>= 1
            else:
                r = tree_node(r, p)
            fn >>= 1
            sn >>= 1
        return sn == 0 and r == self.root

    def to_fields(self) -> dict[str, typing.Any]:
        """Return the keys and values of the proof's JSON object, in their order."""
        path = [step.hex() for step in self.path]
        values = (INCLUSION_TYPE, TREE_ALGORITHM, self.index, self.size, path, self.root.hex())
        return dict(zip(_INCLUSION_KEYS, values, strict=True))

    def to_json(self) -> str:
        """Return the proof as JSON, on one line without its end; equal proofs give equal text."""
        return _json.write(self.to_fields())

    @classmethod
    def from_json(cls, text: str | bytes) -> typing.Self:
        """Return the proof of a JSON text, as `to_json` gives it; bytes are UTF-8.

        Raises:
            WitnessError: not such a text, or more than 16,384 bytes; the message names the key, its
                value and the rule.
            TypeError: neither str nor bytes.
        """
        fields = _json.Fields(text, _INCLUSION_KEYS, most=PROOF_MOST_BYTES)
        fields.choice("type", INCLUSION_TYPE)
        fields.choice("algorithm", TREE_ALGORITHM)
        size = fields.integer("size", _SIZE_MOST, least=1)
        return cls._of(
            index=fields.integer("index", size - 1),
            size=size,
            path=fields.digests("path"),
            root=fields.digest("root"),
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} window {self.index} of {self.size}, root {self.root.hex()}>"


class ConsistencyProof(Value):
    """Proof that a tree begins with all windows of an older one, in their order. Immutable.

    Made by `TreeWitness.prove_consistency(old)` and `from_json`. Two are equal when all fields are.

    Attributes:
        old_size, new_size: how many windows the trees have.
        path: the hashes, from the leaves up.
        old_root, new_root: of the trees.
    """

    __slots__ = _FIELDS = ("old_size", "new_size", "path", "old_root", "new_root")
    _MADE_BY = "TreeWitness.prove_consistency() or from_json()"

    old_size: int
    new_size: int
    path: tuple[bytes, ...]
    old_root: bytes
    new_root: bytes

    @classmethod
    def _in_tree(cls, tree: Subtree, size: int, old_size: int) -> typing.Self:
        """Return PROOF(old_size, D[size]) of section 2.1.4.1; empty if both sizes are equal."""
        path = []
        start, stop, left = 0, size, old_size
        while left != stop - start:
            middle = left_part(stop - start)
            if left <= middle:
                path.append(range_root(tree, start + middle, stop))
                stop = start + middle
            else:
                path.append(range_root(tree, start, start + middle))
                start += middle
                left -= middle
        if start > 0:
            path.append(range_root(tree, start, stop))
        return cls._of(
            old_size=old_size,
            new_size=size,
            path=tuple(reversed(path)),
            old_root=prefix_root(tree, old_size),
            new_root=tree.root,
        )

    def verify(self, old_root: Buffer, new_root: Buffer, *, old_size: int, new_size: int) -> bool:
        """Return whether the tree of the new root begins with the windows of the old one.

        A root does not tell the size of its tree, so that a proof may hold for other sizes too, and
        say that another part of the data is the old one. So the sizes are needed beside the roots;
        `TreeWitness.verify_consistency` takes all four from two witnesses.

        Args:
            old_root, new_root: 32 bytes each.
            old_size, new_size: how many windows the two trees have.
                All four come from a source that you trust; the proof's own are only compared.

        Raises:
            ValueError: a root has not 32 bytes, or a size is negative.
            TypeError, BufferError: a root is not a C-contiguous buffer, or a size not an int.
        """
        roots = _root_of(old_root, "old_root"), _root_of(new_root, "new_root")
        sizes = int_in(old_size, "old_size", 0, None), int_in(new_size, "new_size", 0, None)
        if roots != (self.old_root, self.new_root) or sizes != (self.old_size, self.new_size):
            return False
        if self.old_size == self.new_size:
            return not self.path and self.old_root == self.new_root
        # From here, section 2.1.4.2 with its names.
        path = self.path
        if self.old_size & (self.old_size - 1) == 0:
            path = (self.old_root, *path) if path else ()
        if not path:
            return False
        fn, sn = self.old_size - 1, self.new_size - 1
        while fn & 1:
            fn >>= 1
            sn >>= 1
        fr = sr = path[0]
        for c in path[1:]:
            if sn == 0:
                return False
            if fn & 1 or fn == sn:
                fr = tree_node(c, fr)
                sr = tree_node(c, sr)
                while not fn & 1 and fn != 0:
                    fn >>= 1
                    sn >>= 1
            else:
                sr = tree_node(sr, c)
            fn >>= 1
            sn >>= 1
        return fr == self.old_root and sr == self.new_root and sn == 0

    def to_fields(self) -> dict[str, typing.Any]:
        """Return the keys and values of the proof's JSON object, in their order."""
        values = (
            CONSISTENCY_TYPE,
            TREE_ALGORITHM,
            self.old_size,
            self.new_size,
            [step.hex() for step in self.path],
            self.old_root.hex(),
            self.new_root.hex(),
        )
        return dict(zip(_CONSISTENCY_KEYS, values, strict=True))

    def to_json(self) -> str:
        """Return the proof as JSON, on one line without its end; equal proofs give equal text."""
        return _json.write(self.to_fields())

    @classmethod
    def from_json(cls, text: str | bytes) -> typing.Self:
        """Return the proof of a JSON text, as `to_json` gives it; bytes are UTF-8.

        Raises:
            WitnessError: not such a text, or more than 16,384 bytes; the message names the key, its
                value and the rule.
            TypeError: neither str nor bytes.
        """
        fields = _json.Fields(text, _CONSISTENCY_KEYS, most=PROOF_MOST_BYTES)
        fields.choice("type", CONSISTENCY_TYPE)
        fields.choice("algorithm", TREE_ALGORITHM)
        new_size = fields.integer("new_size", _SIZE_MOST, least=1)
        return cls._of(
            old_size=fields.integer("old_size", new_size, least=1),
            new_size=new_size,
            path=fields.digests("path"),
            old_root=fields.digest("old_root"),
            new_root=fields.digest("new_root"),
        )

    def __repr__(self) -> str:
        name = type(self).__name__
        return (
            f"<{name} of {self.new_size} windows with {self.old_size}, "
            f"roots {self.new_root.hex()} and {self.old_root.hex()}>"
        )


def _root_of(root: Buffer, name: str) -> bytes:
    content = bytes_of(root)
    if len(content) != DIGEST_BYTES:
        raise ValueError(f"{name} has {len(content)} bytes, must have {DIGEST_BYTES}")
    return bytes(content)
