"""`mheight generate`: random codes with exact labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .options import (
    KINDS,
    Choice,
    Output,
    Workers,
    force_option,
    gathered,
    jobs_options,
    output_options,
    threads_option,
    working,
)
from .printing import emit, remark
from .progress import Progress


@dataclass(frozen=True)
class Drawn:
    """What codes are drawn."""

    groups: str
    rows: int
    kind: str
    seed: int
    scale: int
    infinite: bool


@click.command("generate")
@click.argument("out", nargs=-1, required=True, type=click.Path())
@click.option(
    "--groups",
    default="n9",
    show_default=True,
    help='(n, k, m) groups, n <= 64: n9 (the nine), n21, or like "9,4,2;9,5,3".',
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
    "(ties), fourier (real DFTs), vandermonde (polynomials), spherical (unit columns), repeated (copied columns), "
    "tight-frame (orthonormal rows; for half of the codes columns of one length too).",
)
@click.option("--scale", default=100, show_default=True, type=click.IntRange(1, 10**6), help="For --kind integer.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Same seed, same bytes.")
@click.option("--infinite", is_flag=True, help="Keep codes of infinite height, as real files do not.")
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Rows of a shard, for a folder.  [default: 262144, fewer from n = 10 on, about a minute's from n = 17 on]",
)
@jobs_options
@threads_option
@force_option
@output_options
@gathered("drawn", Drawn)
def command(
    out: tuple[str, ...],
    drawn: Drawn,
    shard_rows: int | None,
    workers: Workers,
    threads: int | None,
    force: bool,
    output: Output,
) -> int:
    """Draw random codes with exact heights into OUT.

    One OUT ending in .npz or .json, or two: the peers' pair of pickles, rows and heights, in random order. An .npz is
    written group by group. One OUT without an ending is a folder of shards, for sets of any size: made by all cores or
    a cluster, with the same bytes whoever makes them; the same command goes on where an interrupted one stopped. Labels
    of codes longer than n = 16 take from milliseconds to years each; a line says so beforehand.

    \b
    Examples:
      mheight generate codes.npz
      mheight generate --rows 10000000 many-codes
      mheight generate --rows 10000000 --scheduler tcp://10.0.0.1:8786 many-codes
      mheight generate --groups n21 --rows 500 --kind integer n_k_m_P.pkl mHeights.pkl
      mheight generate --groups "9,4,2" --kind near-singular hard.npz
      mheight generate --groups "24,12,4;32,16,3" --rows 5000 --kind tight-frame long-codes
    """
    from moe_mheight.data import code_files, generate

    paths = [Path(path) for path in out]
    folder = _is_folder(paths)
    if shard_rows is not None and not folder:
        raise click.UsageError("--shard-rows is for a folder")
    if threads is not None and folder:
        raise click.UsageError("--threads is for a file; a folder has --jobs, each of one thread")
    wanted = generate.parse_groups(drawn.groups)
    total = drawn.rows * len(wanted)
    what = wanted, drawn.rows, drawn.kind, drawn.seed
    settings: Any = {"scale": drawn.scale, "infinite": drawn.infinite}
    if not folder:
        code_files.refuse_existing(paths, force)
    with working(workers, -1 if folder else None) as shared, ExitStack() as stack:
        threads = 1 if shared else threads

        def begin() -> Progress:
            _announce(generate.expected_seconds(wanted, drawn.rows), total, threads, folder, output)
            return stack.enter_context(Progress(total, f"{total} codes", output))

        settings["advance"] = _beginning(begin)
        if folder:
            generate.generate_set(paths[0], *what, **settings, shard_rows=shard_rows, force=force)
        else:
            _write(paths, generate.generate(*what, **settings, threads=threads), drawn.seed)
    if output.as_json:
        document = {"format": "moe_mheight generate 1", "rows": total, "groups": wanted, "seed": drawn.seed}
        emit(document | {"files": list(out)})
    else:
        remark(f"wrote {total} labelled codes to {' and '.join(out)}", output.quiet)
    return 0


def _beginning(begin: Callable[[], Progress]) -> Callable[[int], None]:
    """Progress that begins when it is first told of, after all that may be refused."""
    bars: list[Progress] = []

    def advance(count: int) -> None:
        if not bars:
            bars.append(begin())
        bars[0].update(count)

    return advance


def _announce(seconds: float, total: int, threads: int | None, folder: bool, output: Output) -> None:
    """Say how long all labels take, where that is more than a minute."""
    from moe_mheight._parallel import asked
    from moe_mheight.exact.heights import LONG, in_words
    from moe_mheight.numerics.jit import thread_count

    count = (asked() or 1) * thread_count(threads)
    seconds /= count
    if seconds > LONG:
        on = f"{count} threads" if count > 1 else "1 thread"
        after = "Ctrl-C and the same command goes on" if folder else "Ctrl-C loses them, where a folder would go on"
        remark(f"{total} labels take {in_words(seconds)} on {on}, by a guess; {after}", output.quiet)


def _write(paths: list[Path], codes: Any, seed: int) -> None:
    from moe_mheight.data import code_files
    from moe_mheight.data.generate import shuffled

    if paths[0].suffix == ".npz" and len(paths) == 1:
        code_files.write_npz(paths[0], codes)
    elif len(paths) == 1:
        code_files.write_json(paths[0], shuffled(codes, seed))
    else:
        code_files.write_pair(paths[0], paths[1], shuffled(codes, seed))


def _is_folder(paths: list[Path]) -> bool:
    """Whether OUT is a folder of shards and not a file or a pair."""
    endings = {path.suffix for path in paths}
    if len(paths) > 2 or (len(paths) == 1 and not endings <= {".npz", ".json", ""}):
        raise click.UsageError(
            "give one OUT ending in .npz or .json, one without an ending for a folder, or two for a pair of pickles"
        )
    # by more than case, which macOS and Windows do not look at
    if len(paths) == 2 and (str(paths[0]).casefold() == str(paths[1]).casefold() or endings & {".npz", ".json"}):
        raise click.UsageError("the two files of a pair are pickles, and must differ, not only in case")
    return endings == {""} and len(paths) == 1
