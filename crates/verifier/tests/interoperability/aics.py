"""Holds a log written by our tests against aics-tlog, and asks a real aics-witness for cosignatures over HTTP.

Argument: the folder that python.rs wrote; `cosigned` and `witness.vkey` are written there.
"""
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import aics_tlog as tlog
import aics_witness as witness
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

folder = Path(sys.argv[1])
log_key = tlog.parse_vkey((folder / "log.vkey").read_text())
cosigner = tlog.parse_vkey((folder / "cosigner.vkey").read_text())
leaves = [bytes.fromhex(line) for line in (folder / "leaves").read_text().split("\n")]


def require(what, held):
    if not held:
        sys.exit(f"refused: {what}")


checkpoints = []
for number in range(3):
    text = (folder / f"checkpoint-{number}").read_bytes()
    note = tlog.parse_note(text)
    checkpoint = tlog.parse_checkpoint(note.text)
    result = tlog.verify_checkpoint(note, log_key, expected_origin=checkpoint.origin)
    require(f"checkpoint {number}: {result}", result.log_ok)
    # The log's own cosignature, with the time.
    result = tlog.verify_checkpoint(note, log_key, [cosigner], 1)
    require(f"time of checkpoint {number}: {result}", result.ok)
    checkpoints.append(checkpoint)
    changed = tlog.parse_note(text.replace(f"\n{checkpoint.size}\n".encode(), f"\n{checkpoint.size - 1}\n".encode(), 1))
    require("a changed checkpoint was accepted", not tlog.verify_checkpoint(changed, log_key).log_ok)

newest = checkpoints[-1]
reader = tlog.FileSystemTileReader(folder)
tlog.audit_tiles(reader, newest.size, newest.root, entries=False)
for checkpoint in checkpoints:
    root = tlog.tree_root_from_tiles(reader, checkpoint.size, newest.size)
    require(f"root of {checkpoint.size} leaves", root == checkpoint.root)
    proof = tlog.consistency_proof_from_tiles(reader, checkpoint.size, newest.size)
    held = tlog.verify_consistency(checkpoint.size, newest.size, checkpoint.root, newest.root, proof)
    require(f"consistency of {checkpoint.size} leaves", held)
found = 0
for path in folder.glob("inclusion-*"):
    index = int(path.name.split("-")[1])
    proof = [bytes.fromhex(line) for line in path.read_text().split("\n")]
    require(f"proof of leaf {index}", tlog.verify_inclusion(leaves[index], index, newest.size, proof, newest.root))
    require(f"same proof of leaf {index}", tlog.inclusion_proof_from_tiles(reader, index, newest.size) == proof)
    found += 1
require("there are five proofs", found == 5)

key = Ed25519PrivateKey.generate()
log = witness.LogConfig.from_strings(newest.origin, [(folder / "log.vkey").read_text()])
store = witness.WitnessStore(folder / "witness.db", create=True)
server = witness.make_server(witness.Witness("witness.example/w1", key, store, [log]))
threading.Thread(target=server.serve_forever, daemon=True).start()


def ask(request):
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + "/add-checkpoint", data=request, method="POST"), timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


requests = [(folder / f"request-{number}").read_bytes() for number in range(3)]
for number, request in enumerate(requests):
    status, lines = ask(request)
    require(f"request {number}: {status} {lines}", status == 200)
# It has seen more since.
status, size = ask(requests[1])
require(f"an old request: {status} {size}", status == 409 and size == b"%d\n" % newest.size)
# A log that is not continued: the proof of another one.
head, rest = requests[2].split(b"\n", 1)
spoiled = b"old %d\n" % newest.size + rest
status, body = ask(spoiled)
require(f"a wrong proof: {status} {body}", status == 422)

cosigned = (folder / "checkpoint-2").read_bytes() + lines
vkey = tlog.cosignature_vkey("witness.example/w1", key.public_key())
result = tlog.verify_checkpoint(tlog.parse_note(cosigned), log_key, [vkey], 1)
require(f"cosigned: {result}", result.ok)
(folder / "cosigned").write_bytes(cosigned)
(folder / "witness.vkey").write_text(tlog.format_vkey(vkey))
(folder / "other.vkey").write_text(
    tlog.format_vkey(tlog.cosignature_vkey("witness.example/w2", Ed25519PrivateKey.generate().public_key())))
server.shutdown()
print("all accepted")
