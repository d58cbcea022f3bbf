"""Reading pickles of strangers: lists, numbers and numeric NumPy arrays, and nothing else.

No object of the pickle's choosing is ever made or called: arrays and their dtypes are built by stand-ins of ours from
bytes that are really there, dicts by one that hashes nothing. The unpickler is Python's own in Python, cut down to the
opcodes that lists, numbers and arrays need (protocols 0 to 5), since the one in C can be made to allocate what a file
of a few bytes claims. So what is made takes memory in proportion to the file; what is walked and copied later need not,
since one list may stand in a million places, and is counted before anybody does.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from typing import Any

import numpy as np

from ..errors import DataError, brief

LONGEST_INT = 2048
"""Bytes of a whole number. Nothing beyond float64's range is read, but the message shall be about its row."""

DEEPEST = 6
"""Lists in lists: rows, a row, a batch, its matrices, their rows, and one more for the message to be about its row."""

ENTRIES, TIMES = 2**22, 16
"""Most entries of all rows, each counted as often as it stands there, whatever the file's length; or as many for each
byte of the file, which has room for one that does not stand elsewhere too."""

ONLY = "only lists, numbers and arrays are read"


class Dict:
    """Stands in for a dict: its pairs as they come, for a message to be made of."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def __repr__(self) -> str:
        return f"a dict of {len(self.pairs)} key{'s'[: len(self.pairs) != 1]}"


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: Any, align: Any = None, copy: Any = None) -> None:
        if type(code) is not str or not re.fullmatch(r"[<>=|]?[iufb]\d{1,2}", code):
            raise DataError(f"refused: an array of dtype {brief(code)}, and only numbers are read")
        self.plain = np.dtype(code)

    def build(self, state: Any, _: _Unpickler) -> None:
        right = type(state) is tuple and len(state) == 8 and all(part is None for part in state[2:5])
        if not right or type(state[1]) is not str or state[1] not in ("<", ">", "|", "=") or state[7] not in (0, None):
            raise DataError("refused: an unusual dtype")
        self.plain = self.plain.newbyteorder(state[1])  # type: ignore[arg-type]  # one of those four


class _Array:
    """Stands in for numpy.ndarray and for the function that pickles call to make one."""

    __slots__ = ("value",)

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        if kind is not _Array or type(shape) is not tuple or len(shape) != 1 or type(shape[0]) is not int or shape[0]:
            raise DataError("refused: an array built in an unusual way")
        self.value: Any = None

    def build(self, state: Any, unpickler: _Unpickler) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[3]) not in (bool, int):
            raise DataError("refused: an array built in an unusual way")
        _, shape, dtype, fortran, content = state
        if type(content) is str:  # as Python 2 wrote it
            content = unpickler.encoded(content)
        self.value = _numbers(content, dtype, shape, "F" if fortran else "C")

    def __repr__(self) -> str:
        shape = () if self.value is None else self.value.shape
        return f"an array {' x '.join(map(str, shape))}" if shape else "an array"


def _numbers(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    right = type(dtype) is _Dtype and type(shape) is tuple and len(shape) <= 3 and type(content) in (bytes, bytearray)
    if not right or not all(type(length) is int and 0 <= length < 2**60 for length in shape):
        raise DataError("refused: an array built in an unusual way")
    if type(order) is not str or order not in ("C", "F"):
        raise DataError("refused: an array in an unusual order")
    if math.prod(shape) * dtype.plain.itemsize != len(content):
        raise DataError("refused: an array of another size than its content")
    return np.ndarray(shape, dtype.plain, content, order="F" if order == "F" else "C")


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    made = _Array(_Array, (0,), None)
    made.value = _numbers(content, dtype, shape, order)
    return made


class _Known(dict[int, Any]):
    """What to do for each opcode; those that are not there end in a refusal."""

    def __missing__(self, opcode: int) -> Any:
        name = next((name for name in pickle.__all__ if getattr(pickle, name) == bytes([opcode])), hex(opcode))
        raise DataError(f"refused: the opcode {name}, and {ONLY}")


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the typed stubs leave it out


class _Unpickler(_InPython):  # type: ignore[misc]
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")  # Python 2 has bytes where others have text
        self.left = len(content)

    def encoded(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Stands in for _codecs.encode, how pickles up to protocol 2 spell bytes: each text once."""
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise DataError(f"refused: bytes encoded as {brief(encoding)}")
        self.left -= len(text)
        if self.left < 0:
            raise DataError("refused: more bytes than the file has")
        return text.encode("latin1")

    def scalar(self, dtype: Any, content: Any) -> Any:
        return _numbers(self.encoded(content) if type(content) is str else content, dtype, (1,), "C")[0]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self.encoded
        # NumPy 2 writes numpy._core where older ones write numpy.core
        if re.fullmatch(r"numpy(\._?core)?(\.(multiarray|numeric|_multiarray_umath))?", module):
            if name in ("ndarray", "_reconstruct"):
                return _Array
            if name in ("dtype", "scalar", "_frombuffer"):
                return {"dtype": _Dtype, "scalar": self.scalar, "_frombuffer": _frombuffer}[name]
        raise DataError(f"refused: the pickle asks for {brief(f'{module}.{name}')}, and {ONLY}")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        if type(arguments) is not tuple or len(arguments) > 5:
            raise DataError(f"refused: a call with unusual arguments, and {ONLY}")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise DataError("refused: a state for something that is not an array")
        self.stack[-1].build(state, self)

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise DataError("refused: something put into what is no list")
        self.stack[-1].extend(items)

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_empty_dict(self) -> None:
        self.append(Dict())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(Dict())
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], Dict):
            raise DataError("refused: a key for what is no dict")
        self.stack[-1].pairs += zip(items[::2], items[1::2], strict=True)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        content = self.read(length)  # bytes, which take no more room than there are
        if len(content) != length:
            raise DataError("refused: it ends before an array does")
        self.append(content)

    def load_int(self) -> None:
        line = self.readline().strip()
        self.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else self._integer(line))

    def load_long(self) -> None:
        self.append(self._integer(self.readline().strip().removesuffix(b"L")))

    def _integer(self, line: bytes) -> int:
        if len(line) > 2.4 * LONGEST_INT:
            raise DataError(f"refused: a whole number of {len(line)} digits")
        return int(line)

    def load_long4(self) -> None:
        (length,) = struct.unpack("<i", self.read(4))
        if not 0 <= length <= LONGEST_INT:
            raise DataError(f"refused: a whole number of {length} bytes")
        self.append(pickle.decode_long(self.read(length)))


_AS_IN_PYTHON = (
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT",
    "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST",
    "LIST", "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GLOBAL", "STACK_GLOBAL",
)  # fmt: skip

_OURS = (
    "REDUCE", "BUILD", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "BYTEARRAY8", "INT", "LONG",
    "LONG4",
)  # fmt: skip

_Unpickler.dispatch = _Known(
    {getattr(pickle, name)[0]: _InPython.dispatch[getattr(pickle, name)[0]] for name in _AS_IN_PYTHON}
    | {getattr(pickle, name)[0]: getattr(_Unpickler, f"load_{name.lower()}") for name in _OURS}
)


def load(content: bytes, name: str) -> Any:
    """The object that a pickle holds; arrays inside come out of `plain`, a dict is a `Dict`.

    Raises:
        DataError: the pickle asks for anything but lists, numbers and numeric arrays, is damaged, or holds the same
            few lists so many times that they do not fit.
    """
    try:
        value = _Unpickler(content).load()
        _count(value, max(ENTRIES, TIMES * len(content)), len(content))
        return plain(value)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{name} is not a readable pickle ({type(error).__name__}: {brief(error)})") from error


def _count(value: Any, limit: int, length: int) -> None:
    """Refuse more than `limit` entries, in lists and arrays together."""
    left = limit

    def walk(value: Any, depth: int) -> None:
        nonlocal left
        if type(value) is _Array:
            left -= 0 if value.value is None else value.value.size
        elif type(value) in (list, tuple):
            if depth == DEEPEST:
                raise DataError(f"refused: lists nested more than {DEEPEST} deep; a file is a list of [n, k, m, P]")
            left -= len(value)
        if left < 0:
            raise DataError(
                f"refused: the same lists or arrays stand in so many places that they have more than {limit:,} "
                f"entries, of a file of {length:,} bytes; write each row once, or an .npz"
            )
        if type(value) in (list, tuple):
            for inner in value:
                if type(inner) in (list, tuple, _Array):
                    walk(inner, depth + 1)

    walk(value, 0)


def plain(value: Any) -> Any:
    """The array that a stand-in holds; anything else as it is."""
    return value.value if isinstance(value, _Array) else value
