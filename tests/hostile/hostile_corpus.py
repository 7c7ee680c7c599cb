"""Files made to execute code, or to use up memory or time: kind of file → name → content.

Files that would execute code write CANARY into the working directory.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

CANARY = "executed"
TEN_GB = 10 * 2**30


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


COMMAND = text(f"touch {CANARY}")
ARRAY = pickle.dumps(np.zeros((2, 64, 64), np.uint8), 3)

CALLS = {
    "global": b"cbuiltins\neval\n.",
    "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + COMMAND + b"\x85R.",
    "reduce": b"cposix\nsystem\n" + COMMAND + b"\x85R.",
    "inst": b"(" + COMMAND + b"iposix\nsystem\n.",
    "obj": b"(cposix\nsystem\n" + COMMAND + b"o.",
    "newobj": b"\x80\x02csubprocess\nPopen\n" + COMMAND + b"\x85\x81.",
    "newobj_ex": b"\x80\x04csubprocess\nPopen\n" + COMMAND + b"\x85}\x92.",
    "bare_inst": b"(iposix\nsystem\n.",
    "bare_obj": b"(No.",
    "bare_newobj": b"N)\x81.",
    "bare_newobj_ex": b"N)}\x92.",
    "build": b"cbuiltins\nlicense\n}" + text("_Printer__filenames") + b"]sb.",
    "ext1": b"\x82\x01.",
    "ext2": b"\x83\x01\0.",
    "ext4": b"\x84\x01\0\0\0.",
    "persid": b"Pposix.system\n.",
    "binpersid_of_text": COMMAND + b"Q.",
    "next_buffer": b"\x80\x05\x97.",
    "readonly_buffer": b"\x80\x05N\x98.",
    "getattr_of_an_allowed_name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "numpy_load": b"cnumpy\nload\n" + COMMAND + b"\x85R.",
    "torch_load": b"ctorch\nload\n" + COMMAND + b"\x85R.",
    "codec": b"c_codecs\ndecode\n" + COMMAND + text("rot13") + b"\x86R.",
    "after_an_array": b"(" + ARRAY[2:-1] + b"cposix\nsystem\n" + COMMAND + b"\x85Rt.",
    "called_text": text("posix.system") + COMMAND + b"\x85R.",
    "name_with_newlines": b"\x80\x04" + text("posix\n\x1b[2J") + text("system\r") + b"\x93.",
    "long_name": b"\x80\x04" + text("a" * 100_000) + text("b") + b"\x93.",
}


def colliding_keys(count: int) -> bytes:
    """Integers that all have the hash 0: a dict of them takes count² comparisons."""
    prime = 2**61 - 1
    keys = b"".join(b"\x8a\x0a" + (n * prime).to_bytes(10, "little") + b"N" for n in range(1, count))
    return b"}(" + keys + b"u."


BOMBS = {
    "deep_tuples": b")" + 300_000 * b"\x85" + b".",
    "deep_tuples_as_key": b"})" + 300_000 * b"\x85" + b"Ns.",
    "deep_lists": 50_000 * b"]" + 49_999 * b"a" + b".",
    "deep_marks": 300_000 * b"(" + 300_000 * b"t" + b".",
    "deep_dicts": 20_000 * b"}K\0" + b"N" + 20_000 * b"s" + b".",
    "doubled_tuples": b")" + 110 * b"q\0h\0\x86" + b".",
    "doubled_tuples_as_key": b"})" + 110 * b"q\0h\0\x86" + b"Ns.",
    "doubled_in_few_levels": b")" + 40 * (b"q\0" + b"(" + 50 * b"h\0" + b"t") + b".",
    "list_in_itself": b"]q\0h\0a.",
    "list_grows_inside_another": b"]q\0]q\1h\0ah\0h\1a.",
    "dict_in_itself": b"}q\0K\0h\0s.",
    "large_memo_index": b"\x80\x02Nr\xff\xff\xff\xff.",
    "larger_memo_index": b"Np" + 4000 * b"9" + b"\n.",
    "negative_memo_index": b"Np-1\n.",
    "long_digits": b"L" + 10**6 * b"9" + b"L\n.",
    "int_digits": b"I" + 10**6 * b"9" + b"\n.",
    "long4": b"\x8b\xff\xff\xff\x7f.",
    "long4_held": b"\x8b" + struct.pack("<i", 10**6) + 10**6 * b"\x7f.",
    "bytes_10_gb": b"\x80\x04\x8e" + struct.pack("<Q", TEN_GB) + b".",
    "bytearray_10_gb": b"\x80\x05\x96" + struct.pack("<Q", TEN_GB) + b".",
    "bytearray_2_to_64": b"\x80\x05\x96" + 8 * b"\xff" + b".",
    "text_10_gb": b"\x80\x04\x8d" + struct.pack("<Q", TEN_GB) + b".",
    "text_4_gb": b"\x80\x04X\xff\xff\xff\xff.",
    "frame_10_gb": b"\x80\x04\x95" + struct.pack("<Q", TEN_GB) + b"N.",
    "frames_in_frames": b"\x80\x04" + 1000 * (b"\x95" + struct.pack("<Q", 100)) + b".",
    "colliding_keys": colliding_keys(30_000),
    "million_dicts": 1_000_000 * b"}" + b".",
    "million_marks": 1_000_000 * b"(" + b".",
    "no_end": b"\x80\x04N",
    "nothing": b"",
    "two_values": b"NN.",
    "mark_as_value": b"(.",
    "mark_in_a_tuple": b"(\x85.",
    "text_by_an_old_python": b"S'a'\n.",
    "protocol_99": b"\x80\x63N.",
    "protocol_twice": b"\x80\x02\x80\x02N.",
}


def array_state(shape: bytes, dtype: bytes = text("u1") + b"\x89\x88\x87", content: bytes = b"C\1a") -> bytes:
    """The pickle of an array with this shape, arguments of its dtype, and content."""
    start = b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R(K\1"
    return start + shape + b"cnumpy\ndtype\n" + dtype + b"R\x89" + content + b"tb."


def encoded_again() -> bytes:
    """A megabyte of text that becomes bytes 20,000 times over."""
    start = b"\x80\x02c_codecs\nencode\nq\0" + text("a" * 2**20) + text("latin1") + b"\x86q\1"
    return start + 20_000 * b"h\0h\1R" + b"."


def pickles() -> dict[str, bytes]:
    arrays = {
        "shape_10_gb": array_state(b"J" + struct.pack("<i", 2**30) + b"K\x0a\x86"),
        "shape_of_many_axes": array_state(b"(" + 100 * b"K\1" + b"t"),
        "shape_beyond_a_word": array_state(
            b"(K\0" + 3 * (b"\x8a\x09" + 8 * b"\xff" + b"\0") + b"t", content=b"C\0"
        ),
        "negative_shape": array_state(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"),
        "shape_of_bools": array_state(b"\x88\x85"),
        "shape_of_lists": array_state(b"]\x85"),
        "objects": array_state(b"K\1\x85", text("O8") + b"\x89\x88\x87", b"]Na"),
        "structs": array_state(b"K\1\x85", text("u1,u1") + b"\x89\x88\x87"),
        "huge_items": array_state(b"K\1\x85", text("V2000000000") + b"\x89\x88\x87"),
        "dtype_of_code": array_state(b"K\1\x85", text("(9**9**9,)u1") + b"\x89\x88\x87"),
        "encoded_again": encoded_again(),
        "array_without_state": b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R.",
        "buffer_2_to_64": pickle.dumps(np.zeros((2, 64, 64), np.uint8), 5).replace(
            b"\x96" + struct.pack("<Q", 8192), b"\x96" + 8 * b"\xff"
        ),
    }
    return CALLS | BOMBS | arrays


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def with_sizes(archive: bytes, size: int) -> bytes:
    """The archive, whose directory says of every entry that it unpacks to `size` bytes."""
    changed, place = bytearray(archive), 0
    while (place := changed.find(b"PK\1\2", place)) >= 0:
        changed[place + 24 : place + 28] = struct.pack("<I", size)
        place += 4
    return bytes(changed)


def tensor(shape: bytes, strides: bytes, key: str = "0", count: bytes = b"K\4") -> bytes:
    storage = text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + count
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQK\0" + shape + strides
    return b"\x80\x02}" + text("w") + rebuild + b"\x89ccollections\nOrderedDict\n)RtRs."


def checkpoints() -> dict[str, bytes]:
    def torch_file(program: bytes) -> bytes:
        return zipped({"archive/data.pkl": program, "archive/data/0": bytes(16)})

    billion = b"J" + struct.pack("<i", 2**30)
    programs = {
        "tensor_10_gb": tensor(billion + b"K\x0a\x86", b"K\x0aK\1\x86"),
        "tensor_10_gb_of_one_element": tensor(billion + b"K\x0a\x86", b"K\0K\0\x86"),
        "empty_tensor_beyond_a_word": tensor(b"K\0\x8a\x09" + 8 * b"\xff" + b"\0\x86", b"K\0K\0\x86"),
        "storage_10_gb": tensor(b"K\1\x85", b"K\1\x85", count=b"\x8a\x05\0\0\0\x80\2"),
        "storage_elsewhere": tensor(b"K\1\x85", b"K\1\x85", key="../../../etc/passwd"),
        "shape_of_text": tensor(text("aa"), text("aa")),
        "storage_called": b"ctorch\nFloatStorage\n)R.",
        "dict_of_no_dict": b"ccollections\nOrderedDict\nK\5\x85R.",
    }
    whole = torch_file(b"\x80\x02}.")
    files = {
        "compressed": zipped(
            {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(2**24)}, zipfile.ZIP_DEFLATED
        ),
        "directory_claims_4_gb": with_sizes(whole, 2**32 - 2),
        "no_pickle": zipped({"archive/data/0": bytes(16)}),
        "two_pickles": zipped({"a/data.pkl": b"}.", "b/data.pkl": b"}."}),
        "outside_the_archive": zipped({"../data.pkl": CALLS["reduce"]}),
        "cut": whole[: len(whole) // 2],
        "lone_pickle": CALLS["reduce"],
    }
    inside = CALLS | BOMBS | programs
    del inside["large_memo_index"]  # None, which a checkpoint may be
    del inside["million_dicts"], inside["million_marks"]  # as of arrays, for the machine is the same
    return {name: torch_file(program) for name, program in inside.items()} | files


def npy(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    encoded = header.encode() + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(encoded))
    return b"\x93NUMPY" + version + length + encoded + content


def header(descr: str, shape: str) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"


def zeros_deflated(size: int) -> bytes:
    """A raw deflate stream of so many megabytes of zeros, a thousandth as long, made in no time."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return megabyte * size + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def npz_bomb(megabytes: int) -> bytes:
    """An .npz file with one entry of zeros, as large as its directory says."""
    stream, name, size = zeros_deflated(megabytes), b"embeddings.npy", megabytes * 2**20
    sizes = struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF)
    extra = struct.pack("<HHQQ", 1, 16, size, len(stream))
    common = struct.pack("<HHHHI", 0, 8, 0, 0, 0) + sizes + struct.pack("<HH", len(name), len(extra))
    local = b"PK\3\4" + struct.pack("<H", 45) + common + name + extra + stream
    central = b"PK\1\2" + struct.pack("<HH", 45, 45) + common + bytes(14) + name + extra
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def embeddings() -> dict[str, bytes]:
    def lone(entry: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
        label = io.BytesIO()
        np.save(label, np.array(["1"]))
        labels = {f"{name}.npy": label.getvalue() for name in ("subjects", "conditions", "views")}
        return zipped({"embeddings.npy": entry, **labels}, method)

    good = npy(header("<f4", "(1, 1, 1)"), bytes(4))
    entries = {
        "claims_10_tb": npy(header("<f4", "(2500000000, 1000, 1)"), bytes(64)),
        "claims_beyond_a_word": npy(header("<f4", f"({2**62}, {2**62}, 4)"), bytes(64)),
        "negative_shape": npy(header("<f4", "(-1, -1, 1)"), bytes(4)),
        "items_of_no_bytes": npy(header("<U0", "(1000000000000,)")),
        "empty_beyond_a_word": npy(header("<f4", f"(0, {2**70})")),
        "objects": npy(header("|O", "(1,)"), CALLS["reduce"]),
        "objects_in_structs": npy(
            "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", CALLS["reduce"]
        ),
        "lone_pickle_entry": CALLS["reduce"],
        "header_of_10_mb": npy(header("<f4", "(" + "1, " * 3_000_000 + ")"), version=b"\2\0"),
        "header_nested": npy("(" * 9000),
        "header_of_signs": npy("-" * 9000 + "1"),
        "header_of_sums": npy("1+" * 4000 + "1j"),
        "header_with_a_call": npy(header("<f4", f"__import__('os').system('touch {CANARY}')"), bytes(4)),
        "header_cut": b"\x93NUMPY\1\0\xff\xff{",
        "version_9": b"\x93NUMPY\x09\0" + good[8:],
    }
    good_file = lone(good)
    files = {
        "5_gb_in_5_mb": npz_bomb(5700),
        "300_mb_in_300_kb": npz_bomb(300),
        "directory_claims_4_gb": with_sizes(good_file, 2**32 - 2),
        "bzip2": lone(good, zipfile.ZIP_BZIP2),
        "lzma": lone(good, zipfile.ZIP_LZMA),
        "lone_array": good,
        "lone_pickle": CALLS["reduce"],
        "cut": good_file[: len(good_file) // 2],
        "nothing": b"",
    }
    return {name: lone(entry) for name, entry in entries.items()} | files


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, height: int, pixels: bytes, *, colour: int = 0, depth: int = 8, extra: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def frames() -> dict[str, bytes]:
    dark = zlib.compress(bytes(65 * 64))
    wide = zlib.compress(b"\0" + b"\xff" * 1_000_000)
    bomb = b"\x78\xda" + zeros_deflated(3500)
    return {
        "wide": png(1_000_000, 1, wide),
        "high": png(1, 1_000_000, zlib.compress(bytes(2_000_000))),
        "rgba_bomb": png(30_000, 30_000, bomb, colour=6),
        "rgba_bomb_of_16_bits": png(20_000, 20_000, bomb, colour=6, depth=16),
        "rgba_bomb_within_a_side": png(8192, 8192, bomb, colour=6),
        "2_to_31": png(2**31 - 1, 2**31 - 1, dark),
        "2_to_32": png(2**32 - 1, 2**32 - 1, dark),
        "no_pixels": png(0, 0, dark),
        "more_rows_than_pixels": png(64, 8000, dark),
        "more_pixels_than_rows": png(64, 64, bomb),
        "header_cut": png(64, 64, dark)[:20] + b"IEND\xaeB`\x82",
        "no_header": b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", dark) + chunk(b"IEND", b""),
        "depth_of_16": png(64, 64, zlib.compress(bytes(129 * 64)), depth=16),
        "too_many_bytes": png(64, 64, dark, extra=chunk(b"tEXt", b"a\0" + bytes(34_000_000))),
        "a_bitmap": b"BM" + bytes(100),
        "nothing": b"",
    }


def partitions() -> dict[str, bytes]:
    sets = {"TRAIN_SET": ["001"], "TEST_SET": ["002"]}
    return {
        "deep_lists": b'{"TRAIN_SET": ' + b"[" * 500_000,
        "deep_objects": b'{"TRAIN_SET":' * 200_000,
        "too_many_bytes": json.dumps(sets).encode() + b" " * 17_000_000,
        "long_digits": b'{"TRAIN_SET": [' + b"9" * 100_000 + b"]}",
        "numbers": json.dumps(sets | {"TEST_SET": [2]}).encode(),
        "text": json.dumps(sets | {"TEST_SET": "002"}).encode(),
        "an_object": json.dumps(sets | {"TEST_SET": {"002": 1}}).encode(),
        "nested": json.dumps(sets | {"TEST_SET": [["002"]]}).encode(),
        "nothing_in_it": b"null",
        "a_list": b"[]",
        "not_utf8": b'{"TRAIN_SET": ["\xff"]}',
        "two_byte_text": '{"TRAIN_SET": []}'.encode("utf-16"),
        "nothing": b"",
    }


def manifests() -> dict[str, bytes]:
    """records.json, which must name plain files in its own folder."""
    good = {
        "format": 2,
        "dataset": "tree",
        "source": "a",
        "skipped_sequences": 0,
        "skipped_frames": 0,
        "files": {"a": 1},
        "sequences": [["001", "nm-01", "090", 2]],
    }
    changes: dict[str, dict[str, object]] = {
        "parent": {"files": {"../../etc/passwd": 1}},
        "absolute": {"files": {"/etc/passwd": 1}},
        "below": {"files": {"a/b": 1}},
        "backslash": {"files": {"..\\a": 1}},
        "dots": {"files": {"..": 4096}},
        "nul": {"files": {"a\0": 1}},
        "half_a_character": {"files": {"\ud800": 1}},
        "files_in_a_list": {"files": ["a"]},
        "size_of_text": {"files": {"a": "1"}},
        "number_of_sequences": {"sequences": 5},
        "short_sequence": {"sequences": [["a"]]},
        "nested_sequence": {"sequences": [[["001"], "nm-01", "090", 2]]},
        "negative_count": {"skipped_frames": -1},
        "source_of_lists": {"source": [[]]},
        "file_missing": {},
    }
    files = {name: json.dumps(good | change).encode() for name, change in changes.items()}
    return files | {"deep": b'{"files": ' + b"[" * 500_000, "empty": b"", "list": b"[]"}


def corpus() -> Iterator[tuple[str, str, bytes]]:
    """Yields kind, name and content of every hostile file."""
    kinds = {
        "pkl": pickles,
        "pt": checkpoints,
        "npz": embeddings,
        "png": frames,
        "json": partitions,
        "records": manifests,
    }
    for kind, make in kinds.items():
        for name, content in make().items():
            yield kind, name, content
