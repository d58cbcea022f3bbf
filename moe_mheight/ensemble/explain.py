"""What there is to say about one code: its height, each expert's prediction, the codeword that decides, and why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..codes.forms import as_P
from ..codes.linear import check_m, check_P
from ..codes.minors import MAX_N, smallest_minors
from ..errors import CodeError, brief
from ..exact.cost_model import expected_seconds
from ..exact.distance import minimum_distance
from ..exact.heights import m_height
from ..exact.result import Height
from ..figures.style import ORANGE, VERMILLION, picture
from ..groups import TIERS, slack_of, tier_of
from ..numerics.bitsets import BITS
from .predictor import Predictor

FILLS = {"top": VERMILLION, "large": ORANGE, "small": "#9aa5b1"}
"""Colours of a codeword's largest entry, of the others of its m + 1 largest, and of the rest."""

OTHERS = 400
"""Codes of the same entries, each once, at other places and with other signs, which a code is compared with."""

PATIENCE = 5.0
"""Seconds that the comparison may take, by a guess."""

SAME = 1e-7
"""A lower bound that is the height up to this, relatively, found it."""


@dataclass(frozen=True, repr=False, eq=False)
class Explanation:
    """One code, for one m; made by `explain`. Coordinates are numbered from 0, heights are dimensionless.

    height: exact, or the bracket so far, with the codeword `height.witness` (n,) and the coordinates outside S.
    lower, upper: the certified bracket that the prediction lies in; upper is inf from n = 16 on.
    certainty: the ensemble's probability that lower is the height; 1 where the bracket decides it, None where unknown.
    predicted: the ensemble's answer, None where no expert reads codes of this length. spread: over its members, bits.
    low, high: the interval that holds the height for a share `coverage` of codes.
    router: weight of each tier. experts: what each tier alone says; an expert's answer counts only where bounds leave
        more than a millionth of a bit, so they often agree to the last digit.
    distance: minimum Hamming distance, n <= 16.
    minor, basis: the smallest |p(B)| over the largest, over independent columns, and its B, n <= 16.
    better: share of OTHERS codes of the same entries, in random order and with random signs, that have a larger height.
    typical: their median.
    """

    height: Height
    lower: float
    upper: float
    certainty: float | None
    predicted: float | None
    spread: float | None
    low: float | None
    high: float | None
    coverage: float
    router: dict[str, float]
    experts: dict[str, float]
    distance: int | None
    minor: float | None
    basis: tuple[int, ...] | None
    better: float | None
    typical: float | None

    @property
    def largest(self) -> tuple[int, ...]:
        """Coordinates of the codeword's m + 1 largest entries, largest first."""
        order = np.argsort(-np.abs(self.height.witness), kind="stable")
        return tuple(int(j) for j in order[: self.height.m + 1])

    @property
    def inside(self) -> tuple[int, ...]:
        """S: the n - m coordinates on which the codeword is small."""
        return tuple(j for j in range(self.height.n) if j not in self.height.outside)

    @property
    def sentence(self) -> str:
        """What decides the height, and how it compares with codes of the same entries in random order."""
        h, m = self.height, self.height.m
        if h.value == np.inf:
            zeros = int((np.abs(h.witness) < 1e-9).sum())
            return (
                f"Useless at m = {m}: a codeword vanishes on {zeros} of the {h.n} coordinates, so {m} errors can hide "
                "what they did."
            )
        a, *others = self.largest
        last = others[-1]
        ratio = f"coordinate {a} is {h.value:.4g} times its entry in coordinate {last}, the {_th(m + 1)} largest"
        why = f"the codeword whose entry in {ratio}, decides"
        if not h.finished:
            return (
                f"Not proven: the search ended early; of the codewords found, the one whose entry in {ratio}, is worst."
                + self._sureness()
            )
        if self.better is None:
            return f"{why[0].upper()}{why[1:]}.{self._sureness()}"
        share = 100.0 * self.better
        if share in (0.0, 100.0):
            verdict = f"Lower than {'all' if share else 'none'} of {OTHERS}"
        else:
            verdict = f"Lower than {min(max(share, 1.0), 99.0):.0f} % of {OTHERS}"
        verdict += f" codes with these entries in random order and with random signs (median {self.typical:.4g}; no "
        verdict += "height is below 1), which says nothing against codes made by design"
        if self.minor is not None and self.minor < 1e-2 and share < 25.0 and self.basis != tuple(range(h.k)):
            why += f"; the minor of columns {_set(self.basis or ())} is only {self.minor:.1g} of the largest, "
            why += "so a codeword can be small on them and large elsewhere"
        return f"{verdict}; {why}.{self._sureness()}"

    def _sureness(self) -> str:
        """Of a long code: what the ensemble knew without the proof."""
        if self.certainty is None or self.height.n < MAX_N:
            return ""
        if not self.height.finished:
            says = (
                f" The ensemble found {self.lower:.4g}, and is {_percent(self.certainty)} sure that this is the height"
            )
        else:
            right = bool(np.isclose(self.lower, self.height.value, rtol=SAME, atol=0.0))
            says = (
                f" The ensemble found {'it' if right else f'no more than {self.lower:.4g}'} without the proof, and was "
            )
            says += f"{_percent(self.certainty)} sure"
        return f"{says}."

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite numbers stay floats."""
        h = self.height
        return {
            "format": "moe_mheight explanation 1",
            "n": h.n, "k": h.k, "m": h.m, "tier": tier_of(h.n, h.k, h.m),
            "height": h.value, "exact": h.finished, "method": h.method, "seconds": round(h.seconds, 4),
            "lower": self.lower, "upper": self.upper, "certainty": self.certainty,
            "predicted": self.predicted, "spread_bits": self.spread,
            "interval": None if self.low is None else [self.low, self.high], "coverage": self.coverage,
            "router": self.router, "experts": self.experts,
            "witness": h.witness.tolist(), "largest": list(self.largest),
            "a": h.outside[0], "outside": list(h.outside), "S": list(self.inside),
            "minimum_distance": self.distance,
            "smallest_minor": self.minor, "its_columns": None if self.basis is None else list(self.basis),
            "better_than": self.better, "median_of_random": self.typical,
            "sentence": self.sentence,
        }  # fmt: skip

    def lines(self) -> list[tuple[str, str]]:
        """What is to be said, as (what, that)."""
        h = self.height
        size = h.n, h.k, h.m
        facts = [("code", f"n = {h.n}, k = {h.k}, m = {h.m}, slack {slack_of(*size)}, {tier_of(*size)} tier")]
        if h.finished:
            facts.append((f"height h_{h.m}", f"{_number(h.value)}   exact, {h.seconds:.2g} s"))
        else:
            facts.append((f"height h_{h.m}", f"{_number(h.lower)} to {_number(h.upper)}   {h.ended}"))
        facts.append(("certified bracket", f"{_number(self.lower)} to {_number(self.upper)}"))
        if self.certainty is not None and h.n >= MAX_N:
            facts.append(("certainty", f"{_percent(self.certainty)} that its lower end is the height"))
        if self.predicted is not None:
            facts.append(("predicted", f"{_number(self.predicted)}   members differ by {self.spread:.1e} bits"))
        if self.low is not None and self.high is not None:
            facts.append((f"{100 * self.coverage:g} % interval", f"{_number(self.low)} to {_number(self.high)}"))
        for tier, value in self.experts.items():
            facts.append((f"  {tier} expert", f"{_number(value)}   weight {self.router[tier]:.2g}"))
        facts.append(("codeword", " ".join(f"{value:.3g}" for value in h.witness)))
        facts.append((f"{h.m + 1} largest at", ", ".join(map(str, self.largest))))
        facts.append(("a, S", f"{h.outside[0]}, {_set(self.inside)}"))
        if self.distance is not None:
            facts.append(("minimum distance", str(self.distance)))
        if self.minor is not None and self.basis is not None:
            facts.append(("smallest minor", f"{self.minor:.3g} of the largest, columns {_set(self.basis)}"))
        return facts

    def __repr__(self) -> str:
        facts = self.lines()
        width = max(len(name) for name, _ in facts)
        return "\n".join([*(f"{name.ljust(width)}  {text}" for name, text in facts), "", self.sentence])

    def _repr_html_(self) -> str:
        """A table for notebooks, and the codeword as bars."""
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in self.lines()
        )
        word = self.height.witness / np.abs(self.height.witness).max()
        drawn = "".join(
            f'<rect x="{bar["x"]}" y="{bar["y"]:.2f}" width="10" height="{bar["height"]:.2f}" '
            f'fill="{FILLS[bar["kind"]]}"/>'
            f'<text x="{bar["x"] + 5}" y="45" font-size="5" text-anchor="middle" fill="currentColor">{j}</text>'
            for j, bar in enumerate(bars(word.tolist(), self.largest))
        )
        size = f'viewBox="0 0 {12 * len(word)} 48" style="width:{2.2 * len(word):.0f}em; max-width:100%"'
        return f"<table>{rows}</table><p>{escape(self.sentence)}</p><svg {size}>{drawn}</svg>"

    def draw(self, path: str | Path) -> None:
        """The codeword as bars, its m + 1 largest entries marked, as a .png.

        Raises:
            ModelError: matplotlib is missing. DataError: the file cannot be written.
        """
        h, marked = self.height, self.largest
        word = h.witness / np.abs(h.witness).max()
        with picture(Path(path), min(14.0, max(6.0, 0.32 * h.n + 2.0)), 3.4) as figure:
            axis = figure.subplots()
            last = marked[-1]
            for j, value in enumerate(word):
                colour = FILLS["top" if j == marked[0] else "large" if j in marked else "small"]
                axis.bar(j, value, color=colour, hatch="//" if j == last else None, edgecolor="white")
            level = abs(word[last])
            for sign in (1.0, -1.0):
                axis.axhline(sign * level, color="#555555", lw=0.8, ls=":")
            axis.axhline(0.0, color="#333333", lw=0.8)
            step = 1 if h.n <= 32 else 2
            axis.set(
                xlabel="coordinate",
                ylabel="entry, largest 1",
                title=f"the codeword that decides h_{h.m} = {_number(h.value)}, its {h.m + 1} largest in orange",
                xticks=range(0, h.n, step),
                ylim=(min(-0.05, word.min() * 1.1), max(0.05, word.max() * 1.1)),
            )
            axis.annotate(
                f"{_th(h.m + 1)} largest",
                (h.n - 0.5, level),
                (0, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
            )


def bars(word: Sequence[float], largest: Sequence[int]) -> list[dict[str, Any]]:
    """A codeword, largest entry 1, as bars in a box of 12 units a coordinate and 40 in height, zero at 20; `kind` is
    "top", "large" for the others of the largest, or "small"."""
    return [
        {"x": 12 * j + 1, "y": 20 - max(18 * value, 0.0), "height": max(abs(18 * value), 0.4),
         "kind": "top" if j == largest[0] else "large" if j in largest else "small"}
        for j, value in enumerate(word)
    ]  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.10g}"


def _percent(probability: float) -> str:
    """Never quite 100 % of what is not proven."""
    share = 100.0 * probability
    return "100 %" if share == 100.0 else f"{min(share, 99.9):.3g} %"


def _set(coordinates: tuple[int, ...]) -> str:
    return "{" + ", ".join(map(str, coordinates)) + "}"


def _th(number: int) -> str:
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"


def explain(
    P: ArrayLike,
    m: int,
    predictor: Predictor | None = None,
    *,
    matrix: str | None = None,
    coverage: float = 0.9,
    order: Sequence[int] | None = None,
    time_limit: float | None = None,
    threads: int | None = None,
) -> Explanation:
    """Everything that there is to say about one code.

    Args:
        P: (k, r), the code [I | P], n = k + r <= 64.
        m: 1 <= m <= r.
        predictor: default the shipped one.
        matrix: what P is, as in `m_height`; coordinates then have their numbers in that matrix, unless order is given.
        coverage: of the interval, in (0, 1].
        order: (n,), what coordinate j of [I | P] is called, a permutation of 0..n-1, as `matrices.read_matrix` and
            `systematic` tell; default j.
        time_limit: seconds for the exact height of a long code; default as long as it takes.
        threads: default all cores.

    Returns:
        An `Explanation`: print it, draw it, or show it in a notebook.

    Raises:
        CodeError: P, m, coverage or the time limit is out of range; order is no permutation.

    Example:
        >>> from moe_mheight import explain
        >>> found = explain([[1, 1], [1, 2]], 1)
        >>> found.height.value, found.distance, found.sentence.partition(" of ")[0]
        (2.0, 3, 'Lower than 48 %')
    """
    given, found_order = as_P(P, matrix, rounded=True)
    batch, single = check_P(given, max_n=BITS)
    if not single:
        raise CodeError(f"explain takes one code, P of shape (k, r), got {batch.shape}")
    code = batch[0]
    k, r = code.shape
    n, level = k + r, int(check_m(m, 1, r)[0])
    names = _names(order if order is not None or found_order is None else found_order.tolist(), n)
    predictor = Predictor.load() if predictor is None else predictor
    if not hasattr(predictor, "predict_interval"):
        raise CodeError("explain needs a predictor of the bracket view; the raw view has no tiers to ask")
    height = m_height(code, level, matrix="P", details=True, time_limit=time_limit, threads=threads)
    weights = dict(zip(TIERS, map(float, predictor.router(n, k, level)), strict=True))
    lower, upper, experts = height.lower, height.upper, {}
    certainty = predicted = spread = low = high = None
    if n < MAX_N or set(TIERS) <= set(predictor.long):
        found = predictor.measure(code[None], level, matrix="P", coverage=coverage, threads=threads)
        columns = ("tightest_lower", "tightest_upper", "height", "std_bits", "low", "high")
        lower, upper, predicted, spread, low, high = (float(getattr(found, name)[0]) for name in columns)
        certainty = None if np.isnan(found.certainty[0]) else float(found.certainty[0])
        with warnings.catch_warnings():  # told once already
            warnings.simplefilter("ignore")
            for i, tier in enumerate(TIERS):
                alone = Predictor(predictor.tiers, _only(i), long=predictor.long)
                experts[tier] = float(alone.predict(code, level, matrix="P", threads=threads))
    word = np.empty(n)
    word[names] = height.witness
    height = replace(height, witness=word, outside=tuple(names[j] for j in height.outside))
    distance = minor = basis = None
    if n <= MAX_N:
        distance = int(minimum_distance(code, matrix="P"))
        ratios, (columns,) = smallest_minors(code[None])
        minor = float(ratios[0])
        basis = tuple(sorted(names[j] for j in columns))
    better = typical = None
    if height.finished and (n <= MAX_N or OTHERS * expected_seconds(n, k, level, threads) < PATIENCE):
        others = m_height(_shuffled(code), level, matrix="P", threads=threads)
        better, typical = float((others > height.value).mean()), float(np.median(others))
    return Explanation(
        height, lower, upper, certainty, predicted, spread, low, high, coverage, weights, experts, distance, minor,
        basis, better, typical,
    )  # fmt: skip


def _names(order: Sequence[int] | None, n: int) -> list[int]:
    """What the coordinates are called."""
    if order is None:
        return list(range(n))
    try:
        names = [index(name) for name in order]
    except TypeError:
        names = []
    if sorted(names) != list(range(n)):
        raise CodeError(f"order must be a permutation of 0..{n - 1}, got {brief(order)}")
    return names


def _shuffled(P: NDArray[np.float64]) -> NDArray[np.float64]:
    """(OTHERS, k, r): codes of the entries of P, each once, in random order, with random signs; always the same."""
    rng = np.random.default_rng(P.shape)
    entries = rng.permuted(np.broadcast_to(P.ravel(), (OTHERS, P.size)), axis=1)
    return (entries * rng.choice((-1.0, 1.0), entries.shape)).reshape(OTHERS, *P.shape)


def _only(place: int) -> Any:
    return lambda n, k, m: np.eye(len(TIERS))[place]
