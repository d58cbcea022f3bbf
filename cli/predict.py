"""`mheight predict`: predicted heights of a file, or of one matrix."""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .options import (
    MATRICES,
    Choice,
    Effort,
    Ensemble,
    Output,
    Workers,
    as_floats,
    data_argument,
    ensemble_options,
    force_option,
    gathered,
    jobs_options,
    output_options,
    partial_option,
    threads_option,
    working,
)
from .printing import emit, remark, table
from .progress import Progress


@dataclass(frozen=True)
class Which:
    """Which codes of DATA."""

    m: int | None
    matrix: str | None
    partial: bool


@dataclass(frozen=True)
class Request:
    """What is printed beside the height, and how many sets may be solved for it."""

    budget: int | None
    effort: str | float
    certainty: bool
    spread: bool
    bounds: bool
    interval: float | None


@click.command("predict")
@data_argument(required=True)
@click.option("--m", "m", type=click.IntRange(1), help="One code: its m-height, for this m.  [default: every m]")
@click.option("--matrix", type=Choice(["P", "G", "H"]), help="One code: what the matrix in DATA is.")
@ensemble_options
@click.option(
    "--effort",
    default="default",
    type=Effort(),
    metavar="fast|default|thorough|SECONDS",
    help="How long to search for codes of n = 16 or more; a number is seconds per code.",
)
@click.option(
    "--certainty", is_flag=True, help="Also print the probability that the certified lower bound is the height."
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    metavar="SETS",
    help="Instead of --effort: solve for no more than this many sets of coordinates, for n up to 32.",
)
@click.option(
    "--spread", is_flag=True, help="Also print the standard deviation over the members of the ensemble, in bits."
)
@click.option("--bounds", is_flag=True, help="Also print the certified lower and upper bound.")
@click.option("--interval", type=float, metavar="COVERAGE", help="Also print an interval of that coverage, like 0.9.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the columns instead of printing them: .csv, .npz (an array each) or .json (as --json prints).",
)
@partial_option
@jobs_options
@threads_option
@force_option
@output_options
@gathered("which", Which)
@gathered("request", Request)
def command(
    data: tuple[str, ...],
    which: Which,
    ensemble: Ensemble,
    request: Request,
    out: str | None,
    workers: Workers,
    threads: int | None,
    force: bool,
    output: Output,
) -> int:
    """Predicted m-heights of the codes in DATA, one a line, in the order of the rows.

    DATA as for `mheight exact`; labels are ignored. An infinite height prints as inf.

    Codes may have any n up to 64. Below n = 16 all sets of n - m coordinates are bracketed, and certified bounds decide
    nearly every height. From there on a search of milliseconds visits the most promising sets: its lower bound is
    certified, no upper bound is known, and --certainty says how probable it is that the lower bound is the height.

    Whom to ask: `mheight exact` up to n of about 16, where it is as fast and gives the truth, and wherever a proof may
    take its time; this command for longer codes that cannot wait for a proof.

    One code: DATA is its matrix P (of the generator [I | P]), a generator G or a parity-check matrix H, as for `mheight
    exact`; --m or --matrix says so where the name does not.

    \b
    Examples:
      mheight predict codes.npz
      mheight predict codes.npz --bounds --out predicted.csv
      mheight predict code.csv --matrix G --m 3 --bounds
      mheight predict --bounds n_k_m_P.pkl
      mheight predict code.csv --matrix P --m 8 --certainty --effort thorough
      mheight predict --interval 0.9 --effort 0.05 long_codes.npz
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight predict -
    """
    from moe_mheight.data.code_files import refuse_existing
    from moe_mheight.data.sources import open_codes

    if out is not None:
        if Path(out).suffix not in (".csv", ".npz", ".json"):
            raise click.UsageError(f"--out must end in .csv, .npz or .json, got {out}")
        refuse_existing([Path(out)], force)
    about: dict[str, Any] = {}
    if which.m is not None or which.matrix is not None or Path(data[0]).suffix.lower() in MATRICES:
        if len(data) > 1 or which.partial or workers.named:
            raise click.UsageError("one matrix goes without other files, --partial, --jobs, --backend and --scheduler")
        codes, about = _one_code(data[0], which)
    else:
        codes = open_codes(data, partial=which.partial)
    columns = _columns(codes, ensemble.load(), request, workers, threads, output)
    if not (request.certainty or output.as_json or (out is not None and Path(out).suffix == ".json")):
        del columns["certainty"]
    if out is not None:
        _write(Path(out), columns, about)
        remark(f"wrote {codes.rows} rows to {out}", output.quiet)
    elif output.as_json:
        emit(_document(columns, about))
    else:
        one = about and which.m is not None
        columns = columns if one or not about else {"m": about["m"]} | columns
        lines = [[repr(value) for value in line] for line in zip(*columns.values(), strict=True)]
        click.echo("\n".join(cell for (cell,) in lines) if len(columns) == 1 else table(columns, lines))
    return 0


def _columns(
    codes: Any, predictor: Any, request: Request, workers: Workers, threads: int | None, output: Output
) -> dict[str, list[float]]:
    """What is printed, by name, in the order of the rows."""
    from moe_mheight.data.sources import by_row

    bracket_view = hasattr(predictor, "predict_interval")
    searching = request.budget or request.effort != "default"
    if not bracket_view and (searching or request.certainty or request.spread or request.interval is not None):
        raise click.UsageError(
            "--effort, --budget, --certainty, --interval and --spread are for the bracket view; these models read P"
        )
    if bracket_view:
        _within_reach(max(n for n, *_ in codes.groups), request)
    wanted = {"height": "height", "certainty": "certainty"}
    wanted |= {"spread": "std_bits"} if request.spread else {}
    wanted |= {"lower": "tightest_lower", "upper": "tightest_upper"} if request.bounds else {}
    wanted |= {"low": "low", "high": "high"} if request.interval is not None else {}
    with working(workers) as shared, Progress(codes.rows, "predicting", output) as bar:
        more: dict[str, Any] = {"threads": 1 if shared else threads}
        more |= {"budget": request.budget} if request.budget else {}
        more |= {"effort": request.effort} if request.effort != "default" else {}
        more |= {} if request.interval is None else {"coverage": request.interval}
        values = by_row(codes, functools.partial(_measured, predictor, more, tuple(wanted.values())), bar.update)
    return {name: values[:, at].tolist() for at, name in enumerate(wanted)}


def _document(columns: dict[str, list[float]], about: dict[str, Any]) -> dict[str, Any]:
    named = {"heights" if name == "height" else name: values for name, values in columns.items()}
    return {"format": "moe_mheight predict 1", **about, **named}


def _write(path: Path, columns: dict[str, list[float]], about: dict[str, Any]) -> None:
    """The columns, with their m where they are of one matrix; the same columns give the same bytes."""
    import numpy as np

    from moe_mheight._io import as_json, write_file

    numbered = ({"m": about["m"]} if about else {}) | columns
    if path.suffix == ".json":
        content = (as_json(_document(columns, about), indent=2) + "\n").encode()
    elif path.suffix == ".npz":
        arrays = io.BytesIO()
        named: dict[str, Any] = {name: np.array(values) for name, values in numbered.items()}
        np.savez(arrays, **named)
        content = arrays.getvalue()
    else:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([numbered, *zip(*numbered.values(), strict=True)])
        content = text.getvalue().encode()
    write_file(path, content)


def _one_code(path: str, which: Which) -> tuple[Any, dict[str, Any]]:
    """One matrix as codes, a row for m or for each m; and what JSON says about it."""
    import numpy as np

    from moe_mheight.data.code_files import Codes
    from moe_mheight.data.matrix_files import read_matrix
    from moe_mheight.data.sources import of

    read, m = read_matrix(path, which.matrix), which.m
    P = as_floats(read)
    k, r = P.shape
    if m is not None and m > r:
        raise click.UsageError(f"--m must be at most n - k = {r}, got {m}")
    levels = list(range(1, r + 1)) if m is None else [m]
    data = {(k + r, k, level): Codes(P[None], np.array([row]), None) for row, level in enumerate(levels)}
    return of(data), {"n": k + r, "k": k, "matrix": read.kind, "m": levels}


def _within_reach(n: int, request: Request) -> None:
    from moe_mheight.numerics.bitsets import BITS, LONGEST

    longest = LONGEST if request.budget else BITS
    if request.budget and request.effort != "default":
        raise click.UsageError("--effort and --budget are two ways to say how long to search: give one of them")
    if n > longest:
        instead = "leave --budget out" if n <= BITS else "longer codes are out of reach"
        given = " with --budget" if request.budget else ""
        raise click.UsageError(f"predictions{given} go up to n = {longest}, got a code of n = {n}: {instead}")


def _measured(predictor: Any, more: dict[str, Any], names: tuple[str, ...], codes: Any, group: Any) -> Any:
    """(B, len(names)): these fields of the measurement."""
    import numpy as np

    measured = predictor.measure(codes.P, group[2], **more)
    return np.stack([getattr(measured, name) for name in names], axis=1)
