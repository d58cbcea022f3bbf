"""`mheight generate`: random codes with exact labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    KINDS,
    Choice,
    emit,
    force_option,
    jobs_options,
    output_options,
    progress,
    remark,
    threads_option,
    working,
)


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
    type=Choice(KINDS),
    metavar="KIND",
    help="Entries of P: integer in +-scale, scaled-integer with a scale of its own per matrix, uniform or normal "
    "reals; or structured codes, many of which are hard: near-singular (columns nearly dependent), small-integer "
    "(ties), fourier (real DFTs), vandermonde (polynomials), spherical (unit columns), repeated (copied columns).",
)
@click.option("--scale", default=100, show_default=True, type=click.IntRange(1, 10**6), help="For --kind integer.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Same seed, same bytes.")
@click.option("--infinite", is_flag=True, help="Keep codes of infinite height, as real files do not.")
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Rows of a shard, for a folder.  [default: 262144, fewer from n = 10 on]",
)
@jobs_options
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
    shard_rows: int | None,
    jobs: int | None,
    backend: str | None,
    scheduler: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Draw random codes with exact heights into OUT.

    One OUT ending in .npz or .json, or two: the field's pair of pickles, rows and heights, in random order. An .npz is
    written group by group. One OUT without an ending is a folder of shards, for sets of any size: made by all cores or
    a cluster, with the same bytes whoever makes them; the same command goes on where an interrupted one stopped.

    \b
    Examples:
      mheight generate codes.npz
      mheight generate --rows 10000000 many-codes
      mheight generate --rows 10000000 --scheduler tcp://10.0.0.1:8786 many-codes
      mheight generate --groups n21 --rows 500 --kind integer n_k_m_P.pkl mHeights.pkl
      mheight generate --groups "9,4,2" --kind near-singular hard.npz
    """
    from moe_mheight.data import code_files, generate

    paths = [Path(path) for path in out]
    suffix = paths[0].suffix
    folder = len(paths) == 1 and suffix == ""
    if len(paths) > 2 or (len(paths) == 1 and suffix not in (".npz", ".json", "")):
        raise click.UsageError(
            "give one OUT ending in .npz or .json, one without an ending for a folder, or two for a pair of pickles"
        )
    if len(paths) == 2 and (
        # by more than case, which macOS and Windows do not look at
        str(paths[0]).casefold() == str(paths[1]).casefold() or {path.suffix for path in paths} & {".npz", ".json"}
    ):
        raise click.UsageError("the two files of a pair are pickles, and must differ, not only in case")
    if shard_rows is not None and not folder:
        raise click.UsageError("--shard-rows is for a folder")
    if threads is not None and folder:
        raise click.UsageError("--threads is for a file; a folder has --jobs, each of one thread")
    wanted = generate.parse_groups(groups)
    total = rows * len(wanted)
    settings: Any = {"scale": scale, "infinite": infinite}
    if folder:
        jobs = -1 if (jobs, backend, scheduler) == (None, None, None) else jobs
        with working(jobs, backend, scheduler), progress(total, f"{total} codes", quiet, as_json) as bar:
            generate.generate_set(
                paths[0],
                wanted,
                rows,
                kind,
                seed,
                **settings,
                shard_rows=shard_rows,
                force=force,
                advance=bar.update,
            )
    else:
        code_files.refuse_existing(paths, force)
        with working(jobs, backend, scheduler) as asked, progress(total, f"{total} codes", quiet, as_json) as bar:
            settings["threads"] = 1 if asked else threads
            drawn = generate.generate(wanted, rows, kind, seed, **settings, advance=bar.update)
            if len(paths) == 1 and suffix == ".npz":
                code_files.write_npz(paths[0], drawn)
            elif len(paths) == 1:
                code_files.write_json(paths[0], generate.shuffled(drawn, seed))
            else:
                code_files.write_pair(paths[0], paths[1], generate.shuffled(drawn, seed))
    if as_json:
        emit({"format": "moe_mheight generate 1", "rows": total, "groups": wanted, "seed": seed, "files": list(out)})
    else:
        remark(f"wrote {total} labelled codes to {' and '.join(out)}", quiet)
    return 0
