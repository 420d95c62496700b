#!/usr/bin/env python3
"""Writes crates/core/tests/vectors/registry_v1.json: labels, entries and whole histories of run files, good and bad.

    registry_vectors.py > ../../crates/core/tests/vectors/registry_v1.json

`histories` are made by the writer below, which keeps every leaf and knows nothing of compact ranges being extended; what a reader
says of them is stated here by hand, and compared with the reference before anything is written. A bad history is a good one with
one defect, signed again by the true key where the attacker has it.

  files      number, day (the folder) and the whole text; a number that is not there is a file that is missing
  first      the number at which the reader begins, without any state
  vkeys      the keys that it knows then
  problems   in order; the classes, and what a reader does after a problem, are in registry_reference.py
  restores   what a verdict names of the entries that hold; `lost` are leaves of the tree before that the tree to which it was
             restored does not have
  logs       label: epoch, size, root of every log that is not closed, as the reader holds them at the end
  size, root of the registry; root is null when the reader no longer knows it

The leaf hash of an event is that of the entry SHA-256(tenant, "/", branch, "/", chain, "/", seq), all decimal, in a tree of
section 11. A branch is a number that grows when a history is rewritten or a database restored.
"""
import copy
import dataclasses
import json
import random
import sys

import audit_reference as audit
import ed25519
import registry_reference as reg
from audit_reference import sha
from registry_reference import Block, b64

ORIGIN = "db.example"
SEED, NEXT_SEED, WITNESS_SEED, STRANGE_SEED, NAME_KEY = (
    sha(b"zeroauth.audit/registry/v1/" + name) for name in (b"key", b"next", b"witness", b"strange", b"name key"))
VKEY, NEXT_VKEY = (reg.vkey(ORIGIN, ed25519.public(seed)) for seed in (SEED, NEXT_SEED))
WITNESS_VKEY = reg.vkey("witness.example", ed25519.public(WITNESS_SEED))
A, B, C, D = "acme", "b\u00fccher", "initech", "umbrella"
START = 1_796_000_000       # 2026-11-30T00:53:20Z
MISMATCH, TRUNCATED, MISSING, FORGED, UNREADABLE = "checkpoint_mismatch", "tail_truncated", "tenant_missing", "forged", "unreadable"


def label(tenant): return reg.label(NAME_KEY, tenant)


@dataclasses.dataclass
class Tenant:
    name: str
    epoch: int = 0
    leaves: list = dataclasses.field(default_factory=list)
    ends: dict = dataclasses.field(default_factory=dict)
    index: int | None = None

    def root(self): return reg.range_root(reg.compact(self.leaves))


class Writer:
    """An honest registry, unless it is told otherwise."""

    def __init__(self):
        self.tenants, self.states, self.closed = {}, {}, set()
        self.leaves, self.pending, self.files, self.checkpoints = [], [], [], []
        self.time, self.day, self.branch, self.seeds = START, "2026/11/30", 0, [SEED]
        self.writer = (7001, 5)

    def next(self): return len(self.leaves) + len(self.pending)

    def put(self, text, **rest):
        block = Block(text, **rest)
        self.pending.append(block)
        return block

    def tenant(self, name): return self.tenants.setdefault(name, Tenant(name))

    def state(self, tenant):
        """Every entry keeps the tree that it states."""
        self.states[self.next()] = copy.deepcopy(tenant)
        tenant.index = self.next()

    def append(self, tenant, chains):
        """New events: (chain, from, to) of each."""
        intervals = []
        for chain, count in sorted(chains.items()):
            start = tenant.ends.get(chain, 0)
            for seq in range(start + 1, start + count + 1):
                entry = sha(f"{tenant.name}/{self.branch}/{chain}/{seq}".encode())
                tenant.leaves.append(audit.leaf_hash(entry))
            tenant.ends[chain] = start + count
            intervals.append((chain, start, start + count))
        return intervals

    def log(self, name, chains, restored=(), edge=None, base=None, **other):
        """An entry `log`; `other` are fields that it states instead of the true ones."""
        tenant = self.tenant(name)
        start = len(tenant.leaves) if base is None else base
        intervals = self.append(tenant, chains)
        true = {"epoch": tenant.epoch, "size": len(tenant.leaves), "root": tenant.root(), "previous": tenant.index}
        stated = true | other
        text = reg.log_text(label(name), stated["epoch"], stated["size"], stated["root"], stated["previous"], *restored)
        tenant.epoch = stated["epoch"]
        growth = reg.compact(tenant.leaves[start:], start)
        self.state(tenant)
        return self.put(text, edge=edge, intervals=intervals, growth=growth)

    def restore(self, name, index, chains, **other):
        """A new epoch that continues the tree of entry `index`, or the empty one."""
        tenant = self.tenant(name)
        named = self.states[index] if index is not None else Tenant(name)
        tenant.leaves, tenant.ends = list(named.leaves), dict(named.ends)
        tenant.epoch += 1
        self.branch += 1
        return self.log(name, chains, restored=(index,), edge=reg.compact(tenant.leaves), **other)

    def names(self): return self.put(reg.names_text(NAME_KEY))

    def snapshot(self, without=(), order=None, count=None):
        """Returns the blocks between begin and end by name."""
        self.put(reg.snapshot_begin_text())
        names = order or sorted((name for name in self.tenants if name not in self.closed), key=label)
        blocks = {name: self.repeat(name) for name in names if name not in without}
        self.end = self.put(reg.snapshot_end_text(len(blocks) if count is None else count))
        return blocks

    def repeat(self, name, *restored, **other):
        tenant = self.tenants[name]
        stated = {"epoch": tenant.epoch, "size": len(tenant.leaves), "root": tenant.root(), "previous": tenant.index} | other
        text = reg.log_text(label(name), stated["epoch"], stated["size"], stated["root"], stated["previous"], *restored)
        self.state(tenant)
        return self.put(text, edge=reg.compact(tenant.leaves))

    def close(self, name):
        self.closed.add(name)
        return self.put(reg.close_text(label(name)))

    def root(self): return reg.range_root(reg.compact(self.leaves))

    def seal(self, *, note=None, lines=None, body=None, cosigned=(), anchored=(), day=None, seconds=300, **other):
        """One run. `other` replaces fields of the run; `note`, `body` and `lines` what is signed."""
        before, blocks = len(self.leaves), self.pending
        self.time += seconds
        self.day = day or self.day
        self.leaves += [reg.leaf_hash(block.data) for block in blocks]
        self.pending = []
        body = body or reg.checkpoint(ORIGIN, len(self.leaves), self.root())
        if note is None: note = body + b"\n" + lines(body) if lines else reg.sign_note(body, ORIGIN, self.seeds, self.time)
        self.checkpoints.append((len(self.leaves), self.root(), note))
        number = self.files[-1]["number"] + 1 if self.files else 1
        begins = bool(blocks) and blocks[0].data == reg.snapshot_begin_text()
        run = reg.Run(number, sha(self.files[-1]["data"]) if self.files else None, self.writer, before, len(self.leaves),
                      reg.compact(self.leaves[:before]) if begins else None, blocks, note, list(cosigned), list(anchored))
        for field, value in other.items(): setattr(run, field, value)
        self.files.append({"number": number, "day": self.day, "data": reg.write_run(run)})

    def cosign(self, number):
        """The note of file `number`, with a witness's signature."""
        note = self.checkpoints[number - 1][2]
        body, _ = reg.open_note(note)
        return note + reg.signature(4, "witness.example", WITNESS_SEED, body, self.time + 1)

    def logs(self):
        return {b64(label(name)): [tenant.epoch, len(tenant.leaves), b64(tenant.root())]
                for name, tenant in sorted(self.tenants.items(), key=lambda item: label(item[0])) if name not in self.closed}


HISTORIES = []


def history(problems=(), first=1, vkeys=(VKEY,), restores=None):
    """A function that writes a history; `restores` and an empty list of problems say that the writer was honest."""
    def register(write):
        writer = Writer()
        files = write(writer) or writer.files
        case = {"name": write.__name__, "first": first, "vkeys": list(vkeys),
                "files": [{"number": file["number"], "day": file["day"], "text": file["data"].decode("utf-8")} for file in files]}
        found = reg.replay_history(case)
        case |= reg.outcome(found)
        stated = [{"file": file, "class": kind} for file, kind in problems]
        if case["problems"] != stated: sys.exit(f"{write.__name__}: {found.problems} instead of {stated}")
        if not problems:
            restored = [tuple(restore.values()) for restore in case["restores"]]
            expected = [(file, b64(label(name)), epoch, to(writer) if callable(to) else to, lost)
                        for file, name, epoch, to, lost in restores or []]
            assert restored == expected, (write.__name__, restored)
            assert (case["logs"], case["size"], case["root"]) == (writer.logs(), len(writer.leaves), b64(writer.root())), write.__name__
        assert write.__name__ not in [other["name"] for other in HISTORIES]
        HISTORIES.append(case)
        return write
    return register


def opening(w):
    """File 1: names, A and B."""
    w.names()
    w.log(A, {0: 3, 3: 2})
    w.log(B, {0: 2})
    w.seal()


# --- Good ones -------------------------------------------------------------------------------------------------------
@history()
def growth_and_silence(w):
    pick = random.Random("growth")
    w.writer = (7431290155126011234, 16384)
    w.names()
    w.log(A, {0: 1})
    w.seal()
    w.seal(seconds=60)
    for run in range(4):
        for name in (A, B, C, D)[:run + 1]:
            w.log(name, {chain: pick.randrange(1, 60) for chain in sorted(pick.sample((0, 1, 3, 17, 4000), pick.randrange(1, 4)))})
        w.seal(day="2026/12/01" if run == 3 else None)
    w.seal(day="2027/01/01")


@history()
def powers_of_two(w):
    w.names()
    for size in (1, 1, 2, 4, 8, 1, 15, 32, 1, 1): w.log(A, {0: size})
    w.seal()


@history()
def snapshots(w):
    opening(w)
    w.log(A, {0: 4})
    w.snapshot()
    w.log(B, {0: 1, 2: 9})
    w.log(C, {5: 7})
    w.seal()
    w.snapshot()
    w.seal()
    w.log(A, {3: 1})
    w.snapshot()
    w.snapshot()
    w.log(C, {5: 1})
    w.seal()


@history()
def the_order_of_labels_is_not_that_of_base64(w):
    w.names()
    names = sorted((A, B, C, D, "e", "f", "g"), key=label)
    assert names != sorted(names, key=lambda name: b64(label(name)))
    for name in names: w.log(name, {0: 1})
    w.snapshot()
    w.seal()


@history()
def a_snapshot_of_nothing(w):
    w.names()
    w.snapshot()
    w.log(A, {0: 1})
    w.seal()


@history(first=3)
def begins_at_a_snapshot(w):
    opening(w)
    w.log(A, {1: 6})
    w.seal()
    w.snapshot()
    w.log(B, {0: 1})
    w.seal()
    w.log(A, {1: 2, 7: 1})
    w.log(C, {0: 2})
    w.seal()


@history(restores=[(2, A, 1, 1, 0), (3, A, 2, 4, 3), (4, A, 3, 1, 4), (5, B, 1, None, 2), (6, A, 4, None, 6), (6, B, 2, 8, 0)])
def restores(w):
    opening(w)
    w.restore(A, 1, {})             # 3: to the entry before, nothing new
    w.log(A, {0: 1})                # 4
    w.log(A, {0: 1, 3: 2})          # 5
    w.seal()
    w.restore(A, 4, {0: 3})         # 6: to an older one
    w.seal()
    w.restore(A, 1, {3: 1})         # 7: to one of an earlier epoch
    w.seal()
    w.restore(B, None, {0: 1})      # 8
    w.seal()
    w.restore(A, None, {0: 4, 1: 4})
    w.restore(B, 8, {0: 5})
    w.snapshot()
    w.seal()
    w.log(A, {1: 1})
    w.log(B, {0: 1})
    w.seal()


@history(restores=[(3, A, 1, 1, 8), (4, A, 2, 3, 4)])
def restored_to_an_entry_of_a_branch_that_was_left(w):
    opening(w)
    w.log(A, {0: 8})                # 3: 13 events
    w.seal()
    w.restore(A, 1, {0: 4})         # 4: 9 events
    w.seal()
    w.restore(A, 3, {0: 1})         # 5: continues the 13 of entry 3; the last 4 of entry 4 are lost
    w.seal()


@history(first=3, restores=[(4, A, 1, 1, 4), (4, B, 1, 4, 0)])
def restored_to_entries_that_this_reader_did_not_read(w):
    opening(w)
    w.log(A, {0: 4})                # 3
    w.log(B, {0: 1})                # 4
    w.seal()
    w.snapshot()                    # 5 to 8
    w.seal()
    w.restore(A, 1, {0: 2})         # its size follows from the intervals
    w.restore(B, 4, {})             # the entry that the snapshot repeats
    w.seal()
    w.log(A, {0: 1})
    w.seal()


@history()
def erase_purge_and_close(w):
    opening(w)
    w.log(A, {0: 8})
    w.put(reg.erase_text(label(A), 0, 12, 3))
    w.put(reg.erase_text(label(B), 0, 0, 1))
    size = 5
    w.put(reg.purge_text(label(A), 0, size, reg.range_root(reg.compact(w.tenants[A].leaves[:size]))))
    w.put(reg.purge_text(label(A), 0, 13, w.tenants[A].root()))
    w.seal()
    w.close(B)
    w.log(A, {0: 1})
    w.seal()
    w.snapshot()
    w.log(C, {0: 1})
    w.close(C)
    w.close(A)
    w.snapshot()
    w.seal()


@history(restores=[(2, B, 1, 3, 0)])
def continues_another_registry(w):
    w.put(reg.after_text("old.example", 1234, sha(b"the end of the other one")))
    w.names()
    w.tenant(A).epoch = 3
    w.log(A, {0: 30, 2: 4})
    w.log(B, {0: 2})
    w.seal()
    w.log(A, {0: 1})
    w.restore(B, 3, {0: 2})
    w.log(C, {0: 2})
    w.seal()


def take_over(w):
    """Entries 2 to 5: a snapshot of two logs of the registry that is continued."""
    w.put(reg.after_text("old.example", 1234, sha(b"the end of the other one")))
    w.names()
    w.append(w.tenant(A), {0: 30, 2: 4})
    w.append(w.tenant(B), {0: 2})
    w.tenant(A).epoch = 3


@history(restores=[(3, B, 1, lambda w: w.taken, 0)])
def continues_another_registry_and_takes_over_its_logs(w):
    take_over(w)
    w.snapshot()
    w.taken = w.tenants[B].index
    w.seal()
    w.log(A, {0: 1, 5: 3})
    w.log(C, {0: 2})
    w.seal()
    w.restore(B, w.taken, {0: 2})
    w.snapshot()
    w.seal()
    w.log(A, {2: 1})
    w.seal()


def rotation(w):
    opening(w)
    w.put(reg.key_text(NEXT_VKEY))
    w.seeds = [SEED, NEXT_SEED]
    w.seal()
    w.seeds = [NEXT_SEED]
    w.log(A, {0: 1})
    w.seal()
    w.snapshot()
    w.seal(cosigned=[w.cosign(3)])


@history()
def rotation_of_the_key(w): rotation(w)


@history(vkeys=(NEXT_VKEY, VKEY))
def rotation_of_the_key_with_both_known(w): rotation(w)


@history(first=4, vkeys=(NEXT_VKEY,))
def begins_after_a_rotation(w): rotation(w)


EVIDENCE = b'{"example":["\xc3\xa9",1]}\n'


@history()
def cosigned_and_anchored(w):
    opening(w)
    first = (3, w.root())
    w.log(A, {0: 1})
    w.seal(cosigned=[w.cosign(1)])
    w.seal(anchored=[("evm", *first, EVIDENCE)])
    w.log(A, {0: 1})
    second = (4, w.checkpoints[1][1])
    w.seal(anchored=[("rfc3161", *first, EVIDENCE), ("file", *second, EVIDENCE)], cosigned=[w.cosign(3), w.cosign(2)])


# --- Logs that did not only grow -------------------------------------------------------------------------------------
def rewrite(w, name, leaf=1): w.tenants[name].leaves[leaf] = audit.leaf_hash(b"rewritten")


@history([(3, TRUNCATED)])
def a_log_shrinks(w):
    opening(w)
    w.log(A, {0: 4})
    w.seal()
    del w.tenants[A].leaves[7:]
    w.log(A, {})
    w.log(B, {0: 1})
    w.seal()
    w.log(A, {0: 3})                # its growth is not checked
    w.log(B, {0: 1})
    w.seal()
    w.snapshot()
    w.log(A, {0: 1})                # here it is
    w.seal()


@history([(2, MISMATCH), (4, MISMATCH), (5, MISMATCH)])
def rewritten_events_below_a_true_growth(w):
    opening(w)
    rewrite(w, A)
    w.log(A, {0: 2})
    w.seal()
    w.log(A, {0: 2})                # no longer checked
    w.log(B, {0: 2})
    w.seal()
    w.snapshot()
    rewrite(w, A, 2)
    w.log(A, {0: 2})                # the snapshot gave an edge
    w.seal()
    rewrite(w, B, 0)
    w.log(B, {0: 2})
    w.seal()


@history([(2, MISMATCH)])
def a_larger_tree_of_other_events(w):
    opening(w)
    tenant = w.tenants[A]
    tenant.leaves, tenant.ends, w.branch = [], {}, 1
    block = w.log(A, {0: 5, 3: 4}, base=5)
    block.intervals = [(0, 3, 5), (3, 2, 4)]
    w.seal()


@history([(2, MISMATCH)])
def a_growth_with_a_wrong_hash(w):
    opening(w)
    w.log(A, {0: 3}).growth[1] = sha(b"wrong")
    w.seal()


@history([(2, MISMATCH)])
def a_growth_in_another_order(w):
    opening(w)
    block = w.log(A, {0: 3})
    block.growth.reverse()
    assert len(block.growth) == 2
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH)])
def a_growth_with_another_number_of_hashes(w):
    opening(w)
    w.log(A, {0: 3}).growth.pop()
    w.log(B, {0: 3}).growth.append(sha(b"more"))
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH), (2, MISMATCH)])
def intervals_that_do_not_add_up(w):
    opening(w)
    w.log(A, {0: 3}).intervals = [(0, 3, 7)]
    w.log(B, {0: 3}).intervals = []
    w.log(C, {0: 3, 1: 3}).intervals = [(0, 0, 3)]
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH), (2, MISMATCH)])
def intervals_with_a_hole_or_an_overlap(w):
    opening(w)
    w.log(A, {0: 3}).intervals = [(0, 4, 7)]
    w.log(B, {0: 2}).intervals = [(0, 1, 3)]
    w.log(C, {0: 3}).intervals = [(0, 1, 4)]
    w.seal()


@history([(3, MISMATCH)])
def two_lineages_of_a_label(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.tenants[A] = copy.deepcopy(w.states[1])
    w.branch = 1
    w.log(A, {0: 4}, previous=1)
    w.seal()


@history([(2, MISMATCH), (3, MISMATCH), (4, MISMATCH), (5, MISMATCH)])
def previous_is_not_the_newest_entry(w):
    opening(w)
    w.log(A, {0: 1}, previous=2)    # of another label
    w.seal()
    w.log(A, {0: 1}, previous=4)    # itself
    w.log(B, {0: 1})
    w.seal()
    w.log(B, {0: 1}, previous=7)    # later
    w.seal()
    w.log(C, {0: 1}, previous=1)    # the first of its label
    w.seal()


@history([(2, MISMATCH)])
def previous_is_none_of_a_known_label(w):
    opening(w)
    w.log(A, {0: 1}, previous=None)
    w.seal()


@history([(2, MISMATCH)])
def the_same_size_again(w):
    opening(w)
    w.log(A, {})
    w.seal()


@history([(2, MISMATCH)])
def the_same_size_with_another_root(w):
    opening(w)
    rewrite(w, A)
    w.log(A, {})
    w.seal()


# --- Epochs ----------------------------------------------------------------------------------------------------------
@history([(2, MISMATCH)])
def an_epoch_is_skipped(w):
    opening(w)
    w.tenants[A].epoch += 1
    w.restore(A, 1, {0: 1})
    w.seal()


@history([(2, MISMATCH)])
def an_epoch_without_restored(w):
    opening(w)
    w.log(A, {0: 1}, epoch=1)
    w.seal()


@history([(2, MISMATCH)])
def an_epoch_goes_back(w):
    opening(w)
    w.restore(A, 1, {0: 1})
    w.log(A, {0: 1}, epoch=0)
    w.seal()


@history([(2, MISMATCH)])
def restored_in_the_same_epoch(w):
    opening(w)
    w.tenants[A].epoch -= 1
    w.restore(A, 1, {0: 1})
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH), (2, MISMATCH)])
def a_first_entry_with_an_epoch_or_restored(w):
    opening(w)
    w.log(C, {0: 1}, epoch=1)
    w.restore(D, None, {0: 1}, epoch=0)
    w.restore("e", None, {0: 1})
    w.seal()


def falsely_restored(w, name, stated, real, chains, **other):
    """Continues the tree of entry `real` and names another one."""
    named = w.states[real]
    tenant = w.tenants[name]
    tenant.leaves, tenant.ends = list(named.leaves), dict(named.ends)
    return w.log(name, chains, restored=(stated,), edge=reg.compact(tenant.leaves), epoch=tenant.epoch + 1, **other)


@history([(2, MISMATCH), (3, MISMATCH)])
def restored_above_previous(w):
    opening(w)
    falsely_restored(w, A, 3, 1, {0: 1})            # itself
    w.seal()
    w.log(A, {0: 1})
    falsely_restored(w, B, 4, 2, {0: 1})            # above, and of another label
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH)])
def restored_to_what_is_no_entry_of_this_label(w):
    opening(w)
    falsely_restored(w, B, 1, 1, {0: 1})
    falsely_restored(w, A, 0, 1, {0: 1})
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH), (3, MISMATCH)])
def restored_to_another_tree_than_that_of_the_entry(w):
    opening(w)
    w.log(A, {0: 4})                                # 3
    w.log(C, {0: 4})                                # 4
    falsely_restored(w, A, 3, 1, {0: 6})            # claims that nothing is lost
    falsely_restored(w, B, 2, 2, {0: 1}).edge = []
    w.seal()
    rewrite(w, C)
    w.states[4] = w.tenants[C]
    falsely_restored(w, C, 4, 4, {0: 1})
    w.seal()


@history([(2, MISMATCH), (2, MISMATCH)])
def restored_with_another_growth(w):
    opening(w)
    falsely_restored(w, A, 1, 1, {0: 3}).growth[0] = sha(b"wrong")
    falsely_restored(w, B, 2, 2, {0: 3}).intervals = [(0, 2, 6)]
    w.seal()


@history([(2, MISMATCH)])
def restored_and_smaller_than_the_named_entry(w):
    opening(w)
    named = copy.deepcopy(w.tenants[A])
    del named.leaves[4:]
    w.states[9] = named
    block = falsely_restored(w, A, 1, 9, {})
    block.edge = reg.compact(w.states[1].leaves)
    w.seal()


@history([(2, MISMATCH)])
def restored_to_nothing_with_an_edge(w):
    opening(w)
    falsely_restored(w, A, None, 1, {0: 1})
    w.seal()


# --- Snapshots -------------------------------------------------------------------------------------------------------
def begin(w, names=(A, B)):
    """Begins file 1 with a few labels; returns their names in the order of labels."""
    w.names()
    for name in names: w.log(name, {0: 3, 3: 2} if name == A else {0: 1})
    return sorted(names, key=label)


def three(w): return begin(w, (A, B, C))


@history([(1, MISMATCH)])
def a_snapshot_out_of_order(w):
    first, second, third = three(w)
    w.snapshot(order=[first, third, second])
    w.seal()
    w.log(second, {0: 1})
    w.log(third, {0: 1})
    w.seal()


@history([(1, MISSING), (3, MISSING), (3, MISSING)])
def a_snapshot_without_a_label(w):
    names = three(w)
    w.snapshot(without=[A])
    w.seal()
    w.log(A, {0: 1})
    w.snapshot()
    w.seal()
    w.snapshot(without=names[1:])
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_another_count(w):
    begin(w)
    w.snapshot(count=3)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_a_label_twice(w):
    first, second, third = three(w)
    w.snapshot(order=[first, second, second, third], count=4)
    w.seal()


@history([(2, MISMATCH), (4, MISMATCH)])
def a_snapshot_with_another_root(w):
    begin(w)
    w.seal()
    rewrite(w, A)
    w.snapshot()
    w.seal()
    w.log(A, {0: 1})                # not checked
    w.log(B, {0: 1})
    w.seal()
    w.snapshot()
    rewrite(w, A)
    rewrite(w, A, 0)
    w.log(A, {0: 1})
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_a_wrong_edge(w):
    begin(w)
    w.snapshot()[A].edge[0] = sha(b"wrong")
    w.seal()


def altered_snapshot(w, name, *restored, **other):
    w.put(reg.snapshot_begin_text())
    names = sorted((name for name in w.tenants if name not in w.closed), key=label)
    for each in names:
        if each == name: w.repeat(each, *restored, **other)
        else: w.repeat(each)
    w.put(reg.snapshot_end_text(len(names)))


@history([(1, TRUNCATED)])
def a_snapshot_with_a_smaller_size(w):
    begin(w)
    del w.tenants[A].leaves[4:]
    altered_snapshot(w, A)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_a_larger_size(w):
    begin(w)
    w.append(w.tenants[A], {0: 1})
    altered_snapshot(w, A)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_another_epoch(w):
    begin(w)
    altered_snapshot(w, A, epoch=1)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_another_previous(w):
    begin(w)
    altered_snapshot(w, A, previous=2)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_restored(w):
    begin(w)
    altered_snapshot(w, A, 1)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_a_label_that_has_no_entry(w):
    begin(w)
    w.append(w.tenant(D), {0: 1})
    altered_snapshot(w, D)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_a_closed_label(w):
    names = begin(w)
    w.close(A)
    w.snapshot(order=names)
    w.seal()


@history([(1, MISMATCH)])
def a_snapshot_with_another_kind(w):
    names = begin(w)
    w.put(reg.snapshot_begin_text())
    for name in names: w.repeat(name)
    w.put(reg.erase_text(label(A), 0, 1, 1))
    w.put(reg.snapshot_end_text(2))
    w.seal()


@history([(1, MISMATCH), (2, MISMATCH)])
def a_snapshot_that_does_not_end_and_one_that_does_not_begin(w):
    names = begin(w)
    w.put(reg.snapshot_begin_text())
    for name in names: w.repeat(name)
    w.seal()
    w.put(reg.snapshot_end_text(2))
    w.seal()


# --- erase, purge, close ---------------------------------------------------------------------------------------------
@history([(2, MISMATCH), (3, MISMATCH), (4, MISMATCH), (4, MISMATCH)])
def an_entry_after_close(w):
    opening(w)
    w.close(A)
    w.log(A, {0: 1})
    w.seal()
    w.log(A, {0: 1})
    w.log(B, {0: 1})
    w.seal()
    w.put(reg.close_text(label(A)))
    w.put(reg.erase_text(label(A), 0, 0, 1))
    w.seal()


@history([(1, MISMATCH)] * 4)
def an_erase_that_cannot_be(w):
    w.names()
    w.log(A, {0: 3})
    w.put(reg.erase_text(label(A), 0, 3, 1))        # beyond the size
    w.put(reg.erase_text(label(A), 0, 2, 0))        # of no event
    w.put(reg.erase_text(label(A), 1, 2, 1))        # of another epoch
    w.put(reg.erase_text(label(B), 0, 0, 1))        # of a label without entry
    w.log(A, {0: 1})                                # is checked, and holds
    w.seal()


@history([(1, MISMATCH)] * 5)
def a_purge_that_cannot_be(w):
    w.names()
    w.log(A, {0: 3})
    root = w.tenants[A].root()
    w.put(reg.purge_text(label(A), 0, 4, root))     # beyond the size
    w.put(reg.purge_text(label(A), 0, 0, sha(b""))) # of no leaf
    w.put(reg.purge_text(label(A), 1, 3, root))     # of another epoch
    w.put(reg.purge_text(label(B), 0, 3, root))     # of a label without entry
    w.put(reg.purge_text(label(A), 0, 3, sha(b"")))  # of another tree than the newest
    w.seal()


@history([(1, MISMATCH)])
def a_close_of_an_unknown_label(w):
    w.names()
    w.put(reg.close_text(label(A)))
    w.seal()


# --- names, after, key -----------------------------------------------------------------------------------------------
@history([(2, MISMATCH)])
def names_twice(w):
    opening(w)
    w.names()
    w.log(A, {0: 1})
    w.seal()


@history([(1, MISMATCH), (1, MISMATCH)])
def names_not_first(w):
    w.log(A, {0: 1})
    w.names()
    w.seal()


@history([(1, MISMATCH)])
def no_names(w):
    w.log(A, {0: 1})
    w.seal()


@history([(1, MISMATCH)])
def after_without_names(w):
    w.put(reg.after_text(ORIGIN, 1, sha(b"")))
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)])
def after_that_is_not_first(w):
    opening(w)
    w.put(reg.after_text(ORIGIN, 1, sha(b"")))
    w.seal()


@history([(2, MISMATCH)])
def a_key_of_another_name(w):
    opening(w)
    w.put(reg.key_text(WITNESS_VKEY))
    w.seal()


@history([(2, MISMATCH), (3, UNREADABLE)])
def a_new_key_that_has_not_signed(w):
    opening(w)
    w.put(reg.key_text(NEXT_VKEY))
    w.seal()
    w.seeds = [NEXT_SEED]
    w.seal()


@history([(2, UNREADABLE)])
def a_new_key_that_signs_alone(w):
    opening(w)
    w.put(reg.key_text(NEXT_VKEY))
    w.seeds = [NEXT_SEED]
    w.seal()


# --- The registry and its checkpoints --------------------------------------------------------------------------------
@history([(3, MISMATCH)])
def a_rewritten_registry(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.leaves[3] = reg.leaf_hash(reg.log_text(label(A), 0, 6, sha(b"another root"), 1))
    w.log(B, {0: 1})
    w.seal()


@history([(3, MISMATCH), (7, MISMATCH)])
def a_rewritten_registry_goes_on(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.leaves[3] = sha(b"rewritten")
    w.log(B, {0: 1})
    w.seal()
    w.log(B, {0: 1})
    w.seal()                        # told once
    w.snapshot()
    w.seal()                        # the edge is that of the rewritten one
    w.log(A, {0: 1})
    w.seal()
    w.leaves[3] = sha(b"again")
    w.seal()


@history([(3, UNREADABLE)])
def a_rewritten_registry_behind_another_digest(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.leaves[3] = sha(b"rewritten")
    w.log(B, {0: 1})
    w.seal(after=sha(b"the rewritten file 2"))


@history([(3, UNREADABLE), (3, MISMATCH)])
def a_rewritten_registry_behind_another_digest_and_a_snapshot(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.leaves[3] = sha(b"rewritten")
    w.snapshot()
    w.seal(after=sha(b"the rewritten file 2"))
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)])
def a_checkpoint_of_another_root(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(body=reg.checkpoint(ORIGIN, 4, sha(b"another")))
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)])
def a_checkpoint_of_another_size(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(body=reg.checkpoint(ORIGIN, 5, w.root()))
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)])
def another_size_before(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(before=4, size=5, body=reg.checkpoint(ORIGIN, 5, w.root()))


@history([(2, UNREADABLE)])
def a_checkpoint_of_another_origin(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(body=reg.checkpoint("other.example", 4, w.root()))


@history()
def sealed_earlier_than_the_one_before(w):
    opening(w)
    w.seal(seconds=-1)


@history([(2, UNREADABLE)])
def an_unsigned_checkpoint(w):
    opening(w)
    w.seal(lines=lambda body: b"")


@history([(2, UNREADABLE)])
def a_checkpoint_without_cosignature(w):
    opening(w)
    w.seal(lines=lambda body: reg.signature(1, ORIGIN, SEED, body))


@history([(2, UNREADABLE)])
def a_checkpoint_with_a_cosignature_alone(w):
    opening(w)
    w.seal(lines=lambda body: reg.signature(4, ORIGIN, SEED, body, w.time))


@history([(2, UNREADABLE)])
def signed_by_an_unknown_key(w):
    opening(w)
    w.seeds = [STRANGE_SEED]
    w.log(A, {0: 1})
    w.seal()
    w.seeds = [SEED]
    w.log(A, {0: 1})
    w.seal()                        # skipped
    w.snapshot()
    w.seal()
    w.log(B, {0: 1})
    w.seal()


@history([(2, UNREADABLE)])
def signed_in_another_name(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(lines=lambda body: reg.sign_note(body, ORIGIN + "/acme", [SEED], w.time)[len(body) + 1:])


def forge(kind, name, body, time):
    """A line of the true key with the signature of another."""
    public = ed25519.public(SEED)
    data = ed25519.sign(STRANGE_SEED, body if kind == 1 else reg.cosignature_text(body, time))
    sealed = b"" if kind == 1 else time.to_bytes(8, "big")
    return reg.signature_line(name, reg.key_id(name, kind, public) + sealed + data)


@history([(2, FORGED)])
def a_forged_signature(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(lines=lambda body: forge(1, ORIGIN, body, w.time) + reg.signature(4, ORIGIN, SEED, body, w.time))
    w.snapshot()
    w.seal()


@history([(2, FORGED)])
def a_forged_cosignature(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal(lines=lambda body: reg.signature(1, ORIGIN, SEED, body) + forge(4, ORIGIN, body, w.time))


@history([(2, FORGED)])
def a_cosignature_with_another_time(w):
    opening(w)
    true = reg.open_note(w.checkpoints[0][2])[1][1][2]
    later = (w.time + 1000).to_bytes(8, "big") + true[8:]
    identity = reg.key_id(ORIGIN, 4, ed25519.public(SEED))
    w.seal(lines=lambda body: reg.signature(1, ORIGIN, SEED, body) + reg.signature_line(ORIGIN, identity + later))


@history([(2, MISMATCH), (3, MISMATCH)])
def cosigned_statements_that_contradict(w):
    opening(w)
    w.log(A, {0: 1})
    def other(size, root):
        body = reg.checkpoint(ORIGIN, size, root)
        return reg.sign_note(body, ORIGIN, [SEED], w.time) + reg.signature(4, "witness.example", WITNESS_SEED, body, w.time)
    w.seal(cosigned=[other(3, sha(b"another"))])
    w.seal(cosigned=[other(2, w.root())])


@history([(2, MISMATCH), (2, MISMATCH), (2, MISMATCH)])
def anchors_that_contradict(w):
    opening(w)
    root = w.root()
    w.log(A, {0: 1})
    stated = [(3, sha(b"another")), (2, root), (3, root), (400, root)]
    w.seal(anchored=[("evm", size, top, EVIDENCE) for size, top in stated])


@history([(2, MISMATCH)])
def the_edge_of_the_registry_is_wrong(w):
    opening(w)
    w.snapshot()
    w.seal(edge=[sha(b"wrong"), sha(b"wrong")])
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)], first=2)
def the_edge_of_the_registry_is_wrong_where_a_reader_begins(w):
    opening(w)
    w.snapshot()
    w.seal(edge=[sha(b"wrong"), sha(b"wrong")])
    w.log(A, {0: 1})
    w.seal()


@history([(2, MISMATCH)], first=2)
def the_edge_of_the_registry_has_another_length(w):
    opening(w)
    w.snapshot()
    w.seal(edge=[sha(b"wrong")])


@history([(2, MISMATCH), (2, MISMATCH)], first=2)
def previous_in_a_snapshot_where_a_reader_begins(w):
    opening(w)
    first, second = sorted((A, B), key=label)
    w.put(reg.snapshot_begin_text())                # 3
    w.repeat(first, previous=None)
    w.repeat(second, previous=4)
    w.put(reg.snapshot_end_text(2))
    w.seal()


@history([(1, MISMATCH)])
def a_log_that_is_taken_over_names_an_entry_before(w):
    take_over(w)
    first, second = sorted((A, B), key=label)
    w.put(reg.snapshot_begin_text())
    w.repeat(first, previous=1)
    w.repeat(second)
    w.put(reg.snapshot_end_text(2))
    w.seal()
    w.log(B, {0: 1})
    w.seal()


@history([(1, MISMATCH)])
def a_log_that_is_taken_over_with_another_edge(w):
    take_over(w)
    w.snapshot()[A].edge.reverse()
    w.seal()


@history([(1, MISMATCH), (1, MISMATCH)])
def logs_that_are_taken_over_later(w):
    take_over(w)
    w.log(C, {0: 1})
    w.snapshot()
    w.seal()


@history([(1, MISMATCH)])
def a_log_that_is_taken_over_in_a_registry_that_continues_none(w):
    w.names()
    w.append(w.tenant(A), {0: 3})
    w.snapshot()
    w.seal()


# --- Files -----------------------------------------------------------------------------------------------------------
def six(w):
    """Files 1 to 6; 5 begins with a snapshot."""
    w.names()
    w.log(A, {0: 1})
    w.seal()
    for _ in range(3):
        w.log(A, {0: 1})
        w.seal()
    w.snapshot()
    w.seal()
    w.log(A, {0: 1})
    w.seal()


def without(w, *numbers): return [file for file in w.files if file["number"] not in numbers]


@history([(3, UNREADABLE)])
def a_missing_file(w):
    six(w)
    return without(w, 3)


@history([(2, UNREADABLE)])
def missing_files(w):
    six(w)
    return without(w, 2, 3, 4)


@history([(1, UNREADABLE)])
def a_missing_first_file(w):
    six(w)
    return without(w, 1, 2, 3)


@history([(4, UNREADABLE)], first=4)
def begins_where_no_snapshot_is(w):
    six(w)
    return without(w, 1, 2, 3)


@history([(3, UNREADABLE)])
def reordered_files(w):
    six(w)
    third, fourth = w.files[2:4]
    third["data"], fourth["data"] = fourth["data"], third["data"]


@history([(3, UNREADABLE), (6, MISMATCH)])
def another_digest_of_the_file_before(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    w.seal(after=sha(b"another"))
    w.log(A, {0: 1})
    w.seal()                        # skipped
    w.snapshot()
    w.seal()
    rewrite(w, B, 0)
    w.log(B, {0: 1})
    w.seal()


@history([(2, UNREADABLE), (3, MISMATCH)])
def another_digest_in_a_file_with_a_snapshot(w):
    opening(w)
    w.snapshot()
    w.seal(after=sha(b"another"))
    rewrite(w, B, 0)
    w.log(B, {0: 1})
    w.seal()


@history([(3, UNREADABLE)])
def a_file_that_was_changed_later(w):
    opening(w)
    w.seal()
    w.seal()
    w.files[1]["data"] = w.files[1]["data"].replace(b"writer 7001 5\n", b"writer 7001 6\n")


@history([(2, UNREADABLE)])
def a_number_that_is_there_twice(w):
    opening(w)
    w.log(A, {0: 1})
    w.seal()
    return w.files + [w.files[1] | {"day": "2026/12/01"}]


@history([(2, UNREADABLE)])
def a_day_that_goes_back(w):
    opening(w)
    w.seal(day="2026/11/29")


@history([(2, UNREADABLE)])
def a_folder_that_is_no_day(w):
    opening(w)
    w.seal(day="2026/11/31")


@history([(3, UNREADABLE), (4, TRUNCATED)])
def a_log_shrinks_behind_a_missing_file(w):
    opening(w)
    w.log(A, {0: 4})
    w.seal()
    del w.tenants[A].leaves[7:]
    w.log(A, {})
    w.seal()
    w.snapshot()
    w.seal()
    return without(w, 3)


@history([(2, UNREADABLE), (4, MISMATCH)])
def a_label_that_is_gone_behind_a_missing_file_comes_back(w):
    opening(w)
    w.seal()
    w.snapshot(without=[A])
    w.seal()
    w.log(A, {0: 1})
    w.seal()
    return without(w, 2)


def small(w, full):
    """Two small files; the second has everything if it is to be full."""
    w.names()
    w.log(A, {0: 1})
    w.seal()
    w.log(A, {0: 1, 2: 1})
    if full: w.seal(cosigned=[w.cosign(1)], anchored=[("evm", 2, w.checkpoints[0][1], EVIDENCE)])
    else: w.seal()


def spoiled(name, change, full=True):
    def write(w):
        small(w, full)
        data = w.files[1]["data"]
        w.files[1]["data"] = change(data)
        assert w.files[1]["data"] != data, name
    write.__name__ = name
    history([(2, UNREADABLE)])(write)


def cut(name, part, more=0):
    """Cut off behind the last place where this part ends, and so many bytes."""
    spoiled(f"cut_off_{name}", lambda data: data[:data.rindex(part) + len(part) + more])


spoiled("an_empty_file", lambda data: b"")
cut("in_the_first_line", b"run/v1")
cut("behind_the_number", b"number 2\n")
cut("in_a_digest", b"\nafter ", 20)
cut("in_a_number", b"size 2")
cut("behind_the_size", b"size 2 3\n")
cut("behind_the_length_of_an_entry", b"entry 124\n")
cut("in_an_entry", b"entry/v1\nlog ", 10)
cut("behind_an_entry", b" 0\n3\n", 47)
cut("between_intervals", b"interval 0 1 2\n")
cut("behind_the_length_of_a_growth", b"growth 2\n")
cut("in_a_growth", b"growth 2\n", 50)
cut("before_the_checkpoint", b"growth 2\n", 90)
cut("in_the_checkpoint", b"\ncheckpoint ", 40)
cut("behind_the_checkpoint", b"\ncosigned ", -9)
cut("in_a_cosigned_note", b"\ncosigned ", 60)
cut("in_an_anchor", b"anchored evm 2 ", 44)
cut("in_evidence", b'{"example":')
cut("before_the_end", b"]}\n")
cut("in_the_end", b"]}\nen")
cut("in_the_last_newline", b"\nend")


def changed(name, old, new, full=False): spoiled(name, lambda data: data.replace(old, new, 1), full)


changed("something_behind_the_end", b"\nend\n", b"\nend\n\n")
changed("another_first_line", b"run/v1", b"run/v2")
changed("another_number", b"number 2\n", b"number 3\n")
spoiled("after_none", lambda data: data[:data.index(b"after ")] + b"after none\n" + data[data.index(b"writer "):], False)
changed("a_number_with_a_leading_zero", b"size 2 3\n", b"size 2 03\n")
changed("a_number_with_a_sign", b"size 2 3\n", b"size +2 3\n")
changed("a_carriage_return", b"size 2 3\n", b"size 2 3\r\n")
changed("two_spaces", b"size 2 3\n", b"size 2  3\n")
changed("more_entries_than_the_size_says", b"size 2 3\n", b"size 2 2\n")
changed("fewer_entries_than_the_size_says", b"size 2 3\n", b"size 2 4\n")
changed("a_size_that_shrinks", b"size 2 3\n", b"size 4 3\n")
changed("an_edge_where_none_belongs", b"size 2 3\n", b"size 2 3\nedge 0\n")
changed("a_length_that_is_too_small", b"entry 124\n", b"entry 123\n")
changed("a_length_that_is_too_large", b"entry 124\n", b"entry 125\n")
changed("intervals_out_of_order", b"interval 0 1 2\ninterval 2 0 1\n", b"interval 2 0 1\ninterval 0 1 2\n")
changed("an_interval_of_nothing", b"interval 2 0 1\n", b"interval 2 0 1\ninterval 3 5 5\n")
changed("an_interval_twice", b"interval 2 0 1\n", b"interval 2 0 1\ninterval 2 0 1\n")
changed("no_growth", b"growth 2\n", b"")
changed("an_edge_of_a_log_where_none_belongs", b"interval 0 1 2\n", b"edge 0\ninterval 0 1 2\n")
changed("a_kind_of_anchor_in_upper_case", b"anchored evm ", b"anchored EVM ", True)
changed("evidence_that_is_not_json", b'{"example":', b'{"example"!', True)
changed("an_unknown_line", b"\nend\n", b"\nnoted 0\nend\n")


def unknown_entry(name, text):
    def write(w):
        w.names()
        w.put(text)
        w.seal()
    write.__name__ = name
    history([(1, UNREADABLE)])(write)


unknown_entry("an_unknown_kind_of_entry", reg.entry_text("farewell"))
unknown_entry("an_unknown_first_line_of_an_entry", b"zeroauth.audit/entry/v2\nsnapshot begin\n")


@history([(2, UNREADABLE)])
def no_edge_before_a_snapshot(w):
    opening(w)
    w.snapshot()
    w.seal(edge=None)


def ml_dsa_vkey(length):
    """Any string of 1312 bytes is a public key of ML-DSA-44."""
    public = random.Random("ML-DSA-44").randbytes(length)
    return f"{ORIGIN}+{reg.key_id(ORIGIN, 6, public).hex()}+{b64(bytes([6]) + public)}"


# --- Texts -----------------------------------------------------------------------------------------------------------
def texts():
    """One entry of every kind."""
    acme, root = label(A), sha(b"root")
    return {
        "names": reg.names_text(NAME_KEY), "after": reg.after_text("old.example", 1234, root),
        "log": reg.log_text(acme, 0, 120, root, 57), "log, first": reg.log_text(acme, 0, 1, root, None),
        "log, restored": reg.log_text(acme, 2, 2**63 - 1, root, 57, 12),
        "log, restored to nothing": reg.log_text(acme, 1, 1, root, 57, None),
        "snapshot begin": reg.snapshot_begin_text(), "snapshot end": reg.snapshot_end_text(0), "key": reg.key_text(VKEY),
        "key, ML-DSA-44": reg.key_text(ml_dsa_vkey(1312)),
        "erase": reg.erase_text(acme, 0, 57, 3), "purge": reg.purge_text(acme, 0, 57, root), "close": reg.close_text(acme),
    }


def bad_texts():
    """Each is a text of above with one defect."""
    good = {kind: text.decode("utf-8") for kind, text in texts().items()}
    acme = b64(label(A))
    def change(kind, old, new):
        assert old in good[kind]
        return good[kind].replace(old, new, 1)
    short, long = b64(label(A)[:31]), b64(label(A) + b"x")
    key_id, strange = VKEY.split("+")[1], bytes([2]) + ed25519.public(SEED)
    strange_key = f"{ORIGIN}+{sha(ORIGIN.encode() + bytes([10]) + strange)[:4].hex()}+{b64(strange)}"
    spare = acme[:-2] + chr(ord(acme[-2]) + 1) + "="
    return {
        "nothing": "", "an empty line": "\n", "no kind": f"{reg.ENTRY}\n", "an empty kind": f"{reg.ENTRY}\n\n",
        "another version": change("close", "entry/v1", "entry/v2"), "a byte order mark": "\ufeff" + good["close"],
        "an unknown kind": change("close", "close", "open"), "a kind in upper case": change("close", "close", "Close"),
        "no newline at the end": good["close"][:-1], "a carriage return": change("close", "=\n", "=\r\n"),
        "carriage returns": good["log"].replace("\n", "\r\n"), "an empty line at the end": good["close"] + "\n",
        "a further line": good["close"] + "1\n", "a space at the end": change("close", "=\n", "= \n"),
        "a space at the beginning": change("close", "close", " close"), "two spaces": change("erase", " 57", "  57"),
        "a tab": change("erase", " 57", "\t57"), "a label of 31 bytes": change("close", acme, short),
        "a label of 33 bytes": change("close", acme, long), "a label without padding": change("close", "=", ""),
        "a label with bits to spare": change("close", acme, spare), "a label in base64url": change("close", acme, acme[:-2] + "_="),
        "a label in hexadecimal": change("close", acme, label(A).hex()), "no label": f"{reg.ENTRY}\nclose\n",
        "names of 31 bytes": f"{reg.ENTRY}\nnames {b64(sha(NAME_KEY)[:31])}\n", "names and more": change("names", "=\n", "= 1\n"),
        "after an origin with a plus": change("after", "old.example", "old+example"),
        "after an empty origin": change("after", "old.example", ""),
        "after an origin that begins with cosignature": change("after", "old", "cosignature"),
        "after size 0": change("after", "1234", "0"), "after without root": f"{reg.ENTRY}\nafter old.example 1234\n",
        "an epoch with a leading zero": change("log", " 0\n", " 00\n"), "an epoch with a sign": change("log", " 0\n", " -0\n"),
        "no epoch": change("log", " 0\n", "\n"), "size 0": change("log", "\n120\n", "\n0\n"),
        "a size with a leading zero": change("log", "\n120\n", "\n0120\n"), "a size with a sign": change("log", "\n120\n", "\n+120\n"),
        "a size with an exponent": change("log", "\n120\n", "\n12e1\n"),
        "a size of other digits": change("log", "\n120\n", "\n\u0661\u0662\n"),
        "a size of 2 to the power of 63": change("log, restored", str(2**63 - 1), str(2**63)),
        "no size": change("log", "120\n", ""), "an empty size": change("log", "120\n", "\n"),
        "a root of 31 bytes": change("log", b64(sha(b"root")), b64(sha(b"root")[:31])), "no previous": change("log", "57\n", ""),
        "previous None": change("log, first", "none", "None"), "previous -1": change("log", "57", "-1"),
        "restored and nothing": change("log, restored", "restored 12", "restored"),
        "restored to two": change("log, restored", "12", "12 13"),
        "restored in upper case": change("log, restored", "restored 12", "Restored 12"),
        "two lines restored": good["log, restored"] + "restored 12\n",
        "an empty sixth line": good["log"] + "\n",
        "a log in one line": good["log"].replace("\n", " ").replace(f"{reg.ENTRY} ", f"{reg.ENTRY}\n").rstrip() + "\n",
        "snapshot alone": f"{reg.ENTRY}\nsnapshot\n", "snapshot begin and more": f"{reg.ENTRY}\nsnapshot begin 1\n",
        "snapshot end without count": f"{reg.ENTRY}\nsnapshot end\n", "snapshot end with a leading zero": f"{reg.ENTRY}\nsnapshot end 01\n",
        "a key with another id": change("key", key_id, "00000000"), "a key without id": f"{reg.ENTRY}\nkey {ORIGIN}\n",
        "a key id in upper case": change("key", key_id, key_id.upper()),
        "a key of type 2": f"{reg.ENTRY}\nkey {strange_key}\n",
        "an ML-DSA-44 key of 1311 bytes": f"{reg.ENTRY}\nkey {ml_dsa_vkey(1311)}\n",
        "an erase of three words": change("erase", " 57 3", " 57"), "a purge without root": change("purge", " " + b64(sha(b"root")), ""),
        "a text of 4097 bytes": f"{reg.ENTRY}\n" + "x" * 4072 + "\n",
    }


def main():
    tenants = [A, B, "x" * 128, "\u65e5\u672c\u8a9e/\U0001f4dc", " a b ", "acme "]
    vectors = {
        "labels": [{"tenant": name, "label": b64(label(name))} for name in tenants],
        "entries": [{"kind": reg.read_entry(text).kind, "name": name, "text": text.decode("utf-8"),
                     "leaf_hash": reg.leaf_hash(text).hex()} for name, text in texts().items()],
        "bad_entries": [{"name": name, "text": text} for name, text in bad_texts().items()],
        "histories": HISTORIES,
    }
    head = {
        "about": "registries of the reference implementation, see pgrx-tests/reference/registry_vectors.py",
        "origin": ORIGIN, "seed": SEED.hex(), "vkey": VKEY, "next_seed": NEXT_SEED.hex(), "next_vkey": NEXT_VKEY,
        "witness_seed": WITNESS_SEED.hex(), "witness_vkey": WITNESS_VKEY, "name_key": NAME_KEY.hex(),
    }
    parts = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    for name, lines in vectors.items():
        parts.append(f'"{name}": [\n' + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]")
    print("{" + ",\n".join(parts) + "}")


main()
