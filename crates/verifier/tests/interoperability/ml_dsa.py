"""Checks ML-DSA-44 cosignatures with OpenSSL's implementation, and makes one: C2SP tlog-cosignature, written from its text.

ml_dsa.py DIR: reads DIR/vkey and DIR/note, whose last line must be by that key; writes DIR/their-vkey and DIR/cosigned, the note with
a line by a key made here.
"""
import base64
import hashlib
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

folder = pathlib.Path(sys.argv[1])


def read(name): return (folder / name).read_text(encoding="utf-8")


def key_id(name, public): return hashlib.sha256(name.encode() + b"\n\x06" + public).digest()[:4]


def message(cosigner, time, body):
    origin, size, root = body.split("\n")[:3]
    name, origin = cosigner.encode(), origin.encode()
    return (b"subtree/v1\n\0" + bytes([len(name)]) + name + struct.pack(">Q", time) + bytes([len(origin)]) + origin
            + struct.pack(">QQ", 0, int(size)) + base64.b64decode(root))


name, identity, material = read("vkey").strip().split("+", 2)
material = base64.b64decode(material)
assert material[0] == 6 and len(material) == 1 + 1312
public = material[1:]
assert key_id(name, public).hex() == identity

note = read("note")
body, lines = note.split("\n\n")
body += "\n"
signer, line = lines.strip().split("\n")[-1].removeprefix("\u2014 ").split(" ")
line = base64.b64decode(line)
assert signer == name and line[:4] == key_id(name, public) and len(line) == 4 + 8 + 2420
time, = struct.unpack(">Q", line[4:12])
key = MLDSA44PublicKey.from_public_bytes(public)
key.verify(line[12:], message(name, time, body))
try: key.verify(line[12:], message(name, time + 1, body))
except InvalidSignature: pass
else: raise AssertionError("another time")

secret = MLDSA44PrivateKey.generate()
theirs = secret.public_key().public_bytes_raw()
witness, time = "witness.example/ml", 1_796_000_123
signed = key_id(witness, theirs) + struct.pack(">Q", time) + secret.sign(message(witness, time, body))
(folder / "their-vkey").write_text(f"{witness}+{key_id(witness, theirs).hex()}+{base64.b64encode(bytes([6]) + theirs).decode()}")
(folder / "cosigned").write_text(note + f"\u2014 {witness} {base64.b64encode(signed).decode()}\n", encoding="utf-8")
print("accepted")
