"""Arrays of strangers, .npy or inside an .npz: a header is looked at before memory is taken for what it promises."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, brief

HEADER = 2**14
"""Bytes that are looked at for a header, of which NumPy takes 10,000."""

ENTRIES, TIMES = 2**23, 64
"""Most numbers of all arrays of a packed file, whatever its length; or as many for each of its bytes. Deflated codes
take a bit for a number or more; only repetition takes less."""

Header = tuple[tuple[int, ...], np.dtype[Any]]


def header(part: IO[bytes], name: str) -> Header:
    """Shape and dtype of an .npy that begins here.

    Raises:
        DataError: it is damaged, or none; name is for the message.
    """
    head = io.BytesIO(part.read(HEADER))
    try:
        version = np.lib.format.read_magic(head)
        first = version == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(head)
    except Exception as error:  # a damaged header can raise nearly anything
        raise DataError(f"{name} is not a readable array ({type(error).__name__}: {brief(error)})") from error
    if any(length < 0 for length in shape):
        raise DataError(f"{name} is not a readable array: it has shape {brief(shape)}")
    return shape, dtype


@contextmanager
def unpacking(content: bytes, name: str) -> Iterator[zipfile.ZipFile]:
    """The archive that these bytes are; whatever is wrong with it while it is open is a DataError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f"{name} is not a readable .npz ({type(error).__name__}: {brief(error)})") from error


def promised(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Header:
    """Shape and dtype of one array of an .npz, of which no more is unpacked than its header."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # the others unpack at once, whatever size the archive states
        raise DataError(f"{name}: must be stored or deflated, as NumPy writes it; save it with numpy.savez")
    with archive.open(info) as part:
        return header(part, name)


def refuse_disproportion(numbers: int, length: int, name: str) -> None:
    """Refuse an archive of `length` bytes that promises more numbers than deflated codes have."""
    limit = max(ENTRIES, TIMES * length)
    if numbers > limit:
        raise DataError(
            f"{name}: its headers promise {numbers:,} numbers, more than {limit:,}, the most for a packed file of "
            f"{length:,} bytes; is it what you mean? Then save it unpacked, with numpy.savez"
        )


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, promise: Header, name: str) -> NDArray[Any]:
    """The array itself, which NumPy reads in pieces, after what its header promised was found right."""
    shape, dtype = promise
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise DataError(f"{name} is not a readable array: its header promises more numbers than there are")
    with archive.open(info) as part:
        return np.lib.format.read_array(part, allow_pickle=False)
