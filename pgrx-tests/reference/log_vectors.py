#!/usr/bin/env python3
"""Writes crates/core/tests/vectors/log_v1.json: roots and proofs of the reference implementation.

The entry of leaf n is SHA-256 of n as eight bytes, big-endian. For every size up to 300 there is one fingerprint of all proofs:
SHA-256 over the inclusion path of each leaf and then the consistency path from each smaller size from 0 on and from the size
itself, every path as its number of hashes (one byte) and the hashes. Larger trees have their proofs written out.

    log_vectors.py > ../../crates/core/tests/vectors/log_v1.json
"""
import functools
import json
import random
import struct

import audit_reference as reference

LARGE = [301, 511, 512, 513, 1000, 4095, 65535, 65536, 65537, 70000, 99991, 131072, 196613, 200000]


def entries(size):
    return tuple(reference.sha(struct.pack(">Q", number)) for number in range(size))


def fingerprint(data):
    size = len(data)
    paths = [reference.inclusion_proof(index, data) for index in range(size)]
    paths += [reference.consistency_proof(old, data) for old in range(size + 1)]
    return reference.sha(b"".join(bytes([len(path)]) + b"".join(path) for path in paths))


def large(size, pick):
    data = entries(size)
    index, old = pick.randrange(size), pick.randrange(1, size)
    return {
        "size": size, "root": reference.tree_root(data).hex(), "index": index,
        "inclusion": [node.hex() for node in reference.inclusion_proof(index, data)],
        "old_size": old, "old_root": reference.tree_root(data[:old]).hex(),
        "consistency": [node.hex() for node in reference.consistency_proof(old, data)],
    }


def main():
    # The same subtrees come up again and again.
    reference.tree_root = functools.lru_cache(maxsize=None)(reference.tree_root)
    every = entries(300)
    small = []
    for size in range(301):
        data = every[:size]
        small.append({"size": size, "root": reference.tree_root(data).hex(), "proofs": fingerprint(data).hex()})
    reference.tree_root.cache_clear()
    pick = random.Random("zeroauth.audit/log/v1")
    lines = {"small": small, "large": [large(size, pick) for size in LARGE for _ in range(2)]}
    print('{"about": "roots and proofs of the reference implementation, see pgrx-tests/reference/log_vectors.py",')
    parts = (f'"{name}": [\n' + ",\n".join(json.dumps(line) for line in part) + "\n]" for name, part in lines.items())
    print(",\n".join(parts) + "}")


main()
