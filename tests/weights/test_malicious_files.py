"""Files made to do harm: each raises an InputError that names the file, soon and in little memory.

Programs that run code are in test_fairseq.py and test_torch_files.py too; these cost time or
memory, end the process, change objects behind their classes' backs, or lie about sizes.
"""

import os
import pickle
import resource
import struct
import sys
import zipfile

import pytest
from commands import run

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint

MEGABYTES = 600
pytestmark = pytest.mark.timeout(300)  # what takes for ever fails
MARK = b"pos_conv.0.weight_v"
LEGACY = b"".join(
    pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


def text(value):
    content = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(content)) + content


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
DEEP = b")" + b"\x85" * 300_000
MANY = b"]q\x00(" + b"]K\x01aNa" * 60_000 + b"e"


def tensor(storage=STORAGE, shape=b"(K\x04t", stride=b"(K\x01t", after=b""):
    """A dictionary of a model with one tensor."""
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + stride
    made += b"\x89ccollections\nOrderedDict\n)RtR" + after
    return b"}" + text("model") + b"}" + text("mask_emb") + made + b"ss"


def laughs(depth, width):
    inner = b"]"
    for place in range(depth):
        inner = b"](" + inner + b"q" + bytes([place]) + (b"h" + bytes([place])) * width + b"e"
    return inner


def settings(name, value):
    model = b"}" + text("model") + b"}" + text(name) + value + b"ss"
    return b"}(" + text("model") + b"}" + text("cfg") + model + b"u"


def state(values):
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"ub"


PROGRAMS = {
    "a memo of 2^30 places": b"Nr\xff\xff\xff\x3f",
    "bytes of 8 GiB": b"\x8e" + struct.pack("<Q", 1 << 33),
    "a frame of a TiB": b"\x95" + struct.pack("<Q", 1 << 40),
    "a number of two million digits": b"L" + b"9" * 2_000_000 + b"L\n",
    "twelve million dictionaries": b"}" * 12_000_000,
    "a million objects": b"cargparse\nNamespace\nq\x00" + b"h\x00)\x81" * 1_000_000,
    "a key nested so deeply that hashing it ends the process": b"}" + DEEP + b"Ns",
    "such a key in an OrderedDict": b"ccollections\nOrderedDict\n]]" + DEEP + b"aNaa\x85R",
    "such a key in a set": b"c__builtin__\nset\n]" + DEEP + b"a\x85R",
    "keys of one hash": b"}("
    + b"".join(
        b"\x8a\x0d" + (i * ((1 << 61) - 1)).to_bytes(13, "little") + b"N" for i in range(99_999)
    )
    + b"u",
    "many items given often": b"ccollections\nOrderedDict\nq\x01"
    + MANY
    + b"\x85q\x02"
    + b"h\x01h\x02R" * 30_000,
    "a tuple given often": b"cargparse\nNamespace\nq\x01("
    + b"N" * 200_000
    + b"tq\x02"
    + b"h\x01h\x02\x81" * 60_000,
    "a storage named by a list that doubles": b"("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + laughs(80, 1)
    + text("cpu")
    + b"K\x04tQ",
    "settings that multiply": settings("dropout", laughs(20, 500)),
    "a storage of another file": tensor(
        STORAGE + state({"path": text("/etc/passwd"), "dtype": text("uint8"), "start": b"K\x00"})
    ),
    "a tensor changed behind its back": tensor(
        after=state({"shape": b"(J\x00\x00\x00\x10t", "offset": b"J\x00\x00\x00\x10"})
    ),
    "a tensor expanded to 2^44 numbers": tensor(
        shape=b"(\x8a\x06\x00\x00\x00\x00\x00\x10t", stride=b"(K\x00t"
    ),
    "a tensor of 100 sizes": tensor(shape=b"(" + b"K\x01" * 100 + b"t"),
    "a layer's number": b"}" + text("encoder.layers.99999999999.fc1.weight") + b"Ns",
    "a number of 6000 digits": b"}" + text(f"encoder.layers.{'9' * 6000}.fc1.weight") + b"Ns",
    "a dictionary whose get is a number": b"ccollections\nOrderedDict\n)R"
    + state({"get": b"K\x05", "items": b"K\x05"}),
    "control codes in a name": b"\x8c\x05posix\x8c\x06\x1b[2Jab\x93",
    "half a surrogate": b"}" + text(b"\xed\xa0\x80") + b"Ns",
    "an instance (INST)": b"(" + text("true") + b"iposix\nsystem\n",
    "an object (OBJ)": b"(cposix\nsystem\n" + text("true") + b"o",
    "named arguments (NEWOBJ_EX)": b"cposix\nsystem\n" + text("true") + b"\x85}\x92",
    "extension codes": b"\x82\x01",
    "large extension codes": b"\x84\x01\x00\x00\x00",
    "code as a persistent id": b"cbuiltins\nexec\n" + text("1") + b"\x85RQ",
    "code as a state": b"cargparse\nNamespace\n)\x81cbuiltins\neval\n" + text("1") + b"\x85Rb",
    "its own __setstate__": b"cargparse\nNamespace\n)\x81"
    + state({"__setstate__": b"cposix\nsystem\n"})
    + text("true")
    + b"b",
    "bytes that torch would load": b"ctorch.storage\n_load_from_bytes\nC\x01a\x85R",
    "nothing on the stack": b"00000",
    "no end": b"N" * 10,
}
ENDLESS = "no end"


def write_zip(path, program, *entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/version", b"3\n")
        for name, content, kind in entries or [("x/data/0", b"0" * 16, zipfile.ZIP_STORED)]:
            archive.writestr(name, content, compress_type=kind)


def read_all(path):
    checkpoint = Checkpoint.open(str(path))
    for name in checkpoint.index:
        checkpoint.array(name)


def refused(path):
    """Open a file, look at the error, and return it; the memory is within bounds."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(InputError) as caught:
        read_all(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4
    assert all(line.isprintable() for line in caught.value.message.split("\n"))
    assert len(caught.value.message) < 5000
    if sys.platform == "linux":  # elsewhere the unit is another
        assert (after.ru_maxrss - before.ru_maxrss) / 1024 < MEGABYTES
    return caught.value


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("reader", ["fairseq", "torch"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_only_raises(tmp_path, name, reader, kind):
    mark = text(MARK) + b"0" if reader == "fairseq" else b""
    program = b"\x80\x04" + mark + PROGRAMS[name] + (b"" if name == ENDLESS else b".")
    path = tmp_path / "model_fairseq.pt"
    if kind == "zip":
        write_zip(path, program)
    else:
        path.write_bytes(LEGACY + program if kind == "legacy" else program)
    refused(path)


GOOD = b"\x80\x02" + text(MARK) + b"0" + tensor() + b"."
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    "entries",
    [
        [("x/byteorder", b"l" * 100_000_000, DEFLATED), ("x/data/0", b"0" * 16, STORED)],
        [("x/data/0", b"0" * 16, DEFLATED)],
        [("x/byteorder", b"big", STORED), ("x/data/0", b"0" * 16, STORED)],
        [("x/data/0", b"0" * 15, STORED)],
        [("../../x/data/0", b"0" * 16, STORED)],
        [("/x/data/0", b"0" * 16, STORED)],
    ],
    ids=[
        "a bomb",
        "compressed numbers",
        "byte order",
        "short",
        "a path upwards",
        "an absolute path",
    ],
)
def test_parts_of_an_archive_are_no_way_in(tmp_path, entries):
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    write_zip(folder / "model_fairseq.pt", GOOD, *entries)
    refused(folder / "model_fairseq.pt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model_fairseq.pt", "one", "two"]


def test_a_compressed_program_and_two_programs_are_refused(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + b"N" * 50_000_000 + b".")
    refused(path)
    write_zip(path, b"\x80\x02}.", ("x/DATA.PKL", b"\x80\x02}.", STORED))
    assert "2 parts data.pkl" in refused(path).message


DIRECTORY, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("record", "place", "form", "value"),
    [
        (DIRECTORY, 8, "<H", 1),  # encrypted
        (DIRECTORY, 10, "<H", 99),  # an unknown method
        (DIRECTORY, 16, "<I", 1),  # another checksum
        (DIRECTORY, 20, "<II", (0x7FFFFFF0, 0x7FFFFFF0)),
        (DIRECTORY, 24, "<I", 0xFFFFFFF0),
        (DIRECTORY, 28, "<H", 0xFFFF),
        (DIRECTORY, 42, "<I", 0x7FFFFFFF),
        (END, 12, "<I", 0xFFFFFFFF),
        (END, 16, "<I", 0xFFFFFF),
    ],
)
def test_archives_that_lie_are_refused(tmp_path, record, place, form, value):
    path = tmp_path / "model_fairseq.pt"
    write_zip(path, GOOD)
    content = bytearray(path.read_bytes())
    struct.pack_into(
        form,
        content,
        content.index(record) + place,
        *(value if isinstance(value, tuple) else [value]),
    )
    path.write_bytes(content)
    refused(path)


def test_a_storage_that_lies_with_its_tensor_is_refused(tmp_path):
    path = tmp_path / "model_fairseq.pt"
    write_zip(path, GOOD.replace(b"K\x04tQ", b"J\x00\x00\x00\x10tQ"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, content.rindex(DIRECTORY) + 20, 1 << 30, 1 << 30)
    path.write_bytes(content)
    assert "ends too early" in refused(path).message


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = tmp_path / "model_fairseq.pt"
    write_zip(path, GOOD)
    whole = path.read_bytes()
    for end in range(0, len(whole), 23):
        path.write_bytes(whole[:end])
        refused(path)


@pytest.mark.parametrize("reader", ["fairseq", "torch"])
def test_on_the_command_line_the_exit_code_is_4(tmp_path, reader):
    mark = text(MARK) + b"0" if reader == "fairseq" else b""
    trap = f"touch {tmp_path / 'trap'}"
    program = b"\x80\x02" + mark + b"cposix\nsystem\n" + text(trap) + b"\x85R."
    for name, content in (("code", program), ("deep", b"\x80\x02" + mark + b"}" + DEEP + b"Ns.")):
        write_zip(tmp_path / f"{name}.pt", content)
        done = run(tmp_path, "inspect", f"{name}.pt")
        assert done.code == 4, done.err
        assert f"{name}.pt: " in done.err
        assert "Traceback" not in done.err
    assert not os.path.exists(tmp_path / "trap")
