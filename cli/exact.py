"""`mheight exact`: exact heights of a file, with an audit of its labels; of one long code, with a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .one_code import Levels, OneCode, solve
from .options import (
    MATRICES,
    Choice,
    Finite,
    Output,
    Workers,
    data_argument,
    force_option,
    gathered,
    jobs_options,
    output_options,
    partial_option,
    seconds_option,
    threads_option,
    working,
)
from .printing import emit, remark, table, unread_is_fine
from .progress import Progress


@dataclass(frozen=True)
class Labels:
    """What is done about the labels of a file of codes."""

    out: tuple[str, ...]
    shard_rows: int | None
    partial: bool
    tolerance: float
    show: int
    check: bool


@click.command("exact")
@data_argument(required=True)
@click.option(
    "--m",
    "m",
    type=Levels(),
    multiple=True,
    help="One code: its m-heights, for these m: 3, 1-6, 2,4; may be repeated.  [default: every m]",
)
@click.option("--matrix", type=Choice(["P", "G", "H"]), help="One code: what the matrix in DATA is.")
@click.option(
    "--method",
    type=Choice(["auto", "bases", "search"]),
    default="auto",
    show_default=True,
    help="One code: enumeration of bases (n <= 20), or branch and bound; auto takes what is expected to be quicker.",
)
@seconds_option("One code: end each search, with the bracket so far.")
@click.option("--above", type=Finite(0), metavar="T", help="One code: stop as soon as a codeword proves h_m > T.")
@click.option("--below", type=Finite(0), metavar="T", help="One code: stop as soon as h_m <= T is proven.")
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="One code, with --m: write a proof, for mheight verify. For several m one file each: proof.json becomes "
    "proof-1.json, proof-2.json and so on.",
)
@click.option(
    "--out",
    multiple=True,
    type=click.Path(),
    help="Write codes with exact heights: .npz, .json, .pkl (the peers' pair, OUT-n_k_m_P.pkl and "
    "OUT-mHeights.pkl; give --out twice to name both) or, where the name has no ending, a folder of shards.",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Rows of a shard, of a file.  [default: 262144, fewer from n = 10 on]",
)
@partial_option
@click.option(
    "--tolerance",
    default=1e-6,
    show_default=True,
    type=Finite(0),
    help="Relative difference up to which a label is right.",
)
@click.option("--show", default=10, show_default=True, type=click.IntRange(0), help="Rows listed per kind of error.")
@click.option("--check", is_flag=True, help="Exit with 1 when any label is wrong.")
@jobs_options
@threads_option
@force_option
@output_options
@gathered("one", OneCode)
@gathered("labels", Labels)
def command(
    data: tuple[str, ...],
    one: OneCode,
    labels: Labels,
    workers: Workers,
    threads: int | None,
    force: bool,
    output: Output,
) -> int:
    """Exact m-heights of the codes in DATA.

    DATA is a pair of pickles (rows [n, k, m, P] and heights), as peers of the course that this comes from exchange
    them, a single pickle of rows, an .npz, a .json or a folder of shards (`mheight generate`); - reads standard input.
    With labels, they are compared with the exact heights, and wrong and truly infinite ones are listed. Without, the
    heights are printed, one a line, inf for infinite ones. An --out without an ending is a folder of shards, in the
    order of DATA, for any number of codes: made by all cores or a cluster, and the same command goes on where an
    interrupted one stopped.

    One code, up to n = 64: DATA is its matrix P (of the generator [I | P]), a generator G or a parity-check matrix H,
    in a .csv, .mtx (MatrixMarket), .json, .npy or .npz file; --m or --matrix says so where the name does not. Codes
    longer than about 18 are searched, all cores at work; the time grows with k and m. Ctrl-C or --time-limit ends a
    search with the best codeword so far. Where the search ends by itself its answer is proven, and --certificate
    writes the proof, which names the matrix in DATA. Integers and fractions like -3/4 are taken exactly, those that
    float64 would round too. --above or --below T ask only on which side of T a height is, which takes less.

    \b
    Examples:
      mheight exact sample-n_k_m_P sample-mHeights
      mheight exact codes.json --out labelled.npz
      mheight exact codes.json --out rows.pkl --out heights.pkl
      mheight exact many.npz --out labelled --scheduler tcp://10.0.0.1:8786
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight exact -
      mheight exact code.csv --matrix G --m 6
      mheight exact H.mtx --m 4 --time-limit 60 --certificate proof.json
      mheight exact P.csv --m 1-6 --certificate proof.json
      mheight exact P.csv --m 6 --above 5
    """
    if one.m or one.matrix is not None or Path(data[0]).suffix.lower() in MATRICES:
        if len(data) > 1 or labels.out or labels.check or labels.partial or labels.shard_rows:
            raise click.UsageError(
                "with one matrix go --m, --matrix, --method, --time-limit, --above, --below and --certificate alone"
            )
        if workers.named:
            raise click.UsageError("--jobs, --backend and --scheduler are for a file of codes; one code has --threads")
        return solve(data[0], one, threads, force, output)
    if one != OneCode((), None, "auto", None, None, None, None):
        raise click.UsageError(
            "--time-limit, --above, --below, --certificate and --method are for one code: give --m or --matrix"
        )
    return _file(data, labels, workers, threads, force, output)


def _file(
    data: tuple[str, ...], labels: Labels, workers: Workers, threads: int | None, force: bool, output: Output
) -> int:
    from moe_mheight.data import labelling
    from moe_mheight.data.sources import open_codes

    paths, folder = _destination(labels, force)
    codes = open_codes(data, partial=labels.partial, max_rows=(labels.shard_rows or 0) if folder else None)
    if codes.folder is not None and labels.shard_rows is not None:
        raise click.UsageError("--shard-rows is for a file; the shards of a set stay as they are")
    jobs = -1 if folder and threads is None else None
    with working(workers, jobs) as shared, Progress(codes.rows, "labels", output) as bar:
        threads = 1 if shared else threads
        if folder:
            labelling.label_set(paths[0], codes, threads=threads, force=force, advance=bar.update)
            h = labelling.labels(open_codes(paths))
        else:
            h = labelling.exact_heights(codes, threads, bar.update)
    report = labelling.audit(codes, labels.tolerance, h=h) if codes.labelled else None
    if paths:
        if not folder:
            _write(paths, codes, h)
        what = ", a folder of shards (--out codes.npz for one file)" if folder else ""
        remark(f"wrote {len(h)} rows to {' and '.join(map(str, paths))}{what}", output.quiet)
    if report is not None:
        return _audited(report, len(h), labels, output)
    if output.as_json:
        emit({"format": "moe_mheight exact 1", "heights": h.tolist()})
    elif not paths:
        click.echo("\n".join(repr(float(value)) for value in h))
    return 0


def _destination(labels: Labels, force: bool) -> tuple[list[Path], bool]:
    """The files to write, none of them there, and whether it is a folder of shards instead."""
    from moe_mheight.data.code_files import pair_paths, refuse_existing

    paths = [Path(name) for name in labels.out]
    endings = {path.suffix for path in paths}
    folder = len(paths) == 1 and endings == {""}
    if labels.shard_rows is not None and not folder:
        raise click.UsageError("--shard-rows is for --out with a folder")
    if len(paths) > 2 or (len(paths) == 2 and endings & {".npz", ".json"}):
        raise click.UsageError("--out is given once, or twice for a pair of pickles, rows and heights")
    if len(paths) == 2 and str(paths[0]).casefold() == str(paths[1]).casefold():
        raise click.UsageError("the two files of a pair must differ, not only in case")
    if len(paths) == 1 and not endings & {".npz", ".json", ".pkl", ""}:
        raise click.UsageError(
            f"--out must end in .npz, .json or .pkl, or have no ending for a folder, got {labels.out[0]}"
        )
    if endings == {".pkl"} and len(paths) == 1:
        paths = list(pair_paths(paths[0]))
    if not folder:
        refuse_existing(paths, force)
    return paths, folder


def _write(paths: list[Path], codes: Any, h: Any) -> None:
    """The codes with their exact heights."""
    from moe_mheight.data import code_files

    exact = {group: code_files.Codes(c.P, c.row, h[c.row]) for group, c in codes.in_memory().items()}
    if len(paths) == 2:
        code_files.write_pair(paths[0], paths[1], exact)
    elif paths[0].suffix == ".npz":
        code_files.write_npz(paths[0], exact.items())
    else:
        code_files.write_json(paths[0], exact)


def _audited(report: Any, rows: int, labels: Labels, output: Output) -> int:
    bad = len(report.wrong) + len(report.truly_infinite) + len(report.falsely_infinite)
    with unread_is_fine():
        _print_audit(report, rows, bad, labels, output.as_json)
    return 1 if bad and labels.check else 0


def _print_audit(report: Any, rows: int, bad: int, labels: Labels, as_json: bool) -> None:
    tolerance, show = labels.tolerance, labels.show
    kinds = {
        "wrong": report.wrong,
        "truly infinite": report.truly_infinite,
        "falsely infinite": report.falsely_infinite,
    }
    if as_json:
        found = {
            name.replace(" ", "_"): [
                {"row": int(i), "label": float(report.label[i]), "exact": float(report.h[i])} for i in places
            ]
            for name, places in kinds.items()
        }
        emit({"format": "moe_mheight audit 1", "rows": rows, "tolerance": tolerance, "worst": report.worst, **found})
        return
    click.echo(
        f"{rows} labels: {rows - bad} right to {tolerance:g}, {len(report.wrong)} wrong, "
        f"{len(report.truly_infinite)} finite though the height is infinite, "
        f"{len(report.falsely_infinite)} infinite though it is finite; largest relative difference {report.worst:.1e}"
    )
    for name, places in kinds.items():
        if len(places) and show:
            lines = [[f"  row {i}", f"{report.label[i]:.12g}", f"{report.h[i]:.12g}"] for i in places[:show]]
            click.echo("\n" + table([name, "label", "exact"], lines))
            if len(places) > show:
                click.echo(f"  and {len(places) - show} more (--show {len(places)}, or --json for all)")
