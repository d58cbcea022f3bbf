"""Heights of the code of one matrix, part of `mheight exact`."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from .options import Output, as_floats
from .printing import emit, remark, unread_is_fine
from .progress import Progress


class Levels(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """Some m: "3", "1-6" or "2,4-5"."""

    name = "m"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for part in str(value).split(","):
            ends = re.fullmatch(r"\s*([0-9]{1,3})\s*(?:-\s*([0-9]{1,3})\s*)?", part, re.ASCII)
            first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, 0)
            if not 1 <= first <= last:
                self.fail(f"{value!r} must be whole numbers >= 1, like 3, 1-6 or 2,4.", param, ctx)
            found += range(first, last + 1)
        return tuple(found)


@dataclass(frozen=True)
class OneCode:
    """What is wanted of the code of one matrix."""

    m: tuple[tuple[int, ...], ...]
    matrix: str | None
    method: str
    time_limit: float | None
    above: float | None
    below: float | None
    certificate: str | None

    @property
    def levels(self) -> list[int]:
        """Every m that is named; none for all."""
        return sorted({level for levels in self.m for level in levels})

    def proof(self, level: int) -> str | None:
        """The file of one m's certificate."""
        if self.certificate is None or len(self.levels) < 2:
            return self.certificate
        path = Path(self.certificate)
        return str(path.with_name(f"{path.stem}-{level}{path.suffix}"))


def solve(path: str, wanted: OneCode, threads: int | None, force: bool, output: Output) -> int:
    """Print the heights of the code of one matrix: the command's exit code."""
    from moe_mheight.data.matrix_files import read_matrix

    if wanted.certificate is not None:
        _check_proofs(wanted, force)
    read = read_matrix(path, wanted.matrix)
    P = as_floats(read)
    k, r = P.shape
    if wanted.certificate is not None and (wanted.above is not None or wanted.below is not None):
        raise click.UsageError("--certificate proves a height, not that it is --above or --below something")
    if wanted.levels and wanted.levels[-1] > r:
        raise click.UsageError(f"--m must be at most n - k = {r}, got {wanted.levels[-1]}")
    solver, interrupted, results = _solver(read, P, wanted, threads, output), False, []
    for level in wanted.levels or range(1, r + 1):
        made, found = solver(level)
        proof, interrupted = wanted.proof(level), found is not None and found.ended == "interrupt"
        if made is not None:
            results.append({"m": level, "method": "search", "height": made["height"], "certificate": proof})
            said = f"wrote {proof}: {len(made['bases']):,} bases; mheight verify {proof} {path} checks it"
        else:
            results.append(_plain(found, read.order))
            said = f"{proof} was not written: the search did not end" if proof and not interrupted else ""
        if not output.as_json:
            with unread_is_fine() if interrupted else nullcontext():
                click.echo(_line(found) if made is None else _proven(made))
        if interrupted:
            break
        remark(said, output.quiet or not said)
    if output.as_json:
        with unread_is_fine():
            emit({"format": "moe_mheight heights 1", "n": k + r, "k": k, "matrix": read.kind, "heights": results})
    return 130 if interrupted else 0


def _check_proofs(wanted: OneCode, force: bool) -> None:
    from moe_mheight.data.code_files import refuse_existing

    if not wanted.levels:
        raise click.UsageError("--certificate needs --m, as in --m 1-6")
    refuse_existing([Path(str(wanted.proof(level))) for level in wanted.levels], force)


def _solver(read: Any, P: Any, wanted: OneCode, threads: int | None, output: Output) -> Any:
    """A function of m: the certificate, if one is wanted and the search ended, or what was found."""
    from moe_mheight.exact import cost_model, heights
    from moe_mheight.proofs import certify

    k, r = P.shape
    rounded = read.exact and any(
        value != near
        for row, line in zip(read.P, P.tolist(), strict=True)
        for value, near in zip(row, line, strict=True)
    )
    searched = wanted.certificate is not None or rounded or wanted.method == "search"

    def solver(m: int) -> tuple[dict[str, Any] | None, Any]:
        way = "search" if searched else None
        expected = cost_model.expected_seconds(k + r, k, m, threads, way=way)
        if expected > heights.ANNOUNCED:
            size = f"length {k + r} and dimension {k}"
            remark(f"h_{m} of a code of {size}: {heights.in_words(expected)}, by a guess", output.quiet)
        with Progress(1000, f"h_{m}", output) as bar:
            how: dict[str, Any] = {"threads": threads, "time_limit": wanted.time_limit, "watch": _watcher(bar, m)}
            if wanted.certificate is not None:  # whole heights only
                try:
                    return certify.certify(read.entries, m, matrix=read.kind, path=wanted.proof(m), **how), None
                except certify.UnfinishedError as error:
                    return None, error.found
            if rounded:
                return None, certify.exact_height(read.P, m, **how)
            how |= {"above": wanted.above, "below": wanted.below}
            return None, heights.m_height(P, m, method=wanted.method, details=True, **how)

    return solver


def _watcher(bar: Any, m: int) -> Any:
    """Shows the bracket and the share done on the bar."""

    def watch(seen: Any) -> None:
        bar.note = f"h_{m} in [{seen.lower:.6g}, {seen.upper:.6g}]"
        bar.update(max(0, int(1000 * seen.share) - bar.done))

    return watch


def _line(found: Any) -> str:
    facts = f"{found.method}, {found.seconds:.2f} s"
    if found.method == "search":
        facts += f", {found.nodes:,} nodes, {found.programs:,} linear programs"
    if found.finished:
        return f"h_{found.m} = {found.value!r}  ({facts})"
    if found.ended == "above":
        return f"h_{found.m} >= {found.lower!r}, above the threshold  ({facts})"
    if found.ended == "below":
        return f"h_{found.m} <= {found.upper!r}, not above the threshold  ({facts})"
    return f"{found.lower!r} <= h_{found.m} <= {found.upper!r}  ({found.ended}; {facts})"


def _proven(made: dict[str, Any]) -> str:
    height = made["height"]
    if isinstance(height, dict):
        return f"{height['lower']} <= h_{made['m']} <= {height['upper']}  (proven)"
    number = f" = {_rounded(height)}" if "/" in height else ""
    return f"h_{made['m']} = {height}{number}  (proven)"


def _rounded(height: str) -> str:
    from moe_mheight.numerics.rationals import about

    try:
        return repr(float(Fraction(height)))
    except OverflowError:
        return about(Fraction(height))


def _plain(found: Any, order: tuple[int, ...]) -> dict[str, Any]:
    """For JSON, coordinates numbered as in the matrix given."""
    word = [0.0] * found.n
    for j, value in enumerate(found.witness.tolist()):
        word[order[j]] = value
    return {
        "m": found.m, "height": found.value, "lower": found.lower, "upper": found.upper, "method": found.method,
        "ended": found.ended, "seconds": round(found.seconds, 3), "nodes": found.nodes, "programs": found.programs,
        "witness": word, "outside": [order[j] for j in found.outside],
    }  # fmt: skip
