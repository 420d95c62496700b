#!/usr/bin/env python3
"""Independent reference for the registry and its run files (Python 3.11, standard library only).

It is the oracle that the Rust code is compared with, written from sections 11 to 13 and 19 to 22 of docs/format.md alone:

  label(name_key, tenant)              section 19
  names_text .. close_text             the text of every kind of entry; read_entry reads one strictly
  compact, extend, range_root          compact ranges of leaf hashes
  sign_note, read_note, signature      checkpoints as signed notes: 0x01 over the body and cosignature/v1
  write_run, read_run                  run files; read_run takes a file only as write_run would write it
  Replay(vkeys).read(files, first)     everything that section 22 demands

A replay says for each problem (file, class, detail). The classes:

  checkpoint_mismatch   entries, growth, edges, intervals or a checkpoint contradict each other or an earlier state, and whoever
                        wrote the entries is to blame
  tail_truncated        an entry of a log has a smaller size than the one before, in the same epoch
  tenant_missing        a label that has an entry and is not closed is not in a snapshot
  forged                a signature in the name of a known key is wrong
  unreadable            missing, cut off, malformed, of another kind, another digest, an unknown key: could not be checked

What is one problem:

  An entry has at most one problem, and a missing label in a snapshot is one each (by label), before one of the count in
  `snapshot end`. The registry itself (the line `size`, its `edge`, the checkpoint's size and root) has at most one a file.
  A hole in the numbers is one problem, of the first number that is missing. A wrong `after` is one of the file in which it stands.

What a reader does after a problem:

  unreadable, forged    Nothing of the file is taken. The reader goes on at the next file that begins with `snapshot begin`, and is
                        read as by a reader that begins there; files in between are skipped, nothing is said of them. That file is
                        the one with the wrong `after`, or the one behind the hole, if it begins with a snapshot. What the reader
                        knew is still held against what the snapshot states: a registry or a log does not shrink while nobody looks,
                        the same size has the same root, and a label that is not in the snapshot has ended.
  an entry of a label   The entry's epoch, size, root and index are the label's newest state, and the label's growth is no longer
                        checked (neither its intervals) until an edge gives its compact range again: that of a snapshot, or of
                        a restore. Its other rules are, and so are the other labels. A broken `erase` or `purge` changes nothing.
  another entry         Has no effect (a `key` is not known by it); all else goes on.
  the registry          The sizes of the file are taken; the root is no longer compared until the edge of a file gives the registry's
                        compact range again.
  cosigned, anchored    A statement that contradicts is told, one that no known key has signed is unreadable; the reader goes on.

Command line:
  registry_reference.py verify DIR VKEY...    a line for each problem, and `verified N files, M entries, L logs`; exit 0 or 1
  registry_reference.py selftest
"""
import base64
import dataclasses
import datetime as dt
import json
import pathlib
import re
import struct
import sys
import unicodedata

import audit_reference as audit
import ed25519
from audit_reference import lp, node_hash, sha

ENTRY, RUN = "zeroauth.audit/entry/v1", "zeroauth.audit/run/v1"
MOST_ENTRY, MOST_HASHES, MOST_INTERVALS = 4096, 128, 65536
MOST_NOTE, MOST_SIGNATURES, MOST_EVIDENCE, MOST_RUN = 256 << 10, 64, 1 << 20, 1 << 30
BIGGEST = 2**63 - 1


class Unreadable(ValueError):
    """Not as a writer would write it, or not what this reader knows."""


class Forged(ValueError):
    """A signature in the name of a known key is wrong."""


class Broken(ValueError):
    """A rule does not hold: (class, detail)."""


def mismatch(detail): return Broken("checkpoint_mismatch", detail)


def need(condition, detail):
    if not condition: raise Unreadable(detail)


def holds(condition, detail):
    if not condition: raise mismatch(detail)


# --- Strict texts (section 18) ---------------------------------------------------------------------------------------
def b64(data): return base64.b64encode(data).decode("ascii")


def unb64(text, length=None):
    try: data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError: raise Unreadable("base64") from None
    need(b64(data) == text and length in (None, len(data)), "base64")
    return data


def number(text, most=BIGGEST):
    need(re.fullmatch("0|[1-9][0-9]{0,19}", text, re.ASCII) and int(text) <= most, "number")
    return int(text)


def utf8(data):
    try: return data.decode("utf-8")
    except UnicodeDecodeError: raise Unreadable("not UTF-8") from None


def text_lines(data):
    text = utf8(data)
    need(text.endswith("\n") and "\r" not in text, "lines end in a newline alone")
    return text[:-1].split("\n")


def words(line, first, count):
    """The words behind the first one."""
    parts = line.split(" ")
    need(parts[0] == first and len(parts) == count + 1, f"not a line `{first}`")
    return parts[1:]


def base_origin(text):
    need(1 <= len(text.encode()) <= 255 and "+" not in text and not text.startswith("cosignature"), "origin")
    need(not any(c.isspace() or unicodedata.category(c) == "Cc" for c in text), "origin")
    return text


# --- Labels (section 19) ---------------------------------------------------------------------------------------------
def label(name_key, tenant):
    return sha(lp(b"zeroauth.audit/tenant/v1") + lp(name_key) + lp(tenant.encode("utf-8")))


# --- Compact ranges of leaf hashes (section 21) ----------------------------------------------------------------------
def levels(start, end):
    """The levels of the largest complete subtrees of the leaves start to end, from the left."""
    result = []
    while start < end:
        level = (start & -start).bit_length() - 1 if start else (end - start).bit_length()
        while start + (1 << level) > end: level -= 1
        result.append(level)
        start += 1 << level
    return result


def compact(leaves, start=0):
    """The compact range of these leaf hashes, of which the first is leaf `start`."""
    def root(part): return part[0] if len(part) == 1 else node_hash(root(part[:len(part) // 2]), root(part[len(part) // 2:]))
    result, at = [], 0
    for level in levels(start, start + len(leaves)):
        result.append(root(leaves[at:at + (1 << level)]))
        at += 1 << level
    return result


def fits(hashes, start, end): return len(hashes) == len(levels(start, end))


def extend(hashes, start, growth, end):
    """The compact range of 0 to end from the one of 0 to start and the one of start to end."""
    assert fits(hashes, 0, start) and fits(growth, start, end)
    stack = list(zip(levels(0, start), hashes))
    for level, node in zip(levels(start, end), growth):
        while stack and stack[-1][0] == level: level, node = level + 1, node_hash(stack.pop()[1], node)
        stack.append((level, node))
    return [node for _, node in stack]


def range_root(hashes):
    if not hashes: return sha(b"")
    root = hashes[-1]
    for node in reversed(hashes[:-1]): root = node_hash(node, root)
    return root


# --- Entries (section 20) --------------------------------------------------------------------------------------------
def entry_text(*lines): return "".join(line + "\n" for line in (ENTRY, *lines)).encode("utf-8")
def index_word(index): return "none" if index is None else str(index)
def names_text(name_key): return entry_text(f"names {b64(sha(name_key))}")
def after_text(origin, size, root): return entry_text(f"after {origin} {size} {b64(root)}")
def snapshot_begin_text(): return entry_text("snapshot begin")
def snapshot_end_text(count): return entry_text(f"snapshot end {count}")
def key_text(vkey): return entry_text(f"key {vkey}")
def erase_text(label, epoch, leaf, events): return entry_text(f"erase {b64(label)} {epoch} {leaf} {events}")
def purge_text(label, epoch, minimum, root): return entry_text(f"purge {b64(label)} {epoch} {minimum} {b64(root)}")
def close_text(label): return entry_text(f"close {b64(label)}")


def log_text(label, epoch, size, root, previous, *restored):
    """`restored` is nothing, an index, or None for `restored none`."""
    sixth = [f"restored {index_word(restored[0])}"] if restored else []
    return entry_text(f"log {b64(label)} {epoch}", str(size), b64(root), index_word(previous), *sixth)


def leaf_hash(text): return sha(b"\x00" + text)


@dataclasses.dataclass
class Entry:
    kind: str
    label: bytes | None = None
    epoch: int | None = None
    size: int | None = None         # of log and after; the minimum index of purge; the count of snapshot end
    root: bytes | None = None       # and the hash of names
    previous: int | None = None
    sixth: bool = False
    restored: int | None = None
    leaf: int | None = None
    events: int | None = None
    origin: str | None = None
    key: tuple | None = None


def read_entry(data):
    need(len(data) <= MOST_ENTRY, "an entry of more than 4096 bytes")
    lines = text_lines(data)
    need(len(lines) >= 2 and lines[0] == ENTRY, "another first line than that of an entry")
    kind, *rest = lines[1].split(" ")
    if kind == "log":
        need(len(rest) == 2 and len(lines) in (5, 6), "log")
        entry = Entry("log", unb64(rest[0], 32), number(rest[1]), number(lines[2]), unb64(lines[3], 32),
                      None if lines[4] == "none" else number(lines[4]))
        need(entry.size > 0, "a tree of size 0")
        if len(lines) == 6:
            [restored] = words(lines[5], "restored", 1)
            entry.sixth, entry.restored = True, None if restored == "none" else number(restored)
        return entry
    need(len(lines) == 2, "further lines")
    if lines[1] == "snapshot begin": return Entry("snapshot begin")
    if kind == "snapshot":
        need(len(rest) == 2 and rest[0] == "end", "snapshot")
        return Entry("snapshot end", size=number(rest[1]))
    counts = {"names": 1, "after": 3, "key": 1, "erase": 4, "purge": 4, "close": 1}
    need(kind in counts, "an unknown kind of entry")
    need(len(rest) == counts[kind], kind)
    if kind == "names": return Entry(kind, root=unb64(rest[0], 32))
    if kind == "key": return Entry(kind, key=read_vkey(rest[0]))
    if kind == "after":
        entry = Entry(kind, origin=base_origin(rest[0]), size=number(rest[1]), root=unb64(rest[2], 32))
        need(entry.size > 0, "a tree of size 0")
        return entry
    entry = Entry(kind, label=unb64(rest[0], 32))
    if kind == "erase": entry.epoch, entry.leaf, entry.events = map(number, rest[1:])
    if kind == "purge": entry.epoch, entry.size, entry.root = number(rest[1]), number(rest[2]), unb64(rest[3], 32)
    return entry


# --- Signed notes (section 13) ---------------------------------------------------------------------------------------
def key_id(name, kind, public): return sha(name.encode("utf-8") + b"\n" + bytes([kind]) + public)[:4]
def vkey(name, public): return f"{name}+{key_id(name, 1, public).hex()}+{b64(bytes([1]) + public)}"


def read_vkey(text):
    """(name, public key): 32 bytes of Ed25519, or 1312 of ML-DSA-44, with which nothing is verified here"""
    parts = text.split("+", 2)
    need(len(text) <= 4096 and len(parts) == 3, "verifier key")
    name, data = base_origin(parts[0]), unb64(parts[2])
    need((len(data), data[:1]) in ((33, b"\1"), (1313, b"\6")), "verifier key")
    need(parts[1] == key_id(name, data[0], data[1:]).hex(), "verifier key")
    return name, data[1:]


@dataclasses.dataclass
class Note:
    data: bytes
    body: bytes
    origin: str
    size: int
    root: bytes
    signatures: list        # (name, key id, bytes)


def checkpoint(origin, size, root): return f"{origin}\n{size}\n{b64(root)}\n".encode("utf-8")
def cosignature_text(body, time): return f"cosignature/v1\ntime {time}\n".encode("ascii") + body
def signature_line(name, data): return f"\u2014 {name} {b64(data)}\n".encode("utf-8")


def signature(kind, name, seed, body, time=None):
    public = ed25519.public(seed)
    if kind == 1: data = ed25519.sign(seed, body)
    else: data = struct.pack(">Q", time) + ed25519.sign(seed, cosignature_text(body, time))
    return signature_line(name, key_id(name, kind, public) + data)


def sign_note(body, name, seeds, time):
    """The log's two lines, for each of its keys."""
    return body + b"\n" + b"".join(signature(kind, name, seed, body, time) for seed in seeds for kind in (1, 4))


def open_note(data):
    """(body, signatures) of any signed note."""
    need(len(data) <= MOST_NOTE, "a note of more than 256 KiB")
    text = utf8(data)
    need(text.endswith("\n") and all(c >= " " or c == "\n" for c in text), "note")
    body, blank, lines = text.rpartition("\n\n")
    need(blank and body, "a note without signatures")
    lines, signatures = lines[:-1].split("\n"), []
    need(len(lines) <= MOST_SIGNATURES, "more than 64 signatures")
    for line in lines:
        name, data = words(line, "\u2014", 2)
        data = unb64(data)
        need(name and "+" not in name and not any(c.isspace() for c in name) and len(data) > 4, "signature line")
        signatures.append((name, data[:4], data[4:]))
    return (body + "\n").encode("utf-8"), signatures


def read_note(data):
    body, signatures = open_note(data)
    lines = body.decode("utf-8")[:-1].split("\n")
    need(len(lines) == 3, "a checkpoint has three lines")
    size = number(lines[1])
    need(size > 0, "a registry of size 0")
    return Note(data, body, base_origin(lines[0]), size, unb64(lines[2], 32), signatures)


def signed(body, signatures, key):
    """The time at which this key sealed the body; None if it did not sign in both ways."""
    name, public = key
    plain, time = False, None
    for who, identity, data in signatures:
        if who != name: continue
        if identity == key_id(name, 1, public):
            if not ed25519.verify(public, body, data): raise Forged("a signature of a known key is wrong")
            plain = True
        elif identity == key_id(name, 4, public):
            sealed = int.from_bytes(data[:8], "big")
            if not ed25519.verify(public, cosignature_text(body, sealed), data[8:]): raise Forged("a cosignature of a known key is wrong")
            time = max(sealed, time or 0)
    return time if plain else None


# --- Run files (section 21) ------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Block:
    data: bytes                     # the text of the entry
    entry: Entry | None = None      # filled by read_run
    edge: list | None = None
    intervals: list | None = None   # (chain, from, to)
    growth: list | None = None
    snapshot: bool = False          # an entry between `snapshot begin` and `snapshot end`


@dataclasses.dataclass
class Run:
    number: int
    after: bytes | None
    writer: tuple
    before: int
    size: int
    edge: list | None
    blocks: list
    note: bytes | Note              # bytes for write_run, a Note from read_run
    cosigned: list = dataclasses.field(default_factory=list)
    anchored: list = dataclasses.field(default_factory=list)    # (kind, size, root, evidence)


def write_run(run):
    def hashes(word, nodes): return b"" if nodes is None else "".join([f"{word} {len(nodes)}\n", *(b64(n) + "\n" for n in nodes)]).encode()
    def sized(line, data): return f"{line} {len(data)}\n".encode() + data
    parts = [f"{RUN}\nnumber {run.number}\nafter {b64(run.after) if run.after else 'none'}\n"
             f"writer {run.writer[0]} {run.writer[1]}\nsize {run.before} {run.size}\n".encode(), hashes("edge", run.edge)]
    for block in run.blocks:
        parts += [sized("entry", block.data), hashes("edge", block.edge)]
        parts += [f"interval {chain} {start} {end}\n".encode() for chain, start, end in block.intervals or []]
        parts.append(hashes("growth", block.growth))
    parts.append(sized("checkpoint", run.note))
    parts += [sized("cosigned", note) for note in run.cosigned]
    parts += [sized(f"anchored {kind} {size} {b64(root)}", evidence) for kind, size, root, evidence in run.anchored]
    return b"".join(parts) + b"end\n"


class Cursor:
    def __init__(self, data): self.data, self.at = data, 0

    def line(self):
        end = self.data.find(b"\n", self.at)
        need(end >= 0, "cut off")
        line, self.at = self.data[self.at:end], end + 1
        need(b"\r" not in line, "lines end in a newline alone")
        return utf8(line)

    def next(self):
        """The first word of the next line."""
        at = self.at
        word, self.at = self.line().split(" ")[0], at
        return word

    def words(self, first, count): return words(self.line(), first, count)

    def take(self, length, most):
        length = number(length)
        need(length <= most, "beyond a limit")
        need(self.at + length <= len(self.data), "cut off")
        self.at += length
        return self.data[self.at - length:self.at]

    def hashes(self, word):
        [count] = self.words(word, 1)
        need(number(count) <= MOST_HASHES, "beyond a limit")
        return [unb64(self.line(), 32) for _ in range(int(count))]

    def intervals(self):
        result = []
        while self.next() == "interval":
            chain, start, end = map(number, self.words("interval", 3))
            need(start < end and (not result or result[-1][0] < chain), "intervals")
            result.append((chain, start, end))
            need(len(result) <= MOST_INTERVALS, "beyond a limit")
        return result

    def block(self, snapshot):
        [length] = self.words("entry", 1)
        data = self.take(length, MOST_ENTRY)
        block = Block(data, read_entry(data), snapshot=snapshot)
        if block.entry.kind == "log":
            if snapshot or block.entry.sixth: block.edge = self.hashes("edge")
            if not snapshot: block.intervals, block.growth = self.intervals(), self.hashes("growth")
        return block


def one_object(pairs):
    need(len({key for key, _ in pairs}) == len(pairs), "a key twice")
    return dict(pairs)


def no_constant(name): raise Unreadable(f"{name} is not JSON")


def read_evidence(data):
    need(len(text_lines(data)) == 1, "evidence is one line")
    try: value = json.loads(data, object_pairs_hook=one_object, parse_constant=no_constant)
    except (ValueError, RecursionError): raise Unreadable("evidence is not JSON") from None
    need(isinstance(value, dict), "evidence is an object")
    return data


def read_run(data):
    need(len(data) <= MOST_RUN, "beyond a limit")
    cursor = Cursor(data)
    need(cursor.line() == RUN, "another first line than that of a run file")
    [file], [after] = cursor.words("number", 1), cursor.words("after", 1)
    file, after = number(file, 10**12 - 1), None if after == "none" else unb64(after, 32)
    need(file > 0 and (file == 1) == (after is None), "number and after")
    system, database = cursor.words("writer", 2)
    before, size = map(number, cursor.words("size", 2))
    need(before <= size and size > 0, "size")
    run = Run(file, after, (number(system, 2**64 - 1), number(database, 2**32 - 1)), before, size, None, [], None)
    if cursor.next() == "edge": run.edge = cursor.hashes("edge")
    inside = False
    while cursor.next() == "entry":
        block = cursor.block(inside)
        if block.entry.kind == "snapshot begin": inside = True
        elif block.entry.kind == "snapshot end": inside = False
        run.blocks.append(block)
    need(len(run.blocks) == size - before, "another number of entries than the size says")
    need((run.edge is not None) == begins_with_snapshot(run), "an edge, or none, where none or one belongs")
    run.note = read_note(cursor.take(*cursor.words("checkpoint", 1), MOST_NOTE))
    while (word := cursor.next()) != "end":
        if word == "cosigned":
            run.cosigned.append(read_note(cursor.take(*cursor.words("cosigned", 1), MOST_NOTE)))
            continue
        kind, tree, root, length = cursor.words("anchored", 4)
        need(re.fullmatch("[a-z0-9]+", kind, re.ASCII), "kind of anchor")
        need(number(tree) > 0, "a tree of size 0")
        run.anchored.append((kind, int(tree), unb64(root, 32), read_evidence(cursor.take(length, MOST_EVIDENCE))))
    need(cursor.line() == "end" and cursor.at == len(data), "something behind the end")
    return run


def begins_with_snapshot(run): return bool(run.blocks) and run.blocks[0].entry.kind == "snapshot begin"


def read_day(day):
    match = re.fullmatch("([0-9]{4})/([0-9]{2})/([0-9]{2})", day, re.ASCII)
    try: return dt.date(*map(int, match.groups()))
    except (AttributeError, ValueError): raise Unreadable("the folder is not a day") from None


# --- Replay (section 22) ---------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Log:
    """An entry `log` and what the reader knows of its tree."""
    epoch: int
    size: int
    root: bytes
    index: int
    label: bytes
    range: list | None = None       # the compact range; None: not known since a rule was broken
    ends: dict | None = None        # the end of the interval before by chain
    whole: bool = False             # a chain that is not in `ends` has no events
    parent: object = None           # the Log whose tree this one continues; None with `whole`: the empty tree


@dataclasses.dataclass
class Snapshot:
    begin: int
    first: bool                     # the reader begins here
    last: bytes = b""
    count: int = 0
    seen: set = dataclasses.field(default_factory=set)
    previous: set = dataclasses.field(default_factory=set)


class Replay:
    def __init__(self, vkeys):
        self.keys = [read_vkey(text) for text in vkeys]
        need(all(len(public) == 32 for _, public in self.keys), "this reader verifies Ed25519 alone")
        if len({name for name, _ in self.keys}) != 1: raise ValueError("verifier keys of one name are needed")
        self.origin = self.keys[0][0]
        self.problems, self.restores, self.files, self.count = [], [], 0, 0
        self.state = "start"                            # then "going" or "skipping"
        self.digest = self.day = None
        self.size, self.range = 0, []
        self.logs, self.closed = {}, set()              # closed: no entry may follow
        self.entries, self.unread = {}, []              # every entry `log` by index; ranges of indexes that were not read
        self.any_epoch, self.checkpoints, self.all_checkpoints = False, {}, True
        self.snapshot, self.new_keys, self.at, self.continues = None, [], 0, False

    def problem(self, kind, detail, file=None): self.problems.append((file or self.at, kind, detail))

    def open_logs(self): return {name: log for name, log in self.logs.items() if name not in self.closed}

    def read(self, files, first=None):
        """Files are (number, day, bytes); the reader begins at the number `first`, or else at the smallest one."""
        by = {}
        for file, day, data in files: by.setdefault(file, []).append((day, data))
        expected = first or min(by, default=1)
        if not any(file >= expected for file in by): self.fail(Unreadable("no file"), expected)
        for file in sorted(file for file in by if file >= expected):
            if file != expected: self.fail(Unreadable("missing"), expected)
            expected = file + 1
            if len(by[file]) > 1: self.fail(Unreadable("a number that is there twice"), file)
            else: self.file(file, *by[file][0])
        return self.problems

    def fail(self, error, file):
        if self.state != "skipping": self.problem("forged" if isinstance(error, Forged) else "unreadable", str(error), file)
        self.state = "skipping"

    def file(self, file, day, data):
        self.at, begin = file, self.state != "going"
        try:
            run, day = read_run(data), read_day(day)
            need(run.number == file, "another number than in the name")
            if not begin and run.after != self.digest:
                self.fail(Unreadable("after: not the digest of the file before"), file)
                begin = True
            if self.state == "start" and file == 1: begin = False
            elif begin: need(begins_with_snapshot(run), "a reader cannot begin at a file without a snapshot")
        except Unreadable as error: return self.fail(error, file)
        if begin: self.state = "going"      # from here on what is wrong is told again
        try:
            need(self.day is None or day >= self.day, "the day goes back")
            self.signers(run.note)
        except (Unreadable, Forged) as error: return self.fail(error, file)
        self.run(run, begin)
        self.state, self.digest, self.day = "going", sha(data), day
        self.files, self.count = self.files + 1, self.count + len(run.blocks)

    def signers(self, note):
        """The newest time at which a known key sealed it."""
        times = [time for key in self.keys if (time := signed(note.body, note.signatures, key)) is not None]
        need(times, "not signed by a known key")
        need(note.origin == self.origin, "a checkpoint of another registry")
        return max(times)

    def run(self, run, begin):
        self.sound = True
        try: self.begin(run) if begin else self.resume(run)
        except Broken as broken: self.registry(broken)
        self.new_keys, self.snapshot = [], None
        for index, block in enumerate(run.blocks, run.before):
            if self.range is not None: self.range = extend(self.range, index, [leaf_hash(block.data)], index + 1)
            broken = [error for check in (self.place, self.entry) if (error := caught(check, index, block, begin and index == run.before))]
            if broken: self.problem(*broken[0].args)
        if self.snapshot: self.problem("checkpoint_mismatch", "a snapshot does not end in its file")
        self.size = run.size
        try: self.checkpoint(run)
        except Broken as broken: self.registry(broken)
        self.rotate(run.note)
        for note in run.cosigned: self.later(self.cosigned, run, note)
        for kind, size, root, _ in run.anchored: self.later(self.known_checkpoint, run, size, root, "anchored")

    def registry(self, broken):
        if self.sound: self.problem(*broken.args)
        self.sound, self.range = False, None

    def begin(self, run):
        """The file is the first one that this reader knows, or the first after those that it could not read."""
        fits_edge, known, before = fits(run.edge, 0, run.before), self.range, self.size
        self.unread.append((min(before, run.before), run.before))
        # Who read entry 0 knows whether this registry continues another.
        self.any_epoch = self.any_epoch or before == 0
        self.all_checkpoints, self.size = False, run.before
        self.range = run.edge if fits_edge else None
        holds(fits_edge, "the edge has another number of hashes than the size says")
        holds(run.before >= before, "the registry shrank")
        holds(run.before != before or known is None or known == run.edge, "the edge is not what the files before lead to")

    def resume(self, run):
        known, before = self.range, self.size
        if run.before != before:
            self.unread.append((min(before, run.before), run.before))
            known, self.range = None, None
        if run.edge is not None and known is None and fits(run.edge, 0, run.before): self.range = run.edge
        holds(run.before == before, "the size before is not the size after of the file before")
        holds(run.edge is None or run.edge == self.range, "the edge is not what the files before lead to")

    def checkpoint(self, run):
        note = run.note
        holds(note.size == run.size, "a checkpoint of another size")
        holds(self.range is None or range_root(self.range) == note.root, "a checkpoint of another root")
        self.checkpoints[note.size] = note.root

    def rotate(self, note):
        """Rule 9: every new key has signed, too."""
        for key in self.new_keys:
            try:
                if signed(note.body, note.signatures, key) is None: self.problem("checkpoint_mismatch", "the new key has not signed")
                elif key not in self.keys: self.keys.append(key)
            except Forged as error: self.problem("forged", str(error))

    def later(self, check, *args):
        try: check(*args)
        except Broken as broken: self.problem(*broken.args)
        except Forged as error: self.problem("forged", str(error))
        except Unreadable as error: self.problem("unreadable", str(error))

    def cosigned(self, run, note):
        self.signers(note)
        holds(note.origin == self.origin, "cosigned: another origin")
        self.known_checkpoint(run, note.size, note.root, "cosigned")
        need(any(name != self.origin for name, _, _ in note.signatures), "cosigned: by nobody")

    def known_checkpoint(self, run, size, root, what):
        earlier = {known: top for known, top in self.checkpoints.items() if known <= run.before}
        holds(size <= run.before and (size in earlier or not self.all_checkpoints), f"{what}: not an earlier checkpoint")
        holds(earlier.get(size, root) == root, f"{what}: another root than the checkpoint of this size")

    # --- Entries ---
    def place(self, index, block, _):
        """Rule 1."""
        kind = block.entry.kind
        if index == 0:
            self.continues = self.any_epoch = kind == "after"
            holds(kind in ("names", "after"), "entry 0 is neither `names` nor `after`")
        elif index == 1 and self.continues: holds(kind == "names", "entry 1 is not `names`")
        else: holds(kind not in ("names", "after"), f"`{kind}` elsewhere than at the beginning")

    def entry(self, index, block, first):
        entry, kind, inside = block.entry, block.entry.kind, self.snapshot is not None
        if kind == "log": return (self.repeat if inside else self.grow)(index, entry, block)
        if kind == "snapshot end": return self.end_snapshot(entry)
        if kind == "close": self.close(entry)
        holds(not inside, "another entry than `log` in a snapshot")
        if kind == "snapshot begin": self.snapshot = Snapshot(index, first)
        if kind in ("erase", "purge"): self.delete(entry)
        if kind == "key":
            holds(entry.key[0] == self.origin, "a key of another name")
            if len(entry.key[1]) == 32: self.new_keys.append(entry.key)

    def was_not_read(self, index): return any(start <= index < end for start, end in self.unread)

    def grow(self, index, entry, block):
        """An entry `log` outside a snapshot: rules 2 to 5, and 8."""
        before, log = self.logs.get(entry.label), Log(entry.epoch, entry.size, entry.root, index, entry.label)
        self.logs[entry.label] = self.entries[index] = log
        holds(entry.label not in self.closed, "an entry after `close`")
        if before is None:
            holds(entry.previous is None, "`previous` of a label that has no entry")
            holds(entry.epoch == 0 or self.any_epoch, "the first entry of a label has an epoch above 0")
            holds(not entry.sixth, "the first entry of a label is restored")
            return self.follow(log, block, None, 0, [], {}, True)
        not_shorter(entry, before)
        holds(entry.previous == before.index, "`previous` is not the newest entry of this label")
        if entry.epoch == before.epoch:
            holds(not entry.sixth, "restored in the same epoch")
            holds(entry.size > before.size, "the same size again")
            if before.range is not None:
                self.follow(log, block, before, before.size, before.range, before.ends, before.whole)
            return
        holds(entry.epoch == before.epoch + 1, "the epoch is not the next one")
        holds(entry.sixth, "a new epoch without `restored`")
        self.restore(entry, log, block, before)

    def restore(self, entry, log, block, before):
        if entry.restored is None:
            holds(block.edge == [], "the empty tree has no edge")
            self.follow(log, block, None, 0, [], {}, True)
            lost = before.size
        else:
            holds(entry.restored <= before.index, "restored to an entry above `previous`")
            named = self.entries.get(entry.restored)
            holds(named or self.was_not_read(entry.restored), "restored to what is no entry `log`")
            holds(not named or named.label == entry.label, "restored to an entry of another label")
            # The size of an entry that was not read follows from the intervals alone.
            size = named.size if named else entry.size - events(block.intervals)
            holds(0 < size <= entry.size, "smaller than the entry to which it was restored")
            holds(fits(block.edge, 0, size), "the edge has another number of hashes than the size says")
            holds(not named or range_root(block.edge) == named.root, "the edge is not that of the named entry")
            whole = bool(named and named.whole)
            self.follow(log, block, named, size, block.edge, named and named.ends or {}, whole)
            lost = loss(before, named, size)
        self.restores.append((self.at, entry.label, entry.epoch, entry.restored, lost))

    def follow(self, log, block, parent, size, edge, ends, whole):
        """The tree of `log` continues the one of this size and compact range."""
        holds(events(block.intervals) == log.size - size, "the intervals have another number of events than the growth")
        holds(fits(block.growth, size, log.size), "the growth has another number of hashes than the sizes say")
        grown = extend(edge, size, block.growth, log.size)
        holds(range_root(grown) == log.root, "the growth leads to another root")
        for chain, start, _ in block.intervals:
            holds(start == ends.get(chain, 0 if whole else start), "an interval does not begin where the one before ended")
        log.parent, log.range, log.whole = parent, grown, whole
        log.ends = ends | {chain: end for chain, _, end in block.intervals}

    def repeat(self, index, entry, block):
        """An entry `log` in a snapshot: rule 6."""
        snapshot, before = self.snapshot, self.logs.get(entry.label)
        log = Log(entry.epoch, entry.size, entry.root, index, entry.label)
        last, snapshot.last = snapshot.last, entry.label
        snapshot.count += 1
        snapshot.seen.add(entry.label)
        self.logs[entry.label] = self.entries[index] = log
        holds(entry.label not in self.closed, "an entry after `close`")
        if before: not_shorter(entry, before)
        holds(last < entry.label, "the labels of a snapshot do not ascend")
        holds(not entry.sixth, "restored in a snapshot")
        holds(fits(block.edge, 0, entry.size) and range_root(block.edge) == entry.root, "the edge is not that of the entry")
        if snapshot.first: before = self.first_repeat(entry, before)
        elif self.continues and snapshot.begin == 2:
            # Rule 11: taken over from the registry that this one continues.
            holds(not before and entry.previous is None, "a log that is taken over has no entry before")
            log.range, log.ends, log.whole = block.edge, {}, False
            return
        else:
            holds(before, "a label in a snapshot that has no entry")
            holds(entry.previous == before.index, "`previous` is not the newest entry of this label")
            holds(same_state(entry, before), "a snapshot states another epoch, size or root than the newest entry")
        sound = before.range is not None
        log.parent, log.range = before, block.edge
        log.ends, log.whole = (before.ends, before.whole) if sound else ({}, False)

    def first_repeat(self, entry, before):
        """The reader begins here; `before` is what it knew before files that it could not read."""
        begin, used = self.snapshot.begin, self.snapshot.previous
        holds(entry.previous is not None and entry.previous < begin and entry.previous not in used, "`previous` in a snapshot")
        used.add(entry.previous)
        named = self.entries.get(entry.previous)
        if named: holds(named.label == entry.label and same_state(entry, named), "a snapshot states another state than `previous`")
        else: holds(self.was_not_read(entry.previous), "`previous` is no entry `log`")
        if before:
            holds(entry.epoch >= before.epoch and entry.previous >= before.index, "an older state than the one that was known")
            same_size = entry.epoch == before.epoch and entry.size == before.size
            holds(not same_size or entry.root == before.root, "another root of the same size")
        if not named: named = Log(entry.epoch, entry.size, entry.root, entry.previous, entry.label)
        self.entries[entry.previous] = named
        return named

    def end_snapshot(self, entry):
        snapshot, self.snapshot = self.snapshot, None
        holds(snapshot, "`snapshot end` without `snapshot begin`")
        missing = sorted(set(self.open_logs()) - snapshot.seen)
        if snapshot.first: self.closed.update(missing)
        else:
            for name in missing: self.problem("tenant_missing", f"{b64(name)} is not in the snapshot")
        holds(entry.size == snapshot.count, "another count than that of the snapshot")

    def close(self, entry):
        holds(entry.label in self.open_logs(), "`close` of a label that is closed or has no entry")
        self.closed.add(entry.label)

    def delete(self, entry):
        """Rule 7."""
        log = self.open_logs().get(entry.label)
        holds(log, f"`{entry.kind}` of a label that is closed or has no entry")
        holds(entry.epoch == log.epoch, f"`{entry.kind}` of another epoch than the newest")
        if entry.kind == "erase": return holds(entry.leaf < log.size and entry.events, "`erase` of no leaf, or of no event")
        holds(0 < entry.size <= log.size, "`purge` of no leaf, or beyond the size")
        for known in lineage(log): holds(known.size != entry.size or known.root == entry.root, "`purge` with another root")


def caught(check, *args):
    """The rule that it finds broken, or None."""
    try: return check(*args)
    except Broken as broken: return broken


def events(intervals): return sum(end - start for _, start, end in intervals)
def same_state(entry, log): return (entry.epoch, entry.size, entry.root) == (log.epoch, log.size, log.root)


def not_shorter(entry, before):
    if entry.epoch == before.epoch and entry.size < before.size:
        raise Broken("tail_truncated", f"{b64(entry.label)} has {entry.size} events and had {before.size}")


def lineage(log):
    """The entries of which each one's tree continues the next one's."""
    while log:
        yield log
        log = log.parent


def loss(before, named, size):
    """The events in the tree of `before` that the tree to which it was restored does not have."""
    kept = {id(log) for log in lineage(named)}
    for log in lineage(before):
        if id(log) in kept: return before.size - log.size
    apart = all(list(lineage(log))[-1:] and list(lineage(log))[-1].whole for log in (before, named))
    return before.size if apart else max(0, before.size - size)


# --- Command line ----------------------------------------------------------------------------------------------------
def directory(path):
    """(number, day, bytes) of each file, and the names that are none."""
    files, strange = [], []
    for file in sorted(pathlib.Path(path).rglob("*.run")):
        name = file.relative_to(path).as_posix()
        match = re.fullmatch("([0-9]{4}/[0-9]{2}/[0-9]{2})/([0-9]{12})[.]run", name, re.ASCII)
        if match and file.is_file() and int(match[2]): files.append((int(match[2]), match[1], file.read_bytes()))
        else: strange.append(name)
    return files, strange


def verify(path, vkeys):
    replay, (files, strange) = Replay(vkeys), directory(path)
    for name in strange: print(f"{name}: unreadable: not the name of a run file")
    replay.read(files)
    for file, kind, detail in replay.problems: print(f"file {file}: {kind}: {detail}")
    for file, name, epoch, restored, lost in replay.restores:
        print(f"file {file}: {b64(name)} was restored to {index_word(restored)}, epoch {epoch}, {lost} events lost", file=sys.stderr)
    print(f"verified {replay.files} files, {replay.count} entries, {len(replay.open_logs())} logs")
    return 1 if replay.problems or strange else 0


RFC_8032 = (
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
)


# The example of https://pkg.go.dev/golang.org/x/mod/sumdb/note
NOTE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = ("If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n")


def selftest():
    for case in RFC_8032:
        seed, public, message, signature_ = map(bytes.fromhex, case)
        assert ed25519.public(seed) == public and ed25519.sign(seed, message) == signature_
        assert ed25519.verify(public, message, signature_) and not ed25519.verify(public, message + b"x", signature_)
        assert not ed25519.verify(public, message, bytes([signature_[0] ^ 1]) + signature_[1:])
    name, public = read_vkey(NOTE_KEY)
    body, [(signer, identity, data)] = open_note(NOTE.encode("utf-8"))
    assert signer == name and identity == key_id(name, 1, public) and ed25519.verify(public, body, data)
    for size in range(1, 70):
        data = [bytes([leaf]) for leaf in range(size)]
        leaves = [leaf_hash(entry) for entry in data]
        assert range_root(compact(leaves)) == audit.tree_root(data)
        for start in range(size + 1):
            assert extend(compact(leaves[:start]), start, compact(leaves[start:], start), size) == compact(leaves)
    path = pathlib.Path(__file__).resolve().parents[2] / "crates/core/tests/vectors/registry_v1.json"
    vectors = json.loads(path.read_text(encoding="utf-8"))
    seed = bytes.fromhex(vectors["seed"])
    assert vkey(vectors["origin"], ed25519.public(seed)) == vectors["vkey"]
    for case in vectors["labels"]: assert b64(label(bytes.fromhex(vectors["name_key"]), case["tenant"])) == case["label"]
    for case in vectors["entries"]:
        text = case["text"].encode("utf-8")
        assert read_entry(text).kind == case["kind"] and leaf_hash(text).hex() == case["leaf_hash"]
    for case in vectors["bad_entries"]:
        try: read_entry(case["text"].encode("utf-8"))
        except Unreadable: continue
        raise AssertionError(case)
    for case in vectors["histories"]:
        assert outcome(replay_history(case)) == {key: case[key] for key in OUTCOME}, case["name"]
    print(f"selftest: ok, {len(vectors['histories'])} histories")


OUTCOME = ("problems", "restores", "logs", "size", "root")


def replay_history(case):
    replay = Replay(case["vkeys"])
    replay.read([(file["number"], file["day"], file["text"].encode("utf-8")) for file in case["files"]], case["first"])
    return replay


def outcome(replay):
    """What the vectors say of a history."""
    return {
        "problems": [{"file": file, "class": kind} for file, kind, _ in replay.problems],
        "restores": [{"file": file, "label": b64(name), "epoch": epoch, "restored": restored, "lost": lost}
                     for file, name, epoch, restored, lost in replay.restores],
        "logs": {b64(name): [log.epoch, log.size, b64(log.root)] for name, log in sorted(replay.open_logs().items())},
        "size": replay.size, "root": None if replay.range is None else b64(range_root(replay.range)),
    }


def main(argv):
    if argv[1:] == ["selftest"]: return selftest()
    if len(argv) > 3 and argv[1] == "verify": return verify(argv[2], argv[3:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
