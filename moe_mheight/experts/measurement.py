"""What a predictor knows of a batch of codes, and what every predictor can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is known of B codes; made by `Predictor.measure` and `RawPredictor.measure`.

    Shapes: all (B,). Heights are dimensionless. What a predictor does not know is nan.

    Example:
        >>> from moe_mheight import Predictor
        >>> measured = Predictor.load().measure([[[1, 1], [1, 2]], [[1, 1], [1, 3]]], 2)
        >>> len(measured), measured.height.round(3).tolist(), len(measured[measured.height > 4])
        (2, [3.0, 5.0], 1)
    """

    lower: Floats  # certified bounds: the bracket that experts place the height in
    upper: Floats  # inf where none is known
    height: Floats  # the prediction
    std_bits: Floats  # standard deviation over all experts that answered, in bits; 0 where none was needed
    position: Floats  # where in the bracket log2 h lies, in widths of the bracket; nan where no expert was needed
    predicted_error: Floats  # expected |error| of the position, in widths of the bracket; nan where position is
    tightest_lower: Floats  # the tightest certified bounds
    tightest_upper: Floats
    routed: NDArray[np.bool_]  # whether experts were needed; certified bounds decide the others
    certainty: Floats  # probability that tightest_lower is the height; 1 where the bounds decide it
    low: Floats | None = None  # ends of the interval; None where no coverage was asked for
    high: Floats | None = None

    @classmethod
    def unknown(cls, count: int, *, intervals: bool = False) -> Measurement:
        """Nothing is known yet of `count` codes: nan, and nobody routed."""
        columns: dict[str, Any] = {f.name: np.full(count, np.nan) for f in fields(cls)}
        columns["routed"] = np.zeros(count, bool)
        return cls(**columns if intervals else columns | {"low": None, "high": None})

    @classmethod
    def join(cls, parts: Sequence[Measurement]) -> Measurement:
        """One after the other; at least one part. All have intervals, or none."""
        names = [f.name for f in fields(cls) if getattr(parts[0], f.name) is not None]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, rows: Any) -> Measurement:
        """Those rows: a slice, a mask or indices, as for an array. One index gives scalars."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})

    def put(self, rows: Any, part: Measurement) -> None:
        """Write a part into these rows."""
        for f in fields(self):
            if (column := getattr(self, f.name)) is not None:
                column[rows] = getattr(part, f.name)


@runtime_checkable
class HeightPredictor(Protocol):
    """What `Predictor` and `RawPredictor` share; evaluation needs no more."""

    def predict(self, P: Any, m: Any = None, *, threads: int | None = None) -> Any:
        """Heights of one code (k, r), a batch (B, k, r), or, without m, rows [n, k, m, P]."""

    def bounds(self, P: Any, m: Any, *, threads: int | None = None) -> tuple[Any, Any]:
        """Certified lower and upper bounds of the heights."""

    def measure(self, P: Any, m: Any, *, threads: int | None = None) -> Measurement:
        """All that is known of a batch (B, k, r)."""

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """Heights of a list of P of one group, the signature that the course's evaluator calls."""
