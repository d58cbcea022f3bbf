"""Single codes out of many: those of the least keys, whoever looked at which codes in which order.

With keys that look random this is a fair sample, with keys that grow as errors shrink the hardest codes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..experts.measurement import Measurement


@dataclass(frozen=True, eq=False)
class Sample:
    """Some codes of one group, those of the least keys first.

    Shapes: keys (B,); rows (B,), their places in the file or set; P (B, k, r); true (B,), exact heights; h (B,), what
    predictions are scored against, labels where there are any; measured, what a predictor knows of them.
    """

    keys: NDArray[np.float64]
    rows: NDArray[np.int64]
    P: NDArray[np.float64]
    true: NDArray[np.float64]
    h: NDArray[np.float64]
    measured: Measurement

    @property
    def error(self) -> NDArray[np.float64]:
        """(B,) log2 of prediction over h, in bits; nan where the height or its label is infinite."""
        return self._off(self.h)

    @property
    def missed(self) -> NDArray[np.float64]:
        """(B,) log2 of prediction over the exact height, in bits; nan where that is infinite."""
        return self._off(self.true)

    def _off(self, h: NDArray[np.float64]) -> NDArray[np.float64]:
        scored = np.isfinite(self.true) & np.isfinite(h)
        error = np.full(len(h), np.nan)
        error[scored] = np.log2(self.measured.height[scored]) - np.log2(h[scored])
        return error

    def where(self, chosen: NDArray[np.bool_]) -> Sample:
        return Sample(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def first(self, count: int) -> Sample:
        """No more than `count` codes; of equal keys the first row."""
        order = np.lexsort((self.rows, self.keys))[:count]
        return Sample(*(getattr(self, f.name)[order] for f in fields(self)))

    def with_keys(self, keys: NDArray[np.float64]) -> Sample:
        return Sample(keys, *(getattr(self, f.name) for f in fields(self)[1:]))


def joined(parts: list[Sample], count: int) -> Sample:
    """The `count` codes of least keys of all parts, which share their shapes."""
    columns: dict[str, Any] = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Sample)}
    measured = Measurement.join(columns.pop("measured"))
    return Sample(**{name: np.concatenate(own) for name, own in columns.items()}, measured=measured).first(count)
