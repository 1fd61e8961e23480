"""Malicious and damaged archives, and formats that are never loaded whatever they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from audit.artifacts.corpus.pickles import plain
from audit.artifacts.corpus.specimen import Specimen
from audit.artifacts.corpus.zips import COMPLETE, zipped
from audit.artifacts.formats import LEGACY

BOMB_BYTES = 64 * 2**20
_DIRECTORY = b"PK\x01\x02"  # signature of an entry in an archive's directory; its fields follow at fixed places


def archives(marker: str) -> Iterator[Specimen]:
    """Yield archives that begin like torch's own."""
    payload = plain(marker, 2)
    good = {"archive/data.pkl": COMPLETE, "archive/version": b"3\n"}
    bad = {"archive/data.pkl": payload, "archive/version": b"3\n"}

    def specimen(file: str, what: str, content: bytes, refusal: str, pickled: bytes | None = None) -> Specimen:
        return Specimen(file, f"archive: {what}", content, refusal, pickled)

    inner = zipped(bad)
    yield specimen(
        "nested.pt", "an archive within it", zipped({"inner.pt": inner}), r"a member named 'inner\.pt'", payload
    )
    double = zipped({**good, "archive/data/0": inner, "archive/inner.zip": inner})
    yield specimen(
        "double.pt", "a zipped pickle beside the good one", double, "a member named 'archive/inner.zip'", payload
    )
    yield specimen(
        "upper.pt", "DATA.PKL", zipped({"archive/DATA.PKL": payload}), "a member named 'archive/DATA.PKL'", payload
    )
    jit = {**good, "archive/code/__torch__.py": b"def forward(self): ...\n", "archive/constants.pkl": payload}
    yield specimen("script.pt", "TorchScript, which holds code", zipped(jit), "a member named 'archive/code/", payload)
    two_folders = {**good, "other/data.pkl": payload}
    yield specimen(
        "folders.pt", "a second data.pkl in another folder", zipped(two_folders), "no single data.pkl", payload
    )
    packed = zipped(bad, zipfile.ZIP_DEFLATED)
    yield specimen("deflated.pt", "compressed members", packed, "compressed data in", payload)
    yield specimen("crc.pt", "a broken checksum", _patched(inner, 16, b"\0\0\0\0"), "damaged archive: Bad CRC", payload)
    yield specimen("flags.pt", "flagged as encrypted", _patched(inner, 8, b"\1\0"), "unusual flags", payload)
    yield specimen("renamed.pt", "two names for one member", _renamed(inner), "damaged archive: File name in", payload)
    yield specimen("prefix.pt", "a program in front", b"MZ" + bytes(62) + inner, "got a program", payload)
    yield specimen(
        "behind.pt", "a malicious archive behind a good one", zipped(good) + inner, "the name builtins.open", payload
    )
    yield specimen("bomb.pt", "a bomb: 64 MiB of zeros in 64 kB", _bomb(), "compressed data in")
    yield specimen("overlap.pt", "members that share their bytes", _overlapping(), "members that overlap")
    yield specimen("twice.pt", "a member that occurs twice", _twice(payload), "a member that occurs twice", payload)
    yield specimen("many.pt", "no data.pkl at all", zipped({"archive/version": b"3\n"}), "no single data.pkl")
    yield specimen(
        "up.pt", "a path that climbs", zipped({**good, "../../escaped": b"x"}), "a member named '../../escaped'"
    )
    climbs = zipped({**good, "/escaped": b"x"})
    yield specimen("absolute.pt", "an absolute path", climbs, "a member named '/escaped'")
    yield specimen("link.pt", "a symbolic link", _linked(good), "a symbolic link")
    yield specimen("empty.pt", "an archive without members", zipped({}), "got an empty or spanned zip archive")
    keras = {"config.json": b'{"class_name": "Lambda"}', "model.weights.h5": b"\x89HDF\r\n\x1a\n"}
    yield specimen("model.keras", "a Keras model with a Lambda layer", zipped(keras), r"a member named 'config\.json'")
    yield specimen(
        "arrays.npz", "NumPy arrays", zipped({"a.npy": _array(payload)}), r"a member named 'a\.npy'", payload
    )
    row = LEGACY + b"\x80\x02M\xe9\x03." + b"\x80\x02}." + payload + b"\x80\x02]."
    yield specimen(
        "legacy.pt", "torch's older format, the fourth pickle malicious", row, "the name builtins.open", payload
    )
    yield specimen("cut-off.pt", "torch's older format, one pickle of five", LEGACY, "no readable pickle")


def other_formats(marker: str) -> Iterator[Specimen]:
    """Yield what is never loaded, whatever it holds."""
    payload = plain(marker, 2)
    for file, what, content, kind in (
        ("weights.pt.gz", "a compressed pickle", gzip.compress(payload, mtime=0), "a gzip archive"),
        ("weights.pt.bz2", "a compressed pickle", bz2.compress(payload), "a bzip2 archive"),
        ("weights.pt.xz", "a compressed pickle", lzma.compress(payload), "an xz archive"),
        ("weights.joblib", "a compressed pickle, as joblib writes it", zlib.compress(payload), "a zlib stream"),
        ("weights.npy", "an array of objects", _array(payload), "a NumPy array"),
        ("weights.tar", "torch's oldest format, a tar archive", _tar(payload), "a tar archive"),
    ):
        yield Specimen(file, what, content, f"got {kind}", payload)
    for file, what, content, refusal in (
        ("weights.h5", "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(512), "got an HDF5 file"),
        ("weights.gguf", "GGUF", b"GGUF\x03" + bytes(64), "got a GGUF file"),
        ("weights.7z", "7z", b"7z\xbc\xaf'\x1c" + bytes(64), "got a 7z archive"),
        ("program.pt", "a program", b"\x7fELF" + bytes(64), "got a program"),
        ("script.safetensors", "a script", b"#!/bin/sh\nexit 1\n", "got a script"),
        ("text.pt", "a text", b"The weights are in the other folder.\n", "neither in 37 bytes"),
        ("nothing.pt", "no bytes", b"", "got an empty file"),
        ("zero.safetensors", "one zero byte", b"\0", "neither in 1 bytes"),
    ):
        yield Specimen(file, what, content, refusal)


def _patched(archive: bytes, place: int, value: bytes) -> bytes:
    """Change a field of the first entry in an archive's directory."""
    at = archive.index(_DIRECTORY) + place
    return archive[:at] + value + archive[at + len(value) :]


def _renamed(archive: bytes) -> bytes:
    """Have the header before the data say another name than the directory."""
    return archive.replace(b"archive/data.pkl", b"archive/data/007", 1)


def _bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), COMPLETE)
        packed = zipfile.ZipInfo("archive/data/0")
        packed.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(packed, "w") as member:
            for _ in range(BOMB_BYTES // 2**20):
                member.write(bytes(2**20))
    return stream.getvalue()


def _overlapping() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), COMPLETE)
        archive.writestr(zipfile.ZipInfo("archive/data/0"), bytes(1000))
        (shared,) = [one for one in archive.filelist if one.filename == "archive/data/0"]
        for number in range(1, 50):
            copy = zipfile.ZipInfo(f"archive/data/{number}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(shared, field))
            archive.filelist.append(copy)
    return stream.getvalue()


def _twice(payload: bytes) -> bytes:
    """Return an archive with two members of one name; zipfile would warn, so one is renamed afterwards."""
    members = {"archive/data.pkl": COMPLETE, "archive/data/9": b"", "archive/version": b"3\n"}
    return zipped({**members, "archive/datb.pkl": payload}).replace(b"archive/datb.pkl", b"archive/data.pkl")


def _linked(good: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in good.items():
            archive.writestr(zipfile.ZipInfo(name), body)
        link = zipfile.ZipInfo("archive/data/0")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, b"../../../secret")
    return stream.getvalue()


def _array(payload: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + payload


def _tar(payload: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return stream.getvalue()
