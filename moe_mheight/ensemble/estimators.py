"""m-heights as scikit-learn estimators: a regressor that learns them from P, a transformer that computes them.

X has one of three forms, for both:

    rows           a list, tuple or object array of [n, k, m, P], groups mixed
    (B, k, r)      codes of one group; the parameter m says which height is meant
    (B, k * r)     the same with each P flattened row by row; the parameters k and m say how to read it

Where copies of a code, permuted or with other signs, may lie on both sides of a split, GroupKFold by
`datasets.orbit_ids` keeps them together.
"""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from ..brackets.bounds import bounds
from ..codes.linear import check_m, check_P
from ..codes.minors import MAX_N
from ..data.code_files import Codes, Data, Group, count, from_rows
from ..errors import CodeError, DataError, ModelError, brief
from ..exact.heights import height_profile, m_height
from ..experts.checkpoints import FRESH, Stage
from ..experts.model_store import pack, with_weights
from ..experts.torch_threads import on_threads
from ..numerics.bitsets import BITS
from ..raw.data import Part, Parts
from ..raw.models import answers
from ..raw.monitor import figures
from ..raw.networks import Network, build
from ..raw.recipe import as_json, make
from ..raw.training import Member, advance

FORMAT = "moe_mheight estimator 1"  # of a pickled network


def _is_rows(X: Any) -> bool:
    if not isinstance(X, (list, tuple)) and not (isinstance(X, np.ndarray) and X.dtype == object and X.ndim in (1, 2)):
        return False
    fours = (row for row in X if isinstance(row, (list, tuple, np.ndarray)) and len(row) == 4)
    return any(not hasattr(row[0], "__len__") and hasattr(row[3], "__len__") for row in fours)


def _read(estimator: Any, X: Any, *, reset: bool, any_m: bool = False) -> Data:
    """X by group. With reset its number of columns is kept, without it is compared; with any_m, m is not needed."""
    if reset:  # an earlier fit may have seen another form
        for name in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(name, None)
    if _is_rows(X):
        return from_rows(list(X), None, "X")
    # writeable, as compiled code would be compiled once more for arrays that are not
    array = check_array(X, dtype=np.float64, allow_nd=True, force_writeable=True, input_name="X", estimator=estimator)
    if array.ndim == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        k, columns = estimator.k, array.shape[1]
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1 or columns % k:
            raise CodeError(f"k must be an int that divides the {columns} = k * (n - k) columns of X, got {brief(k)}")
        array = array.reshape(len(array), k, -1)
    P, _ = check_P(array, max_n=BITS, what="X")
    _, k, r = P.shape
    m = 1 if any_m else int(check_m(estimator.m, 1, r)[0])
    return {(k + r, k, m): Codes(P, np.arange(len(P)), None)}


def _finite(data: Data, y: ArrayLike | None, threads: int | None) -> Parts:
    """The codes of finite height with their log2 h, by the heights given, else by the exact ones."""
    h = np.empty(0) if y is None else column_or_1d(y, dtype=np.float64, warn=True)
    if y is not None and len(h) != count(data):
        raise DataError(f"y must hold one height for each of the {count(data)} codes of X, got {len(h)}")
    for place in np.flatnonzero(~(h >= 1.0 - 1e-9)):
        raise DataError(f"y must hold heights, >= 1 or infinite and not their logarithms, got {h[place]} at {place}")
    parts = []
    for group, codes in data.items():
        own = m_height(codes.P, group[2], threads=threads) if y is None else h[codes.row]
        finite = np.isfinite(own)
        if finite.any():
            parts.append(Part(group, codes.P[finite], np.log2(own[finite])))
    if not parts:
        raise DataError("X must hold a code of finite height, got none")
    return tuple(parts)


def _network(kept: Any) -> Network:
    try:
        if kept["format"] != FORMAT:
            raise ModelError(f"its format is {brief(kept['format'])}, not {FORMAT!r}")
        groups = tuple((int(n), int(k), int(m)) for n, k, m in kept["groups"])
        with FRESH:  # a training in another thread may be drawing its weights
            network = build(make(kept["recipe"], files=False), groups)
        return with_weights(network, Path("MHeightRegressor"), {"weights": kept["weights"]}, "weights")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"this network is damaged or of another version: {brief(error)}") from error


class MHeightRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Learns m-heights from P with one small network of `raw.networks`, and predicts them.

    3,600 codes of n = 9 take 20 seconds on one core. By default predictions stay inside the certified bracket, which is
    mostly so narrow that they are nearly exact: certified=False shows what was learned, and compares settings.

    Args:
        k, m: how to read X where it does not say so itself; see the module.
        network, width, blocks, epochs, batch, rate, dropout, decay, orbit: as in `raw.recipe.RawRecipe`.
        certified: answer inside `moe_mheight.bounds`, infinite heights too, n <= 16; False: the network's own answers.
        random_state: int seed of the weights and all draws, or what else scikit-learn takes.
        threads: for brackets and exact heights; default all cores. The network always has one.

    Attributes:
        network_: a `raw.networks.Network`, in pickles as safetensors; network_.groups are those that it answers for.
        loss_curve_: mean loss of every epoch, in bits squared. n_features_in_: columns, where X is 2-D.

    Example:
        >>> import numpy as np
        >>> from moe_mheight import MHeightRegressor, random_codes
        >>> P = random_codes("normal", 60, 3, 3, np.random.default_rng(0))
        >>> model = MHeightRegressor(m=2, width=8, blocks=1, epochs=3).fit(P[:50])  # without y: exact heights
        >>> model.predict(P[50:]).shape, bool(model.score(P[50:]) > 0.99)
        ((10,), True)
    """

    def __init__(
        self, *, k: int | None = None, m: int | None = None, network: str = "symmetric", width: int = 16,
        blocks: int = 2, epochs: int = 15, batch: int = 64, rate: float = 4e-3, dropout: float = 0.0,
        decay: float = 1e-3, orbit: bool = False, certified: bool = True, random_state: Any = 0,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.k, self.m, self.network, self.width, self.blocks = k, m, network, width, blocks
        self.epochs, self.batch, self.rate, self.dropout, self.decay = epochs, batch, rate, dropout, decay
        self.orbit, self.certified, self.random_state, self.threads = orbit, certified, random_state, threads

    def fit(self, X: Any, y: ArrayLike | None = None) -> MHeightRegressor:
        """Train the network.

        Args:
            X: codes in one of the three forms.
            y: (B,) heights, not their logarithms; None computes the exact ones. Infinite ones are left out.

        Raises:
            CodeError, DataError or scikit-learn's own ValueError, TypeError: X or y breaks a rule.
            ModelError: a parameter is out of range, or the training diverged.
        """
        names = ("network", "width", "blocks", "epochs", "batch", "rate", "dropout", "decay", "orbit")
        settings = {name: getattr(self, name) for name in names}
        # searches of parameters hand over NumPy's numbers
        recipe = make({name: x.item() if isinstance(x, np.generic) else x for name, x in settings.items()})
        parts = _finite(self._codes(X, reset=True), y, self.threads)
        few = tuple(Part(part.group, part.P[:32], part.log2_h[:32]) for part in parts)  # measured every epoch
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        member, stage = Member(recipe, parts, few, few, seed), Stage()
        while stage.weights is None:
            stage = advance((member, stage))
        kept = {"recipe": as_json(recipe), "groups": [part.group for part in parts], "weights": stage.weights}
        self.network_ = _network({"format": FORMAT, **kept})
        self.loss_curve_ = [record["loss"] for record in stage.records]
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predicted heights (B,), if certified inf for infinite ones. Raises what `fit` does, or NotFittedError."""
        check_is_fitted(self)
        data = self._codes(X, reset=False)
        h = np.empty(count(data))
        for group, codes in data.items():
            h[codes.row] = self._answers(codes.P, group)
        return h

    def score(self, X: Any, y: ArrayLike | None = None) -> float:
        """R^2 of log2 h over the codes of finite height; -inf if one of them is predicted infinite. y as in `fit`."""
        parts, errors = self._errors(X, y)
        log2_h, error = np.concatenate([part.log2_h for part in parts]), np.concatenate(list(errors.values()))
        return float(r2_score(log2_h, log2_h + error)) if np.isfinite(error).all() else -np.inf

    def log2_mse(self, X: Any, y: ArrayLike | None = None) -> float:
        """The field's figure: mean squared error of log2 h, finite ones, in bits squared; the plain mean of groups."""
        return float(figures(self._errors(X, y)[1])["macro"])

    def _codes(self, X: Any, *, reset: bool) -> Data:
        data = _read(self, X, reset=reset)
        if self.certified and (longest := max(n for n, _, _ in data)) > MAX_N:
            raise CodeError(f"certified=True is for n <= {MAX_N}, got a code of n = {longest}; use certified=False")
        return data

    def _answers(self, P: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
        if group not in self.network_.groups:
            raise CodeError(f"it was trained on the groups {', '.join(map(str, self.network_.groups))}, not {group}")
        h = np.exp2(on_threads(1, answers, self.network_, P, group))
        return np.clip(h, *bounds(P, group[2], threads=self.threads)) if self.certified else h

    def _errors(self, X: Any, y: ArrayLike | None) -> tuple[Parts, dict[Group, NDArray[np.float64]]]:
        check_is_fitted(self)
        parts = _finite(self._codes(X, reset=False), y, self.threads)
        return parts, {part.group: np.log2(self._answers(part.P, part.group)) - part.log2_h for part in parts}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if x := state.get("network_"):
            kept = {"recipe": as_json(x.recipe), "groups": x.groups, "weights": pack(x.state_dict())}
            state["network_"] = {"format": FORMAT, **kept}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: _network(x) if name == "network_" else x for name, x in state.items()})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required, tags.target_tags.positive_only = False, True
        tags.regressor_tags.poor_score = True  # on anything but heights
        return tags


class ExactHeight(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Exact heights, or certified bounds, as features: log2, in bits. Nothing is learned; `fit` checks X, if called.

    Args:
        what: "height", one column log2 h_m; "profile", log2 h_1, ..., log2 h_r, of codes of one r; "bounds", the
            certified log2 L and log2 U, n <= 16.
        k, m: how to read X where it does not say so itself; see the module. A profile needs no m.
        infinite: bits that larger values, infinite ones too, are cut to; inf leaves all as they are.
        threads: default all cores.

    Attributes:
        r_: n - k of the (first) codes, the number of heights in a profile. n_features_in_: columns, where X is 2-D.

    Example:
        >>> from moe_mheight import ExactHeight
        >>> profile = ExactHeight(what="profile").fit([[[1.0, 1.0], [1.0, 2.0]]])
        >>> profile.transform([[[1.0, 1.0], [1.0, 2.0]]]).round(3).tolist(), profile.get_feature_names_out().tolist()
        ([[1.0, 1.585]], ['log2_h_1', 'log2_h_2'])
    """

    def __init__(
        self, *, what: str = "height", k: int | None = None, m: int | None = None, infinite: float = 64.0,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.what, self.k, self.m, self.infinite, self.threads = what, k, m, infinite, threads

    def fit(self, X: Any, y: Any = None) -> ExactHeight:
        """Check X and the parameters; y is not looked at. Raises CodeError, DataError or scikit-learn's own."""
        (n, k, _), *_ = self._codes(X, reset=True)
        self.r_ = n - k
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Features (B, f), in bits; f is 1, r or 2. Raises what `fit` does."""
        data = self._codes(X, reset=False)
        features = []
        for (_, _, m), codes in data.items():
            if self.what == "profile":
                features.append(height_profile(codes.P, threads=self.threads)[:, 1:])
            else:
                solve: Any = bounds if self.what == "bounds" else m_height
                features.append(np.atleast_2d(solve(codes.P, m, threads=self.threads)).T)
        order = np.argsort(np.concatenate([codes.row for codes in data.values()]))
        return np.minimum(np.log2(np.concatenate(features)[order]), self.infinite)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features: log2_h; log2_h_1, ... (after fit); or log2_lower, log2_upper."""
        if self.what == "profile":
            check_is_fitted(self, "r_")
            return np.array([f"log2_h_{m}" for m in range(1, self.r_ + 1)], dtype=object)
        return np.array(["log2_h"] if self.what == "height" else ["log2_lower", "log2_upper"], dtype=object)

    def _codes(self, X: Any, *, reset: bool) -> Data:
        if self.what not in ("height", "profile", "bounds"):
            raise CodeError(f"what must be height, profile or bounds, got {brief(self.what)}")
        if not isinstance(self.infinite, Real) or not self.infinite > 0:
            raise CodeError(f"infinite must be a number of bits > 0, got {brief(self.infinite)}")
        data = _read(self, X, reset=reset, any_m=self.what == "profile")
        found = {n - k for n, k, _ in data} | ({self.r_} if hasattr(self, "r_") and not reset else set())
        if self.what == "profile" and len(found) > 1:
            raise CodeError(f"a profile is for codes of one r = n - k, that of fit, got {brief(sorted(found))}")
        return data

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
