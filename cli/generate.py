"""`mheight generate`: random codes with exact labels."""

from __future__ import annotations

from pathlib import Path

import click

from .options import emit, force_option, output_options, progress, remark, threads_option

KINDS = (
    *("integer", "scaled-integer", "uniform", "normal"),
    *("near-singular", "small-integer", "fourier", "vandermonde", "spherical", "repeated"),
)  # all of kinds.ALL_KINDS, spelled out because that module imports NumPy


@click.command("generate")
@click.argument("out", nargs=-1, required=True, type=click.Path())
@click.option(
    "--groups", default="n9", show_default=True, help='(n, k, m) groups: n9 (the nine), n21, or like "9,4,2;9,5,3".'
)
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(1), help="Codes per group.")
@click.option(
    "--kind",
    default="scaled-integer",
    show_default=True,
    type=click.Choice(KINDS),
    help="Entries of P: integers in +-scale, integers with a scale of its own per matrix, reals; or structured codes, "
    "many of which are hard: columns nearly dependent, ties, real DFTs, polynomials, unit columns, copied columns.",
)
@click.option("--scale", default=100, show_default=True, type=click.IntRange(1, 10**6), help="For --kind integer.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Same seed, same bytes.")
@click.option("--infinite", is_flag=True, help="Keep codes of infinite height, as real files do not.")
@threads_option
@force_option
@output_options
def command(
    out: tuple[str, ...],
    groups: str,
    rows: int,
    kind: str,
    scale: int,
    seed: int,
    infinite: bool,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Draw random codes with exact heights into OUT.

    One OUT ending in .npz or .json, or two: the field's pair of pickles, rows and heights, in random order. An .npz is
    written group by group and can be larger than memory.

    \b
    Examples:
      mheight generate codes.npz
      mheight generate --groups n21 --rows 500 --kind integer n_k_m_P.pkl mHeights.pkl
      mheight generate --groups "9,4,2" --kind near-singular hard.npz
    """
    from moe_mheight import datasets, files

    paths = [Path(path) for path in out]
    suffix = paths[0].suffix
    if len(paths) > 2 or (len(paths) == 1 and suffix not in (".npz", ".json")):
        raise click.UsageError("give one OUT ending in .npz or .json, or two for a pair of pickles")
    if len(paths) == 2 and (paths[0] == paths[1] or {path.suffix for path in paths} & {".npz", ".json"}):
        raise click.UsageError("the two files of a pair are pickles, and must differ")
    wanted = datasets.parse_groups(groups)
    files.refuse_existing(paths, force)
    total = rows * len(wanted)
    with progress(total, f"{total} codes", quiet) as bar:
        drawn = datasets.generate(
            wanted, rows, kind, seed, scale=scale, infinite=infinite, advance=bar.update, threads=threads
        )
        if len(paths) == 1 and suffix == ".npz":
            files.write_npz(paths[0], drawn)
        elif len(paths) == 1:
            files.write_json(paths[0], datasets.shuffled(drawn, seed))
        else:
            files.write_pickles(paths[0], paths[1], datasets.shuffled(drawn, seed))
    if as_json:
        emit({"format": "moe_mheight generate 1", "rows": total, "groups": wanted, "seed": seed, "files": list(out)})
    else:
        remark(f"wrote {total} labelled codes to {' and '.join(out)}", quiet)
    return 0
