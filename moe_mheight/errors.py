"""The package's own errors: each says which argument, which rule, which value, what to do next."""

import reprlib


class MHeightError(ValueError):
    """Base class of every error this package raises on purpose."""


class CodeError(MHeightError):
    """A code (n, k, m, P), a generator or a parity-check matrix breaks a rule."""


class DataError(MHeightError):
    """A data file cannot be read, or does not hold codes."""


class ModelError(MHeightError):
    """A folder of models is incomplete, damaged or of the wrong shape."""


class FolderError(MHeightError):
    """A file or folder cannot be written, or another process is at work in it."""


_reprs = reprlib.Repr()
_reprs.maxlevel, _reprs.maxstring, _reprs.maxother = 3, 60, 60


def brief(value: object) -> str:
    """A value for an error message: printable, on one line, and short whatever it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an int of {value.bit_length()} bits"
    if isinstance(value, BaseException):
        text = " ".join(str(value).split())
    else:
        try:
            text = _reprs.repr(value)
        except ValueError:  # an int inside it has more digits than Python prints
            text = f"a {type(value).__name__} of numbers too long to print"
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return text if len(text) <= 160 else text[:157] + "..."
