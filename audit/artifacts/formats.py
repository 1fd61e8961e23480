"""What a file is by its content, for what is refused: a name proves nothing, and a message should say what came."""

from __future__ import annotations

from audit.artifacts.opcodes import is_pickle

ZIP = b"PK\x03\x04"
# before torch 1.6: five pickles in a row (magic number, protocol, system, the state dict, keys), then the raw tensors
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
STATE_DICTS = (ZIP, LEGACY)
_TAR, _TAR_AT = b"ustar", 257
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them, which may hold code in Lambda layers"),
    (b"\x93NUMPY", "a NumPy array, which may hold pickled objects"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"(\xb5/\xfd", "a zstandard archive"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK", "an empty or spanned zip archive"),
    (b"x\x01", "a zlib stream, as joblib writes them"),
    (b"x\x9c", "a zlib stream, as joblib writes them"),
    (b"x\xda", "a zlib stream, as joblib writes them"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
)


def refused_kind(content: bytes) -> str | None:
    """Return what the bytes are, in words, when they are a known kind that is never loaded; None for anything else."""
    if content.startswith(STATE_DICTS):
        return None
    if not content:
        return "an empty file"
    if content[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive"
    for beginning, kind in _BEGINNINGS:
        if content.startswith(beginning):
            return kind
    if is_pickle(content):
        return "a pickle, which is a program that runs when it is loaded"
    return None
