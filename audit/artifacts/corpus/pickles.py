"""Malicious pickles, written opcode by opcode, so that nothing here imports pickle.

Each creates a marker file, by another way to a call: what scanners with lists of bad names are known to miss is among
them (timeit, runpy, importlib, operator). Opcodes are those that Python's ``pickletools`` documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from audit.artifacts.corpus.specimen import Specimen
from audit.artifacts.corpus.zips import zipped


@dataclass(frozen=True, slots=True)
class Assembler:
    """Writes pickles of one protocol, 0 to 5."""

    protocol: int

    def text(self, value: str) -> bytes:
        """Push a string."""
        if self.protocol == 0:
            return b"V" + value.encode("raw_unicode_escape") + b"\n"
        raw = value.encode()
        return b"\x8c" + bytes([len(raw)]) + raw if self.protocol >= 4 else b"X" + len(raw).to_bytes(4, "little") + raw

    def name(self, module: str, attribute: str) -> bytes:
        """Push what a module calls by this name."""
        if self.protocol >= 4:
            return self.text(module) + self.text(attribute) + b"\x93"
        return f"c{module}\n{attribute}\n".encode()

    def call(self, module: str, attribute: str, *arguments: bytes) -> bytes:
        """Push the result of a call."""
        return self.name(module, attribute) + b"(" + b"".join(arguments) + b"tR"

    def program(self, *parts: bytes) -> bytes:
        """Return a whole pickle."""
        body = b"".join(parts) + b"."
        if self.protocol >= 4:
            body = b"\x95" + len(body).to_bytes(8, "little") + body
        return (bytes([0x80, self.protocol]) if self.protocol >= 2 else b"") + body


def plain(marker: str, protocol: int = 0) -> bytes:
    """Return a pickle that calls ``open(marker, "w")``."""
    write = Assembler(protocol)
    return write.program(write.call("builtins", "open", write.text(marker), write.text("w")))


def in_archives(marker: str) -> Iterator[Specimen]:
    """Yield torch archives whose data.pkl is malicious, one for each way to a call and each trick of the machine."""
    write = Assembler(2)
    python, shell = write.text(f"open({marker!r}, 'w')"), write.text(f"touch '{marker}'")
    calls = {
        "builtins open": (write.text(marker), write.text("w")),
        "builtins eval": (python,),
        "builtins exec": (python,),
        "os system": (shell,),
        "posix system": (shell,),
        "os mkdir": (write.text(marker),),
        "os popen": (shell,),
        "subprocess getoutput": (shell,),
        "subprocess check_call": (b"](" + write.text("touch") + write.text(marker) + b"e",),
        "pathlib Path.touch": (write.call("pathlib", "PosixPath", write.text(marker)),),
        "runpy _run_code": (python, b"}"),
        "timeit timeit": (python, write.text("pass"), write.name("time", "perf_counter"), b"K\x01"),
        "cProfile run": (python,),
        "shutil copyfile": (write.text("/dev/null"), write.text(marker)),
        "_pickle loads": (b"B" + len(plain(marker)).to_bytes(4, "little") + plain(marker),),
    }
    for name, arguments in calls.items():
        module, attribute = name.split()
        if "." in attribute:  # an attribute of an attribute needs protocol 4
            body = b"\x80\x04" + Assembler(4).name(module, attribute) + b"(" + b"".join(arguments) + b"tR."
            yield _archived(name, body, "opcode STACK_GLOBAL")
        else:
            body = write.program(write.call(module, attribute, *arguments))
            yield _archived(f"calls {name}", body, rf"the name {re.escape(name.replace(' ', '.'))} at byte")
    yield _archived("imports os by importlib, then calls its mknod", _imported(marker), "builtins.getattr")
    yield _archived("calls methodcaller('touch') of operator", _method(marker), "operator.methodcaller")
    for protocol in range(6):
        reason = "opcode FRAME" if protocol >= 4 else "opcode UNICODE|the name builtins.open"
        yield _archived(f"protocol {protocol}", plain(marker, protocol), reason)
    yield from _tricks(marker)


def _tricks(marker: str) -> Iterator[Specimen]:
    one, two, four = Assembler(1), Assembler(2), Assembler(4)
    arguments = two.text(marker) + two.text("w")
    inst = b"(" + one.text(marker) + one.text("w") + b"ibuiltins\nopen\n."
    yield _archived("calls by INST", inst, "opcode INST")
    yield _archived("calls by OBJ", b"(cbuiltins\nopen\n" + one.text(marker) + one.text("w") + b"o.", "builtins.open")
    made = two.program(two.name("pathlib", "PosixPath"), b"(" + two.text(marker) + b"t\x81", b"0", plain(marker)[:-1])
    yield _archived("makes an object by NEWOBJ first", made, "the name pathlib.PosixPath")
    from_memo = (
        b"\x80\x04" + four.text("open") + b"\x94" + four.text("builtins") + b"\x940h\x01h\x00\x93(" + four.text(marker)
    )
    yield _archived("names by STACK_GLOBAL out of the memo", from_memo + four.text("w") + b"tR.", "STACK_GLOBAL")
    state = b"}" + two.text("key") + two.call("builtins", "open", arguments) + b"s"
    yield _archived("hides the call in a value of a state dict", two.program(state), "the name builtins.open")
    tail = plain(marker, 2)[:-1] + b"0garbage that is no pickle"
    yield _archived("runs, and breaks afterwards", tail, "the name builtins.open")
    yield Specimen(
        "second.pt", "a second pickle behind the first, in a member of its own",
        zipped({"archive/data.pkl": two.program(b"}"), "archive/extra.pkl": plain(marker, 2)}),
        r"a member named 'archive/extra\.pkl'", plain(marker, 2),
    )  # fmt: skip
    yield _archived("an extension code", b"\x80\x02\x82\x01.", "opcode EXT1", harmless=True)
    yield _archived("a memo index of two thousand million", b"\x80\x02Nr\xff\xff\xff\x7f.", "memo index", harmless=True)
    whole = two.program(two.call("torch.nn.modules.linear", "Linear", b"K\x02", b"K\x02"))
    yield _archived("a whole network", whole, "the name torch.nn.modules.linear.Linear", harmless=True)
    huge = two.program(b"\x8b\xff\xff\xff\x7f")
    yield _archived("a number of two thousand million bytes", huge, "opcode LONG4|no readable pickle", harmless=True)
    endless = b"\x80\x02" + b"(" * 100_000 + b"."
    yield _archived("a hundred thousand marks", endless, "expected a torch state dict of tensors, got", harmless=True)


def under_any_name(marker: str) -> Iterator[Specimen]:
    """Yield raw pickles, under names that promise something else."""
    for name in ("raw.pt", "raw.pkl", "raw.bin", "raw.safetensors", "raw.txt", "raw.json", "raw.png", "model.joblib"):
        body = plain(marker, 4 if name == "model.joblib" else len(name) % 3)
        yield Specimen(name, f"a pickle named {name}", body, "got a pickle, which is a program", body)
    polyglot = _polyglot(marker)
    yield Specimen(
        "polyglot.safetensors", "a pickle that begins like safetensors", polyglot, "with a JSON header", polyglot
    )


def _archived(what: str, body: bytes, refusal: str, *, harmless: bool = False) -> Specimen:
    name = re.sub(r"\W+", "-", what).strip("-")[:40]
    content = zipped({"archive/data.pkl": body, "archive/version": b"3\n"})
    return Specimen(f"{name}.pt", f"torch archive: {what}", content, refusal, None if harmless else body)


def _imported(marker: str) -> bytes:
    write = Assembler(2)
    module = write.call("importlib", "import_module", write.text("os"))
    function = write.call("builtins", "getattr", module, write.text("mknod"))
    return write.program(function, b"(", write.text(marker), b"tR")


def _method(marker: str) -> bytes:
    write = Assembler(2)
    method = write.call("operator", "methodcaller", write.text("touch"))
    return write.program(method, b"(", write.call("pathlib", "PosixPath", write.text(marker)), b"tR")


def _polyglot(marker: str) -> bytes:
    """Return a pickle whose first nine bytes read as the length of a safetensors header, and an opening brace.

    They are a byte string to the unpickler: SHORT_BINBYTES, seven bytes long, six of them zero and the brace.
    """
    start = b"C\x07" + bytes(6) + b"{"
    body = start + b"0" + plain(marker)
    return body + b"x" * (8 + int.from_bytes(start[:8], "little") - len(body))
