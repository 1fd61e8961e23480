"""What a pickle of tensors needs, and a scan that denies everything else. Lists opcodes; nothing is unpickled.

A pickle is a program for a stack machine (Python's ``pickletools`` documents every opcode). Lists of *bad* names miss
what their authors did not think of; a state dict needs so little that the good names can be listed instead.
"""

from __future__ import annotations

import io
import pickletools  # nosec B403  # lists opcodes; nothing is unpickled
import re
from collections.abc import Iterator

# what torch.save writes for a dictionary of tensors, today and before torch 0.4 (_rebuild_tensor), and nothing else;
# torch's own restricted unpickler allows every one of these names
ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor(_v2)?|parameter)|torch (\w+Storage|Size|device)"
)
ALLOWED_OPCODES = frozenset(
    """
    PROTO STOP MARK POP_MARK GLOBAL REDUCE BUILD BINPERSID
    EMPTY_DICT EMPTY_LIST EMPTY_TUPLE DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS
    BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING BININT BININT1 BININT2 LONG1 BINFLOAT NONE NEWTRUE NEWFALSE
    BINPUT LONG_BINPUT BINGET LONG_BINGET
    """.split()  # noqa: SIM905  # a list of words reads better than forty quoted ones
)
MOST_MEMOS = 2**20  # some unpicklers allocate up to the greatest index they are told


def refusals(content: bytes, pickles: int = 1) -> Iterator[str]:
    """Yield why pickles are more than a state dict: opcodes and names that are not on the list.

    Args:
        content: begins with the pickles, protocol 2 as torch writes it.
        pickles: how many follow each other.
    """
    stream = io.BytesIO(content)
    try:
        for opcode, argument, position in (one for _ in range(pickles) for one in pickletools.genops(stream)):
            if opcode.name not in ALLOWED_OPCODES:
                yield f"opcode {opcode.name} at byte {position}"
            elif opcode.name == "GLOBAL" and not ALLOWED_GLOBALS.fullmatch(str(argument)):
                yield f"the name {str(argument).replace(' ', '.')} at byte {position}"
            elif opcode.name == "LONG_BINPUT" and int(str(argument)) > MOST_MEMOS:
                yield f"memo index {argument} at byte {position}"
    except Exception as error:  # pickletools raises many types for what is no pickle
        yield f"no readable pickle ({type(error).__name__})"


def is_pickle(content: bytes) -> bool:
    """Tell whether the bytes begin with something that Python would unpickle."""
    if len(content) > 1 and content[0] == 0x80 and 2 <= content[1] <= 5:
        return True
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except Exception:  # the same many types
        return False
