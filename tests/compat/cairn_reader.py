#!/usr/bin/env python3
"""Reads an artifact out of a cairn store by docs/format.md alone, sharing no code with cairn.

    python3 cairn_reader.py STORE NAME@VERSION DEST [OS/ARCH]
    python3 cairn_reader.py STORE --names
    python3 cairn_reader.py ARCHIVE NAME@VERSION DEST [OS/ARCH]

Writes the artifact's files below DEST, which must not exist, and checks every checksum and id on the way. VERSION may
be a channel, or `current`: what the profile `default` shows. Needs Python 3.9 and the `zstd` command. Owners, extended
attributes and devices are not restored.
Frames of codec 3 (relocation-aware) are refused.

With --names, prints what is named and what is stated of it: a line for each ref, channel and partial artifact.
"""

import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

MASK = 0xFFFFFFFF
MIB = 1 << 20


class Damaged(Exception):
    """Something is not as docs/format.md says."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


# ---------------------------------------------------------------------------------------------------- checksums

BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def make_compress():
    """The BLAKE3 compression function with its seven rounds written out, which is several times faster here."""
    lines = [
        "def compress(h, block, counter, block_len, flags):",
        "    " + ", ".join(f"m{i}" for i in range(16)) + " = block",
        "    v0, v1, v2, v3, v4, v5, v6, v7 = h",
        "    v8, v9, v10, v11 = %d, %d, %d, %d" % BLAKE3_IV[:4],
        "    v12, v13, v14, v15 = counter & M, counter >> 32, block_len, flags",
    ]

    def g(a, b, c, d, x, y):
        for m, r1, r2 in ((x, 16, 12), (y, 8, 7)):
            lines.append(f"    v{a} = (v{a} + v{b} + m{m}) & M; v{d} ^= v{a}")
            lines.append(f"    v{d} = (v{d} >> {r1}) | (v{d} << {32 - r1}) & M")
            lines.append(f"    v{c} = (v{c} + v{d}) & M; v{b} ^= v{c}")
            lines.append(f"    v{b} = (v{b} >> {r2}) | (v{b} << {32 - r2}) & M")

    permutation = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
    order = list(range(16))
    columns = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
    diagonals = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
    for _ in range(7):
        for i, where in enumerate(columns + diagonals):
            g(*where, order[2 * i], order[2 * i + 1])
        order = [order[i] for i in permutation]
    lines.append("    return (" + ", ".join(f"v{i} ^ v{i + 8}" for i in range(8)) + ")")
    scope = {"M": MASK}
    exec("\n".join(lines), scope)
    return scope["compress"]


compress = make_compress()


def words(block):
    return struct.unpack("<16I", block.ljust(64, b"\0"))


def blake3(data):
    """The 32-byte BLAKE3 hash of `data`, in the default mode."""
    def leaf(start, last_flag):
        piece, h = data[start:start + 1024], BLAKE3_IV
        blocks = range(0, max(len(piece), 1), 64)
        for at in blocks:
            block = piece[at:at + 64]
            flags = (CHUNK_START if at == 0 else 0) | ((CHUNK_END | last_flag) if at == blocks[-1] else 0)
            h = compress(h, words(block), start // 1024, len(block), flags)
        return h

    def subtree(start, end, root_flag):
        if end - start <= 1024:
            return leaf(start, root_flag)
        # The left side has the greatest power of two of leaves that leaves something for the right.
        left = 1024 << (((end - start - 1) // 1024).bit_length() - 1)
        halves = subtree(start, start + left, 0) + subtree(start + left, end, 0)
        return compress(BLAKE3_IV, halves, 0, 64, PARENT | root_flag)

    return struct.pack("<8I", *subtree(0, len(data), ROOT))


def make_crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    crc = MASK
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ MASK


# ------------------------------------------------------------------------------------------------- taking fields

class Cursor:
    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, length):
        need(self.at + length <= len(self.data), f"{self.what} is cut short")
        self.at += length
        return self.data[self.at - length:self.at]

    def fields(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def field(self, layout):
        return self.fields(layout)[0]

    def end(self):
        need(self.at == len(self.data), f"{self.what} goes on after its end")

    # postcard
    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.field("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                need(byte or shift == 7, f"{self.what} has an overlong integer")
                return value
            need(shift < 70, f"{self.what} has an integer that does not end")

    def signed(self):
        n = self.varint()
        return n >> 1 if n % 2 == 0 else -(n + 1 >> 1)

    def blob(self):
        return self.take(self.varint())

    def text(self):
        return self.blob().decode()

    def flag(self):
        byte = self.field("B")
        need(byte <= 1, f"{self.what} has a flag that is neither 0 nor 1")
        return byte == 1

    def option(self, read):
        return read() if self.flag() else None

    def sequence(self, read):
        return [read() for _ in range(self.varint())]

    def id(self):
        return self.take(32)


def ascending(names):
    return all(a < b for a, b in zip(names, names[1:]))


# ------------------------------------------------------------------------------------------------------- journal

RefRecord = namedtuple("RefRecord", "artifact files bytes chunks new_bytes stored_bytes time_ms")
Word = namedtuple("Word", "origin seq time_ms subject")
Package = namedtuple("Package", "version platform artifact commands")


class Profile:
    """A series of generations, each a dictionary of packages."""

    def __init__(self):
        self.current, self.last, self.generations, self.pins = None, 0, {}, set()

    def holds(self, number, what):
        need(number in self.generations, f"{what}: there is no generation {number}")
        return number


def read_statement(payload):
    cursor = Cursor(payload, "a statement")
    need(cursor.fields("4sB") == (b"CREF", 1), f"{cursor.what}: magic or version")
    origin, seq, time_ms, kind, key = cursor.take(16), cursor.varint(), cursor.varint(), cursor.varint(), Journal.key(cursor)
    need(seq > 0 and kind <= 1, f"{cursor.what}: number or kind")
    subject = (kind, key, cursor.text(), cursor.id()) if kind else (kind, key, cursor.id())
    cursor.end()
    return Word(origin, seq, time_ms, subject)


def statement(word):
    """The canonical bytes of a statement."""
    def varint(n):
        return bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80]) + varint(n >> 7)

    def text(value):
        return varint(len(value.encode())) + value.encode()

    kind, key, *version, artifact = word.subject
    texts = b"".join(text(value) for value in (*key, *version))
    return b"CREF\x01" + word.origin + varint(word.seq) + varint(word.time_ms) + varint(kind) + texts + artifact


class Torn(Exception):
    """The last group of the newest segment is incomplete."""


class Journal:
    """What the newest segment says."""

    def __init__(self, folder):
        self.refs, self.channels, self.profiles = {}, {}, {}
        # The change that made each ref and channel what it is, where that is known.
        self.changes, self.origin, self.words, self.partial = {}, None, {}, set()
        segments = sorted(folder.glob("[0-9a-f]" * 16 + ".journal"), reverse=True)
        for segment in segments:
            try:
                self.replay(segment)
                return
            except Torn:
                need(segment == segments[0], f"{segment} is incomplete")

    def replay(self, path):
        data = path.read_bytes()
        if len(data) < 24 or not any(data[:24]):
            raise Torn
        magic, version, first, zero, crc = struct.unpack("<4sIQII", data[:24])
        need(magic == b"CJNL" and zero == 0 and crc == crc32c(data[:20]), f"{path}: header")
        need(version in (1, 2, 3), f"{path} has version {version}")
        need(f"{first:016x}.journal" == path.name, f"{path}: first sequence number")
        at, seq = 24, first
        while at < len(data) or seq == first:
            payload, number, count, end = self.group(path, data, at, seq == first)
            if payload is None:
                return
            need(number == seq, f"{path}: sequence number at {at}")
            cursor = Cursor(payload, f"{path}: group at {at}")
            need(cursor.varint() == count, f"{path}: number of records at {at}")
            for _ in range(count):
                need(cursor.varint() == seq, f"{path}: sequence number in the group at {at}")
                self.record(cursor, seq, seq == first, version)
                seq += 1
            cursor.end()
            at = end

    @staticmethod
    def group(path, data, at, is_checkpoint):
        """The payload at `at`; None, or Torn for a checkpoint, if the group is incomplete."""
        head = data[at:at + 32]
        whole = None
        if len(head) == 32:
            magic, length, number, count, crc, zero, head_crc = struct.unpack("<4sIQIIII", head)
            if magic == b"CJGR" and zero == 0 and head_crc == crc32c(head[:28]):
                end = at + 36 + length
                payload = data[at + 32:end - 4]
                if end <= len(data) and data[end - 4:end] == b"CJGE" and crc == crc32c(payload):
                    whole = payload, number, count, end
        if whole:
            return whole
        sectors = range((at + 511) // 512 * 512, len(data), 512)
        incomplete = (len(data) < at + 32 or not data[-1]
                      or (data[at:at + 4] == b"CJGR" and len(data) < at + 36 + struct.unpack("<I", head[4:8])[0])
                      or any(not any(data[s:s + 512]) for s in sectors))
        need(incomplete, f"{path}: group at {at}")
        if is_checkpoint:
            raise Torn
        return None, 0, 0, at

    def record(self, cursor, seq, is_first, version):
        cursor.varint()  # time
        cursor.text()  # who
        body = cursor.varint()
        need(body == (0 if is_first else 1), "a checkpoint is where none should be, or missing")
        if body == 0:
            self.checkpoint(cursor, seq, version)
            return
        op = cursor.varint()
        need(op <= {1: 3, 2: 8, 3: 12}[version], f"operation {op} in version {version}")
        if op <= 3:
            self.change_of_names(cursor, op, seq)
        elif op <= 8:
            self.change_of_profile(cursor, op)
        elif op == 9:
            need(self.origin is None, "the store has an origin")
            self.origin = cursor.take(16), seq
        elif op == 10:
            self.witness(*self.envelope(cursor))
        else:
            artifact = cursor.id()
            need((artifact in self.partial) == (op == 12), f"artifact {artifact.hex()} is partial, or is not")
            self.partial ^= {artifact}

    def checkpoint(self, cursor, seq, version):
        def change(kind, key):
            number = cursor.varint() if version >= 3 else 0
            need(number < seq, f"change {number} in checkpoint {seq}")
            if number:
                self.changes[kind, key] = number

        for _ in range(cursor.varint()):
            key = self.key(cursor)
            need(key not in self.refs, f"{key} is twice in a checkpoint")
            self.refs[key] = self.ref_record(cursor)
            change(0, key)
        for _ in range(cursor.varint()):
            key = self.key(cursor)
            need(key not in self.channels, f"{key} is twice in a checkpoint")
            self.channels[key] = cursor.text()
            change(1, key)
        if version >= 2:
            self.profiles = dict(cursor.sequence(lambda: (cursor.text(), self.profile(cursor))))
        if version < 3:
            return
        self.origin = cursor.option(lambda: (cursor.take(16), cursor.varint()))
        need(self.origin is None or 0 < self.origin[1] < seq, "the origin's change")
        for word, envelope in cursor.sequence(lambda: self.envelope(cursor)):
            words = self.words.setdefault(word.subject[:2], {})
            need(word.origin not in words and len(words) < 16, f"words about {word.subject[:2]}")
            words[word.origin] = word, envelope
        partial = cursor.sequence(cursor.id)
        need(ascending(partial), "partial artifacts do not ascend")
        self.partial = set(partial)

    @staticmethod
    def envelope(cursor):
        """A statement, and the envelope in which it came."""
        kind, payload = cursor.text(), cursor.blob()
        signatures = cursor.sequence(lambda: (cursor.text(), cursor.blob()))
        need(kind == "application/vnd.cairn.ref" and len(payload) <= 1024, f"an envelope of {kind}")
        need(len({key for key, _ in signatures}) == len(signatures) <= 16, "signatures of an envelope")
        return read_statement(payload), (kind, payload, signatures)

    def says(self, name):
        """What the store itself states of a ref (0, key) or channel (1, key); None where it cannot."""
        kind, key = name
        version = self.channels.get(key) if kind else None
        ref = (key[0], version, key[2]) if kind else key
        if self.origin is None or ref not in self.refs:
            return None
        origin, since = self.origin
        seq = self.changes.get((0, ref), since)
        if kind:
            seq = max(seq, self.changes.get(name, since))
        record = self.refs[ref]
        subject = (*name, version, record.artifact) if kind else (*name, record.artifact)
        return Word(origin, seq, record.time_ms, subject)

    def witness(self, word, envelope):
        name = word.subject[:2]
        kind, key = name
        version = word.subject[2] if kind else key[1]
        need(not kind or self.channels.get(key) == version, f"{key} is not what a statement says")
        ref = self.refs.get((key[0], version, key[2]))
        need(ref is not None and ref.artifact == word.subject[-1], f"{key} is not what a statement says")
        words = self.words.setdefault(name, {})
        own, (earlier, _) = self.says(name), words.pop(word.origin, (None, None))
        for known in (own, earlier):
            if known is not None and known.origin == word.origin:
                need(word.seq > known.seq or (word.seq, word.subject) == (known.seq, known.subject), f"{key} is rolled back")
        if len(words) == 16:
            del words[next(iter(words))]
        words[word.origin] = word, envelope

    def statement(self, kind, key):
        """The payload of what is passed on about a ref or channel."""
        own = self.says((kind, key))
        subject = own and own.subject
        for word, (_, payload, _) in reversed(self.words.get((kind, key), {}).values()):
            if word.subject == subject:
                return payload
        return own and statement(own)

    def change_of_names(self, cursor, op, seq):
        key = self.key(cursor)
        if op % 2 == 0:
            self.changes[op // 2, key] = seq
        else:
            self.changes.pop((op // 2, key), None)
        named = {k: v.artifact for k, v in self.refs.items()} if op <= 1 else self.channels
        if op == 0:
            need(cursor.option(cursor.id) == named.get(key), f"{key} did not name that")
            self.refs[key] = self.ref_record(cursor)
        elif op == 1:
            need(cursor.id() == named.get(key), f"{key} did not name that")
            del self.refs[key]
        elif op == 2:
            need(cursor.option(cursor.text) == named.get(key), f"{key} did not name that")
            self.channels[key] = cursor.text()
        else:
            need(cursor.text() == named.get(key), f"{key} did not name that")
            del self.channels[key]

    def change_of_profile(self, cursor, op):
        name = cursor.text()
        profile = self.profiles.setdefault(name, Profile())
        if op == 4:
            number, base = cursor.varint(), cursor.option(cursor.varint)
            need(number == profile.last + 1, f"profile {name}: generation {number} after {profile.last}")
            before = {} if base is None else profile.generations[profile.holds(base, name)]
            profile.generations[number] = self.delta(cursor, before)
            profile.last = number
            cursor.sequence(cursor.text)  # preferred
            cursor.varint()  # time
        elif op == 5:
            need(cursor.option(cursor.varint) == profile.current, f"profile {name} did not show that")
            profile.current = profile.holds(cursor.varint(), name)
        else:
            number = profile.holds(cursor.varint(), name)
            pinned = number in profile.pins
            need(pinned == (op == 8), f"profile {name}: generation {number} is pinned, or is not")
            if op == 6:
                need(number != profile.current, f"profile {name} shows {number}")
                del profile.generations[number]
            elif op == 7:
                profile.pins.add(number)
            else:
                profile.pins.remove(number)

    @staticmethod
    def delta(cursor, before):
        """The packages of a generation."""
        def commands():
            found = cursor.sequence(lambda: (cursor.blob(), cursor.blob()))
            need(ascending([command for command, _ in found]), "commands do not ascend")
            return dict(found)

        def package():
            name, old = cursor.text(), cursor.option(cursor.id)
            return name, old, Package(cursor.text(), cursor.text(), cursor.id(), commands())

        changed, removed = cursor.sequence(package), cursor.sequence(lambda: (cursor.text(), cursor.id()))
        packages = dict(before)
        for name, old in removed:
            need(name in packages and packages.pop(name).artifact == old, f"package {name} was not that")
        for name, old, new in changed:
            need(old == (packages[name].artifact if name in packages else None), f"package {name} was not that")
            packages[name] = new
        return packages

    def profile(self, cursor):
        """A profile of a checkpoint."""
        profile, before = Profile(), {}
        current, profile.last = cursor.varint(), cursor.varint()
        for _ in range(cursor.varint()):
            number = cursor.varint()
            need(max(profile.generations, default=0) < number <= profile.last, f"generation {number}")
            cursor.option(cursor.varint)  # parent
            cursor.varint()  # time
            before = profile.generations[number] = self.delta(cursor, before)
            cursor.sequence(cursor.text)  # preferred
        profile.current = profile.holds(current, "current") if current else None
        pins = cursor.sequence(cursor.varint)
        need(ascending(pins), "pins do not ascend")
        profile.pins = {profile.holds(number, "pins") for number in pins}
        return profile

    @staticmethod
    def key(cursor):
        return cursor.text(), cursor.text(), cursor.text()

    @staticmethod
    def ref_record(cursor):
        return RefRecord(cursor.id(), *(cursor.varint() for _ in range(6)))

    def resolve(self, spec, platform):
        name, _, version = spec.partition("@")
        if version == "current":
            profile = self.profiles.get("default", Profile())
            packages = profile.generations.get(profile.current, {})
            need(name in packages, f"profile default does not show {name}")
            return packages[name].artifact
        platforms = sorted({p for n, _, p in self.refs if n == name and platform in (None, p)})
        found = []
        for candidate in platforms:
            exact = self.channels.get((name, version, candidate), version)
            found += [k for k in self.refs if k == (name, exact, candidate)]
        if len(found) != 1:
            sys.exit(f"{spec} is {'not in the store' if not found else 'there for several platforms'}")
        return self.refs[found[0]].artifact


# --------------------------------------------------------------------------------------------------------- packs

class Packs:
    """Chunks by id, from the packs' footers."""

    def __init__(self, folder):
        self.folder, self.places, self.blocks = folder, {}, {}
        for path in sorted(folder.glob("[0-9a-f]" * 64 + ".pack")):
            self.add(path)

    def add(self, path):
        data = path.read_bytes()
        need(len(data) >= 80, f"{path} is cut short")
        magic, version, kind, zero = struct.unpack("<4sHB9s", data[:16])
        need(magic == b"CPK1" and not any(zero) and kind <= 2, f"{path}: header")
        need(version == (2 if kind == 2 else 1), f"{path} has version {version}")
        frames, chunks, tables_len, end_kind, zero, pack_id, zero_too, magic = struct.unpack(
            "<IIQB7s32s4s4s", data[-64:])
        need(magic == b"CPKE" and not any(zero + zero_too) and kind == end_kind, f"{path}: trailer")
        need(tables_len == 16 * frames + 36 * chunks and tables_len + 80 <= len(data), f"{path}: counts")
        tables = data[len(data) - 64 - tables_len:len(data) - 64]
        need(blake3(tables + data[-64:-40]) == pack_id and pack_id.hex() == path.stem, f"{path}: id")
        rows, at = [], 16
        for offset, length, plain in struct.iter_unpack("<QII", tables[:16 * frames]):
            need(offset == at, f"{path}: frames do not follow one another")
            at += length
            rows.append((offset, length, plain))
        need(at == len(data) - 64 - tables_len, f"{path}: frames do not end at the tables")
        entries = list(struct.iter_unpack("<32sHH", tables[16 * frames:]))
        need(ascending([entry[0] for entry in entries]), f"{path}: chunk table")
        for chunk, frame, slot in entries:
            need(frame < frames, f"{path}: chunk table")
            self.places.setdefault(chunk, (path, *rows[frame], slot))

    def get(self, chunk):
        """The verified bytes of a chunk."""
        need(chunk in self.places, f"chunk {chunk.hex()} is not in any pack")
        path, offset, length, plain, slot = self.places[chunk]
        if (path, offset) not in self.blocks:
            if len(self.blocks) >= 64:
                del self.blocks[next(iter(self.blocks))]
            with path.open("rb") as file:
                file.seek(offset)
                frame = file.read(length)
            self.blocks[path, offset] = self.decode(frame, plain, f"{path}: frame at {offset}", self.get)
        table, block = self.blocks[path, offset]
        need(slot < len(table) and table[slot][0] == chunk, f"{path}: slot {slot} of the frame at {offset}")
        start = sum(row[1] for row in table[:slot])
        data = block[start:start + table[slot][1]]
        need(blake3(data) == chunk, f"chunk {chunk.hex()} does not hash to its id")
        return data

    @staticmethod
    def decode(frame, row_plain, what, base=None):
        """Its table and plain bytes. `base` gives the bytes of a chunk that it stands on; without it stands on none."""
        cursor = Cursor(frame, what)
        magic, codec, flags, count, plain, stored, bases, zero, payload_crc = cursor.fields("4sBBHIIHHI")
        need(magic == b"CBF1" and flags == zero == 0 and count > 0, f"{what}: header")
        need(codec in (0, 1) or base and codec == 2, f"{what}: codec {codec}")
        need(0 < bases <= 4096 if codec == 2 else bases == 0, f"{what}: bases")
        table = list(struct.iter_unpack("<32sI", cursor.take(36 * count)))
        base_ids = [cursor.take(32) for _ in range(bases)]
        need(crc32c(frame[:cursor.at]) == cursor.field("I"), f"{what}: header checksum")
        need(all(length > 0 for _, length in table), f"{what}: lengths")
        need(plain == row_plain == sum(length for _, length in table) <= MIB, f"{what}: plain length")
        need(stored < plain if codec else stored == plain, f"{what}: stored length")
        payload = cursor.take(stored)
        cursor.end()
        need(crc32c(payload) == payload_crc, f"{what}: payload checksum")
        if codec == 1:
            payload = subprocess.run(["zstd", "-dcq"], input=payload, stdout=subprocess.PIPE, check=True).stdout
        elif codec == 2:
            with tempfile.NamedTemporaryFile() as prefix:
                prefix.write(b"".join(base(chunk) for chunk in base_ids))
                prefix.flush()
                command = ["zstd", "-dcq", "--long=27", f"--patch-from={prefix.name}"]
                payload = b"\x28\xb5\x2f\xfd" + payload
                payload = subprocess.run(command, input=payload, stdout=subprocess.PIPE, check=True).stdout
        need(len(payload) == plain, f"{what}: decoded length")
        return table, payload


class Archive:
    """Chunks by id, and artifacts by their names, from one file."""

    def __init__(self, path):
        data = path.read_bytes()
        cursor = Cursor(data, str(path))
        magic, version, zero = cursor.fields("4sH10s")
        need(magic == b"CAR1" and version == 1 and not any(zero), f"{path}: header")
        self.chunks, self.refs, self.bases = {}, {}, []
        counts, plain, wanted, last = [0] * 6, 0, [], 0
        while True:
            at = cursor.at
            kind, length = cursor.fields("BI")
            need(kind <= 5, f"{path}: an item of kind {kind} at {at}")
            if kind == 0:
                break
            body = cursor.take(length)
            counts[kind] += 1
            need(kind >= min(last, 3), f"{path}: the item at {at} is not in its place")
            last = kind
            if kind == 1:
                base = Cursor(body, f"{path}: what it leaves out")
                self.bases.append((base.id(), Journal.key(base)))
                base.end()
            elif kind == 2:
                self.state(body, wanted)
            elif kind == 3:
                need(counts[3] <= len(wanted) and wanted[counts[3] - 1] == body, f"{path}: the artifact at {at}")
            else:
                need(counts[3] > 0, f"{path}: the frame at {at} belongs to no artifact")
                plain += self.frame(body, f"{path}: frame at {at}")
        need(length == 80 and counts[3] == len(wanted) > 0, f"{path}: end")
        said = cursor.fields("4I4Q")
        need(said == (counts[3], counts[2], counts[1], 0, counts[4], counts[5], self.count, plain), f"{path}: counts")
        need(blake3(data[:cursor.at]) == cursor.take(32), f"{path}: hash")
        cursor.end()

    count = 0

    def state(self, body, wanted):
        envelope = json.loads(body)
        need(list(envelope) == ["payloadType", "payload", "signatures"], "an envelope has other fields")
        word = read_statement(base64.b64decode(envelope["payload"], validate=True))
        if word.subject[0] == 0:
            need(word.subject[2] not in wanted, "two statements name one artifact")
            self.refs[word.subject[1]] = word.subject[2]
            wanted.append(word.subject[2])
        else:
            need(wanted and wanted[-1] == word.subject[3], "a channel leads elsewhere")

    def frame(self, body, what):
        plain = struct.unpack("<I", body[8:12])[0]
        table, block = Packs.decode(body, plain, what)
        at = 0
        for chunk, length in table:
            self.chunks[chunk] = block[at:at + length]
            at += length
            self.count += 1
        return plain

    def get(self, chunk):
        need(chunk in self.chunks, f"chunk {chunk.hex()} is not in the archive")
        need(blake3(self.chunks[chunk]) == chunk, f"chunk {chunk.hex()} does not hash to its id")
        return self.chunks[chunk]


# ------------------------------------------------------------------------------------------------- trees, contents

Entry = namedtuple("Entry", "name kind mode body full")
Full = namedtuple("Full", "uid gid mtime_s mtime_ns link xattrs")
FILE_INLINE, FILE_CHUNKS, FILE_LONG, DIR, SYMLINK, FIFO, CHAR, BLOCK = range(8)
HOLE = bytes(32)


def open_node(packs, node, magic, level, is_root):
    cursor = Cursor(packs.get(node), f"{magic.decode()} {node.hex()}")
    found, version, found_level, zero, count = cursor.fields("4sBBHI")
    need(found == magic and version == 1 and zero == 0 and found_level <= 15, f"{cursor.what}: header")
    need(level in (None, found_level), f"{cursor.what}: level")
    need(not is_root or found_level == 0 or count >= 2, f"{cursor.what}: a root with one child")
    return cursor, found_level, count


def read_name(cursor):
    name = cursor.take(cursor.field("B"))
    need(name not in (b"", b".", b"..") and b"/" not in name and 0 not in name, f"{cursor.what}: name {name!r}")
    return name


def read_tree(packs, tree):
    """The entries of a directory."""
    entries = tree_node(packs, tree, None, True)
    need(ascending([entry.name for entry in entries]), f"tree {tree.hex()}: names do not ascend")
    return entries


def tree_node(packs, node, level, is_root=False):
    cursor, level, count = open_node(packs, node, b"CTRE", level, is_root)
    need(count > 0 or is_root, f"{cursor.what} is empty")
    entries = []
    for _ in range(count):
        if level == 0:
            entries.append(read_entry(cursor))
            continue
        first, child, below = read_name(cursor), cursor.id(), cursor.field("Q")
        inside = tree_node(packs, child, level - 1)
        need(len(inside) == below and inside[0].name == first, f"{cursor.what}: child {child.hex()}")
        entries += inside
    cursor.end()
    return entries


def read_entry(cursor):
    start, name = cursor.at, read_name(cursor)
    kind, mode = cursor.fields("BH")
    need(mode <= 0o7777, f"{cursor.what}: mode")
    has_full, kind = kind >> 7, kind & 0x7F
    if kind == FILE_INLINE:
        body = cursor.take(cursor.field("B"))
        need(len(body) <= 128, f"{cursor.what}: inline file")
    elif kind == FILE_CHUNKS:
        body = [cursor.fields("32sI") for _ in range(cursor.field("B"))]
        check_chunks(body, cursor.what)
        need(1 <= len(body) <= 32 and sum(length for _, length in body) > 128, f"{cursor.what}: chunks")
    elif kind == FILE_LONG:
        body = cursor.fields("QQ32s")
        need(32 < body[1] <= body[0] < 1 << 63, f"{cursor.what}: long file")
    elif kind == DIR:
        body = cursor.id()
    elif kind == SYMLINK:
        body = cursor.take(cursor.field("H"))
        need(1 <= len(body) <= 4095 and 0 not in body and mode == 0o777, f"{cursor.what}: link")
    elif kind == FIFO:
        body = None
    else:
        need(kind in (CHAR, BLOCK), f"{cursor.what}: kind {kind}")
        body = cursor.fields("II")
    full = read_full(cursor, kind) if has_full else None
    need(cursor.at - start <= 1 << 18, f"{cursor.what}: long entry")
    return Entry(name, kind, mode, body, full)


def read_full(cursor, kind):
    uid, gid, mtime_s, mtime_ns, link, count = cursor.fields("IIqIIH")
    need(mtime_ns < 10**9 and (link == 0 or kind != DIR), f"{cursor.what}: metadata")
    xattrs = []
    for _ in range(count):
        name = cursor.take(cursor.field("B"))
        length = cursor.field("I")
        need(name and 0 not in name and length <= 1 << 16, f"{cursor.what}: attribute")
        xattrs.append((name, cursor.take(length)))
    need(ascending([name for name, _ in xattrs]), f"{cursor.what}: attributes do not ascend")
    return Full(uid, gid, mtime_s, mtime_ns, link, xattrs)


def check_chunks(chunks, what):
    for index, (chunk, length) in enumerate(chunks):
        need(length > 0 and (chunk == HOLE or length <= MIB), f"{what}: chunk length {length}")
        if index and chunk == HOLE == chunks[index - 1][0]:
            need(chunks[index - 1][1] == MASK, f"{what}: holes that are not merged")


def content_node(packs, node, level, is_root=False):
    """All chunk references below a content node."""
    cursor, level, count = open_node(packs, node, b"CCON", level, is_root)
    need(1 <= count <= 2048, f"{cursor.what}: {count} entries")
    chunks = []
    for _ in range(count):
        if level == 0:
            chunks.append(cursor.fields("32sI"))
            continue
        child, below, number = cursor.fields("32sQQ")
        inside = content_node(packs, child, level - 1)
        need((sum(c[1] for c in inside), len(inside)) == (below, number), f"{cursor.what}: child {child.hex()}")
        chunks += inside
    cursor.end()
    return chunks


def chunks_of(packs, entry):
    if entry.kind == FILE_CHUNKS:
        return entry.body
    size, number, root = entry.body
    chunks = content_node(packs, root, None, True)
    check_chunks(chunks, f"content {root.hex()}")
    need((sum(length for _, length in chunks), len(chunks)) == (size, number), f"content {root.hex()}: totals")
    return chunks


# ------------------------------------------------------------------------------------------------------ artifacts

Artifact = namedtuple("Artifact", "kind name version platform policy chunking root mode full entries files bytes "
                                  "chunks provenance")


def read_artifact(packs, artifact):
    cursor = Cursor(packs.get(artifact), f"artifact {artifact.hex()}")
    need(cursor.fields("4sB") == (b"CART", 1), f"{cursor.what}: magic or version")

    def full():
        fields = [cursor.varint(), cursor.varint(), cursor.signed(), cursor.varint(), cursor.varint()]
        return Full(*fields, cursor.sequence(lambda: (cursor.blob(), cursor.blob())))

    def chunking():
        return cursor.varint(), cursor.varint(), cursor.varint(), cursor.flag()

    read = Artifact(
        cursor.varint(), cursor.text(), cursor.text(), cursor.text(), cursor.varint(), chunking(), cursor.id(),
        cursor.varint(), cursor.option(full), *(cursor.varint() for _ in range(4)),
        cursor.sequence(lambda: (cursor.text(), cursor.text())))
    cursor.end()
    need(read.kind <= 1 and read.policy == (read.full is not None), f"{cursor.what}: kind or policy")
    need(ascending([key.encode() for key, _ in read.provenance]), f"{cursor.what}: provenance")
    return read


class Extraction:
    """Writes a tree and counts what it wrote."""

    PORTABLE_DATE = 315_532_800

    def __init__(self, packs, artifact):
        self.packs, self.artifact, self.links = packs, artifact, {}
        self.entries = self.files = self.bytes = self.chunks = 0

    def run(self, dest):
        artifact = self.artifact
        os.mkdir(dest, 0o700)
        self.directory(os.fsencode(dest), artifact.root, 0)
        self.stamp(os.fsencode(dest), artifact.mode, artifact.full)
        for what in ("entries", "files", "bytes", "chunks"):
            counted, said = getattr(self, what), getattr(artifact, what)
            need(counted == said, f"the artifact says {said} {what}, and there are {counted}")

    def directory(self, path, tree, path_len):
        for entry in read_tree(self.packs, tree):
            self.entries += 1
            need((entry.full is None) == (self.artifact.policy == 0), f"{entry.name!r}: metadata against the policy")
            inner_len = path_len + len(entry.name) + (path_len > 0)
            need(inner_len <= 4096, "a path is too long")
            self.entry(path + b"/" + entry.name, entry, inner_len)

    def entry(self, path, entry, path_len):
        link = entry.full.link if entry.full else 0
        if entry.kind in (FILE_INLINE, FILE_CHUNKS, FILE_LONG):
            self.files += 1
        if link in self.links:
            os.link(self.links[link], path, follow_symlinks=False)
            self.file(None, entry)
            return
        if entry.kind == DIR:
            os.mkdir(path, 0o700)
            self.directory(path, entry.body, path_len)
        elif entry.kind == SYMLINK:
            os.symlink(entry.body, path)
        elif entry.kind == FIFO:
            os.mkfifo(path, 0o600)
        elif entry.kind in (CHAR, BLOCK):
            print(f"{os.fsdecode(path)}: a device, left out", file=sys.stderr)
            return
        else:
            with open(path, "xb") as file:
                self.file(file, entry)
        if link:
            self.links[link] = path
        self.stamp(path, entry.mode, entry.full, entry.kind == SYMLINK)

    def file(self, file, entry):
        """Writes a file's bytes, or only counts them."""
        if entry.kind == FILE_INLINE:
            self.bytes += len(entry.body)
            if file:
                file.write(entry.body)
        elif entry.kind in (FILE_CHUNKS, FILE_LONG):
            at = 0
            for chunk, length in chunks_of(self.packs, entry):
                self.chunks += 1
                self.bytes += length
                if file and chunk != HOLE:
                    data = self.packs.get(chunk)
                    need(len(data) == length, f"chunk {chunk.hex()} has another length")
                    file.seek(at)
                    file.write(data)
                at += length
            if file:
                file.truncate(at)

    def stamp(self, path, mode, full, is_link=False):
        when = full.mtime_s * 10**9 + full.mtime_ns if full else self.PORTABLE_DATE * 10**9
        if not is_link:
            os.chmod(path, mode)
        os.utime(path, ns=(when, when), follow_symlinks=False)


def print_names(journal):
    for key, record in sorted(journal.refs.items()):
        print("ref", *key, record.artifact.hex(), (journal.statement(0, key) or b"").hex())
    for key, version in sorted(journal.channels.items()):
        print("channel", *key, version, (journal.statement(1, key) or b"").hex())
    for artifact in sorted(journal.partial):
        print("partial", artifact.hex())


def main():
    names_only = sys.argv[2:] == ["--names"]
    if len(sys.argv) not in (4, 5) and not names_only:
        sys.exit(__doc__)
    store = Path(sys.argv[1])
    if store.is_file():
        archive = Archive(store)
        refs = [ref for key, ref in archive.refs.items() if f"{key[0]}@{key[1]}" == sys.argv[2] and key[2] in (sys.argv[4:] or key)]
        need(len(refs) == 1, f"{len(refs)} artifacts in the archive are {sys.argv[2]}")
        Extraction(archive, read_artifact(archive, refs[0])).run(sys.argv[3])
        print(refs[0].hex())
        return
    need((store / "cairn-store").read_text() == "cairn store\nformat 1\n", f"{store} is no store of format 1")
    journal = Journal(store / "journal")
    if names_only:
        print_names(journal)
        return
    spec, dest = sys.argv[2], sys.argv[3]
    artifact = journal.resolve(spec, sys.argv[4] if len(sys.argv) == 5 else None)
    packs = Packs(store / "packs")
    Extraction(packs, read_artifact(packs, artifact)).run(dest)
    print(artifact.hex())


if __name__ == "__main__":
    try:
        main()
    except Damaged as damage:
        sys.exit(f"damaged: {damage}")
