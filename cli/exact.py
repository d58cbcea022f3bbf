"""`mheight exact`: exact heights of a file, with an audit of its labels; of one long code, with a certificate."""

from __future__ import annotations

import re
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from .options import (
    MATRICES,
    Choice,
    Finite,
    as_floats,
    data_argument,
    emit,
    force_option,
    jobs_options,
    output_options,
    partial_option,
    progress,
    remark,
    seconds_option,
    table,
    threads_option,
    unread_is_fine,
    working,
)


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
    help="One code: enumeration of bases (n <= 16) or the pruned search.",
)
@seconds_option("One code: end each search, with the bracket so far.")
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="One code, with --m: write a proof, for mheight verify. For several m one file each: proof.json becomes "
    "proof-1.json, proof-2.json and so on.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="Write codes with exact heights: .npz, .json or, where the name has no ending, a folder of shards.",
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
def command(
    data: tuple[str, ...],
    m: tuple[tuple[int, ...], ...],
    matrix: str | None,
    method: str,
    time_limit: float | None,
    certificate: str | None,
    out: str | None,
    shard_rows: int | None,
    partial: bool,
    tolerance: float,
    show: int,
    check: bool,
    jobs: int | None,
    backend: str | None,
    scheduler: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Exact m-heights of the codes in DATA.

    DATA is the field's pair of pickles (rows [n, k, m, P] and heights), a single pickle of rows, an .npz, a .json or a
    folder of shards (`mheight generate`); - reads standard input. With labels, they are compared with the exact
    heights, and wrong and truly infinite ones are listed. Without, the heights are printed, one a line, inf for
    infinite ones. An --out without an ending is a folder of shards, in the order of DATA, for any number of codes: made
    by all cores or a cluster, and the same command goes on where an interrupted one stopped.

    One code, up to n = 64: DATA is its matrix P (of the generator [I | P]), a generator G or a parity-check matrix H,
    in a .csv, .mtx (MatrixMarket), .json, .npy or .npz file; --m or --matrix says so where the name does not. Codes
    longer than 16 are searched, all cores at work; the time grows with k and m. Ctrl-C or --time-limit ends a search
    with the best codeword so far. Where the search ends by itself its answer is proven, and --certificate writes the
    proof, which names the matrix in DATA. Integers and fractions like -3/4 are taken exactly, those that float64
    would round too.

    \b
    Examples:
      mheight exact sample-n_k_m_P sample-mHeights
      mheight exact codes.json --out labelled.npz
      mheight exact many.npz --out labelled --scheduler tcp://10.0.0.1:8786
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight exact -
      mheight exact code.csv --matrix G --m 6
      mheight exact H.mtx --m 4 --time-limit 60 --certificate proof.json
      mheight exact P.csv --m 1-6 --certificate proof.json
    """
    levels = sorted({level for some in m for level in some})
    one_code = bool(levels) or matrix is not None or Path(data[0]).suffix.lower() in MATRICES
    if one_code:
        if len(data) > 1 or out is not None or check or partial or shard_rows:
            raise click.UsageError("with one matrix go --m, --matrix, --method, --time-limit and --certificate alone")
        if (jobs, backend, scheduler) != (None, None, None):
            raise click.UsageError("--jobs, --backend and --scheduler are for a file of codes; one code has --threads")
        return _one_code(data[0], levels, matrix, method, time_limit, certificate, threads, force, as_json, quiet)
    if time_limit is not None or certificate is not None or method != "auto":
        raise click.UsageError("--time-limit, --certificate and --method are for one code: give --m or --matrix")
    from moe_mheight.data import code_files, labelling
    from moe_mheight.data.sources import open_codes

    folder = out is not None and Path(out).suffix == ""
    if out is not None and not folder:
        code_files.refuse_existing([Path(out)], force)
        if Path(out).suffix not in (".npz", ".json"):
            raise click.UsageError(f"--out must end in .npz or .json, or have no ending for a folder, got {out}")
    if shard_rows is not None and not folder:
        raise click.UsageError("--shard-rows is for --out with a folder")
    codes = open_codes(data, partial=partial, max_rows=(shard_rows or 0) if folder else None)
    if codes.folder is not None and shard_rows is not None:
        raise click.UsageError("--shard-rows is for a file; the shards of a set stay as they are")
    if folder and (jobs, backend, scheduler, threads) == (None, None, None, None):
        jobs = -1
    with working(jobs, backend, scheduler) as asked, progress(codes.rows, "labels", quiet, as_json) as bar:
        threads = 1 if asked else threads
        if folder:
            labelling.label_set(Path(str(out)), codes, threads=threads, force=force, advance=bar.update)
            h = labelling.labels(open_codes([str(out)]))
        else:
            h = labelling.exact_heights(codes, threads, bar.update)
    report = labelling.audit(codes, tolerance, h=h) if codes.labelled else None
    if out is not None:
        if not folder:
            exact = {group: code_files.Codes(c.P, c.row, h[c.row]) for group, c in codes.in_memory().items()}
            if out.endswith(".npz"):
                code_files.write_npz(Path(out), exact.items())
            else:
                code_files.write_json(Path(out), exact)
        what = ", a folder of shards (--out codes.npz for one file)" if folder else ""
        remark(f"wrote {len(h)} rows to {out}{what}", quiet)
    if report is None:
        if as_json:
            emit({"format": "moe_mheight exact 1", "heights": h.tolist()})
        elif out is None:
            click.echo("\n".join(repr(float(value)) for value in h))
        return 0
    bad = len(report.wrong) + len(report.truly_infinite) + len(report.falsely_infinite)
    with unread_is_fine():
        _print_audit(report, len(h), bad, tolerance, show, as_json)
    return 1 if bad and check else 0


def _print_audit(report: Any, rows: int, bad: int, tolerance: float, show: int, as_json: bool) -> None:
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


def _one_code(
    path: str,
    levels: list[int],
    kind: str | None,
    method: str,
    time_limit: float | None,
    certificate: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    from moe_mheight.data import code_files, matrix_files
    from moe_mheight.exact import heights, result
    from moe_mheight.proofs import certify

    proofs = _files(certificate, levels)
    if certificate is not None and not levels:
        raise click.UsageError("--certificate needs --m, as in --m 1-6")
    code_files.refuse_existing([Path(proof) for proof in proofs.values()], force)
    read = matrix_files.read_matrix(path, kind)
    P = as_floats(read)
    k, r = P.shape
    n = k + r
    if levels and levels[-1] > r:
        raise click.UsageError(f"--m must be at most n - k = {r}, got {levels[-1]}")
    rounded = read.exact and any(
        value != near
        for row, line in zip(read.P, P.tolist(), strict=True)
        for value, near in zip(row, line, strict=True)
    )
    how = heights.choose(n, method)
    how = "search" if certificate is not None or rounded else how
    code, results = 0, []
    for level in levels or range(1, r + 1):
        proof = proofs.get(level)
        expected = result.expected_seconds(n, k, level, threads)
        if how == "search" and expected > heights.ANNOUNCED:
            remark(
                f"h_{level} of a code of length {n} and dimension {k}: {heights.in_words(expected)}, by a guess", quiet
            )
        made = None
        with progress(1000, f"h_{level}", quiet, as_json) as bar:
            watch = _watcher(bar, level)
            if certificate is not None:
                try:
                    made = certify.certify(
                        read.entries,
                        level,
                        matrix=read.kind,
                        path=proof,
                        threads=threads,
                        time_limit=time_limit,
                        watch=watch,
                    )
                    found = None
                except certify.UnfinishedError as error:
                    found = error.found
            elif rounded:
                found = certify.exact_height(read.P, level, threads=threads, time_limit=time_limit, watch=watch)
            else:
                found = heights.m_height(
                    P, level, method=method, details=True, time_limit=time_limit, threads=threads, watch=watch
                )
        if made is not None:
            results.append({"m": level, "method": "search", "height": made["height"], "certificate": proof})
            if not as_json:
                click.echo(_claim(made))
            remark(f"wrote {proof}: {len(made['bases']):,} bases; mheight verify {proof} {path} checks it", quiet)
            continue
        assert found is not None
        results.append(_plain(found, read.order))
        code = 130 if found.ended == "interrupt" else 0
        if not as_json:
            with unread_is_fine() if code else nullcontext():
                click.echo(_line(found))
        if code:
            break
        if certificate is not None:
            remark(f"{proof} was not written: the search did not end", quiet)
    if as_json:
        with unread_is_fine():
            emit({"format": "moe_mheight heights 1", "n": n, "k": k, "matrix": read.kind, "heights": results})
    return code


def _watcher(bar: Any, m: int) -> Any:
    """Shows the bracket and the share done on the bar."""

    def watch(seen: Any) -> None:
        bar.note = f"h_{m} in [{seen.lower:.6g}, {seen.upper:.6g}]"
        bar.update(max(0, int(1000 * seen.share) - bar.pace.done))

    return watch


def _line(found: Any) -> str:
    facts = f"{found.method}, {found.seconds:.2f} s"
    if found.method == "search":
        facts += f", {found.nodes:,} nodes, {found.programs:,} linear programs"
    if found.finished:
        return f"h_{found.m} = {found.value!r}  ({facts})"
    return f"{found.lower!r} <= h_{found.m} <= {found.upper!r}  ({found.ended}; {facts})"


def _claim(made: dict[str, Any]) -> str:
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


def _files(certificate: str | None, levels: list[int]) -> dict[int, str]:
    """The file of each m's certificate."""
    if certificate is None:
        return {}
    path = Path(certificate)
    several = len(levels) > 1
    return {m: str(path.with_name(f"{path.stem}-{m}{path.suffix}")) if several else certificate for m in levels}


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
