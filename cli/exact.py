"""`mheight exact`: exact heights of a file; when it has labels, an audit of them."""

from __future__ import annotations

from pathlib import Path

import click

from .options import data_argument, emit, force_option, output_options, progress, remark, table, threads_option


@click.command("exact")
@data_argument(required=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write codes with exact heights, .npz or .json.")
@click.option("--tolerance", default=1e-6, show_default=True, help="Relative difference up to which a label is right.")
@click.option("--show", default=10, show_default=True, type=click.IntRange(0), help="Rows listed per kind of error.")
@click.option("--check", is_flag=True, help="Exit with 1 when any label is wrong.")
@threads_option
@force_option
@output_options
def command(
    data: tuple[str, ...],
    out: str | None,
    tolerance: float,
    show: int,
    check: bool,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Exact m-heights of the codes in DATA.

    DATA is the field's pair of pickles (rows [n, k, m, P] and heights), a single pickle of rows, an .npz or a .json; -
    reads standard input. With labels, they are compared with the exact heights, and wrong and truly infinite ones are
    listed. Without labels, the heights are printed, one a line, inf for infinite ones.

    \b
    Examples:
      mheight exact sample-n_k_m_P sample-mHeights
      mheight exact codes.json --out labelled.npz
      echo '[[4, 2, 2, [[1, 1], [1, 2]]]]' | mheight exact -
    """
    from moe_mheight import datasets, files

    if out is not None:
        files.refuse_existing([Path(out)], force)
        if Path(out).suffix not in (".npz", ".json"):
            raise click.UsageError(f"--out must end in .npz or .json, got {out}")
    codes = files.read(data)
    with progress(files.count(codes), "exact heights", quiet) as bar:
        report = datasets.audit(codes, tolerance, threads, bar.update) if files.labelled(codes) else None
        h = report.h if report else datasets.exact_heights(codes, threads, bar.update)
    if out is not None:
        exact = {group: files.Codes(c.P, c.row, h[c.row]) for group, c in codes.items()}
        if out.endswith(".npz"):
            files.write_npz(Path(out), exact.items())
        else:
            files.write_json(Path(out), exact)
        remark(f"wrote {len(h)} rows to {out}", quiet)
    if report is None:
        if as_json:
            emit({"format": "moe_mheight exact 1", "heights": h.tolist()})
        elif out is None:
            click.echo("\n".join(repr(float(value)) for value in h))
        return 0
    bad = len(report.wrong) + len(report.truly_infinite) + len(report.falsely_infinite)
    kinds = {
        "wrong": report.wrong,
        "truly infinite": report.truly_infinite,
        "falsely infinite": report.falsely_infinite,
    }
    if as_json:
        found = {
            name.replace(" ", "_"): [
                {"row": int(i), "label": float(report.label[i]), "exact": float(report.h[i])} for i in rows
            ]
            for name, rows in kinds.items()
        }
        emit({"format": "moe_mheight audit 1", "rows": len(h), "tolerance": tolerance, "worst": report.worst, **found})
        return 1 if bad and check else 0
    click.echo(
        f"{len(h)} labels: {len(h) - bad} right to {tolerance:g}, {len(report.wrong)} wrong, "
        f"{len(report.truly_infinite)} finite though the height is infinite, "
        f"{len(report.falsely_infinite)} infinite though it is finite; largest relative difference {report.worst:.1e}"
    )
    for name, rows in kinds.items():
        if len(rows) and show:
            lines = [[f"  row {i}", f"{report.label[i]:.12g}", f"{report.h[i]:.12g}"] for i in rows[:show]]
            click.echo("\n" + table([name, "label", "exact"], lines))
            if len(rows) > show:
                click.echo(f"  and {len(rows) - show} more (--show {len(rows)}, or --json for all)")
    return 1 if bad and check else 0
