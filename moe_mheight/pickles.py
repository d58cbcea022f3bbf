"""Reading pickles of strangers: lists, numbers and numeric NumPy arrays, and nothing else.

No object of the pickle's choosing is ever made or called: arrays and their dtypes are built by stand-ins of ours from
bytes that are really there. The unpickler is Python's own in Python, since the one in C can be made to allocate what a
file of a few bytes claims.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any

import numpy as np

from .errors import DataError, brief


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not (isinstance(code, str) and re.fullmatch(r"[<>=|]?[iufb]\d{1,2}", code)):
            raise DataError(f"refused: an array of dtype {brief(code)}, and only numbers are read")
        self.plain = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if len(state) != 8 or state[2:5] != (None, None, None) or state[1] not in ("<", ">", "|", "=") or state[7]:
            raise DataError("refused: an unusual dtype")
        self.plain = self.plain.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray and for the function that pickles call to make one."""

    def __init__(self, kind: Any = None, shape: Any = None, code: Any = None) -> None:
        if kind is not _Array or shape != (0,):
            raise DataError("refused: an array built in an unusual way")
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # protocol 2 as Python 2 wrote it
            content = content.encode("latin1")
        self.value = _frombuffer(content, dtype, shape, "F" if fortran else "C")


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) > 3:
        raise DataError("refused: an array built in an unusual way")
    if math.prod(shape) * dtype.plain.itemsize != len(content):
        raise DataError("refused: an array of another size than its content")
    return np.frombuffer(content, dtype.plain).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    return _frombuffer(content.encode("latin1") if isinstance(content, str) else content, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, how pickles of protocol 2 spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"refused: bytes encoded as {brief(encoding)}")
    return text.encode("latin1")


_ADMITTED = {"ndarray": _Array, "dtype": _Dtype, "_reconstruct": _Array, "scalar": _scalar, "_frombuffer": _frombuffer}


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the typed stubs leave it out


class _Unpickler(_InPython):  # type: ignore[misc]
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        # NumPy 2 writes numpy._core where older ones write numpy.core
        if re.fullmatch(r"numpy(\._?core)?(\.(multiarray|numeric|_multiarray_umath))?", module) and name in _ADMITTED:
            return _ADMITTED[name]
        asked = brief(f"{module}.{name}")
        raise DataError(f"refused: the pickle asks for {asked}, and only lists, numbers and arrays are read")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise DataError("refused: a state for something that is not an array")
        super().load_build()


_Unpickler.dispatch = _InPython.dispatch | {pickle.BUILD[0]: _Unpickler.load_build}


def load(content: bytes, name: str) -> Any:
    """The object that a pickle holds; arrays inside come out of `plain`.

    Raises:
        DataError: the pickle asks for anything but lists, numbers and numeric arrays, or is damaged.
    """
    try:
        return plain(_Unpickler(io.BytesIO(content)).load())
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{name} is not a readable pickle ({type(error).__name__}: {brief(error)})") from error


def plain(value: Any) -> Any:
    """The array that a stand-in holds; anything else as it is."""
    return value.value if isinstance(value, _Array) else value
