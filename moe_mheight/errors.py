"""The package's own errors: each says which argument, which rule, which value, what to do next."""


class MHeightError(ValueError):
    """Base class of every error this package raises on purpose."""


class CodeError(MHeightError):
    """A code (n, k, m, P), a generator or a parity-check matrix breaks a rule."""


class DataError(MHeightError):
    """A data file cannot be read, or does not hold codes."""


class ModelError(MHeightError):
    """A folder of models is incomplete, damaged or of the wrong shape."""
