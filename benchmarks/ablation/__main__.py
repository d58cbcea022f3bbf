"""Train a table of raw-view recipes and write what each is worth."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from moe_mheight.cli.main import Context, main
from moe_mheight.cli.options import emit, jobs_options, output_options, progress, remark, table, working

sys.path.insert(0, str(Path(__file__).parent.parent))  # also in worker processes


@click.command("ablation")
@click.option(
    "--table", "table_path", metavar="FILE", type=click.Path(), help="Rows of one's own.  [default: the seed's]"
)
@click.option(
    "--out",
    default="ablation.md",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="The page; pictures and figures go into a folder beside it.",
)
@click.option(
    "--work",
    default="mheight-ablation",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Runs that are done; the same command goes on from there.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 64), help="Runs per row.")
@click.option("--only", multiple=True, metavar="TEXT", help="Only rows whose name holds TEXT; repeatable.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Labelled codes, as for train-expert.  [default: the seed's 108,000, made anew]",
)
@click.option(
    "--finished", is_flag=True, help="Train nothing, write the rows that are finished, even while others run."
)
@click.option("--list", "listing", is_flag=True, help="Print the rows and stop.")
@jobs_options
@output_options
def command(
    table_path: str | None,
    out: str,
    work: str,
    seeds: int,
    only: tuple[str, ...],
    data: tuple[str, ...],
    finished: bool,
    listing: bool,
    jobs: int | None,
    backend: str | None,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train a table of raw-view recipes on the same data, with the same seeds, for the same number of codes.

    The default table has each priority of the seed's analysis alone and all together, labels copied, exact and by
    orbit, sizes of the training set, tiers, networks, and the bracket view at equal time: an hour and a half on two
    cores. Interrupt it at any time; the same command goes on. A row run again gives the same figures on one machine.

    A table FILE is a list of rows like
    {"name": "wide", "settings": {"network": "run1", "width": 256}, "originals": 1000, "against": "run 1, scaled"};
    settings are the options of train-expert --view raw and change a run 1 of an eighth of its width.

    \b
    Examples:
      python benchmarks/ablation --out docs/ablation.md
      python benchmarks/ablation --list
      python benchmarks/ablation --only weights --only "run 1" --seeds 5 --out weights.md
    """
    import torch

    from ablation import page, runs
    from ablation.rows import BASE, FULL_SIZE, TABLE, read_table
    from moe_mheight.data.sources import open_codes
    from moe_mheight.experts.model_card import provenance
    from moe_mheight.figures.style import matplotlib_itself
    from moe_mheight.raw.data import divide, seed_data
    from moe_mheight.raw.networks import build

    rows = read_table(Path(table_path)) if table_path else TABLE
    if table_path is None and torch.cuda.is_available():
        rows = (*rows, FULL_SIZE)
    rows = tuple(row for row in rows if not only or any(text in row.name for text in only))
    if rows and not any(row.view == "raw" for row in rows) and not listing:
        raise click.UsageError("a page needs a row of the raw view; --list shows them")
    if not rows:
        raise click.UsageError("no row has such a name; --list shows them")
    if listing:
        if as_json:
            listed = [{"name": row.name, "part": row.part, "settings": row.settings} for row in rows]
            emit({"format": "moe_mheight ablation rows 1", "rows": listed})
        else:
            click.echo(table(["row", "part", "against"], [[row.name, row.part, row.against] for row in rows]))
        return 0
    beside = Path(out).with_suffix("")
    if not Path(out).parent.is_dir():
        raise click.UsageError(f"the folder {Path(out).parent} does not exist")
    if Path(out).suffix == "" or (beside.exists() and not beside.is_dir()):
        raise click.UsageError(f"--out must be like page.md, beside a folder page for the pictures, got {out}")
    matplotlib_itself()  # its absence should be told before an hour of training
    remark(f"{len(rows)} rows x {seeds} seeds in {work}; interrupt and repeat the command to go on later", quiet)
    with working(jobs, backend, scheduler), progress(len(rows) * seeds, "runs", quiet, as_json) as bar:
        split = divide(open_codes(data).in_memory() if data else seed_data())

        def tell(run: dict[str, Any]) -> None:
            bar.note = f"{run['row']}, seed {run['seed']}: {run['validation']['macro']:.4g}"
            bar.update(1)

        results = runs.run_table(rows, split, Path(work), seeds=seeds, train=not finished, tell=tell)
    rows = tuple(row for row in rows if row.name in {summary["name"] for summary in results["rows"]})
    first = next((row for row in rows if row.name == BASE), next((row for row in rows if row.view == "raw"), rows[0]))
    recipe = first.recipe
    results["made"] = provenance() | {
        "training": sum(len(part.P) for part in split.training),
        "validation": sum(len(part.P) for part in split.validation),
        "originals": sum(len(part.P[: first.originals]) for part in split.training),
        "parameters": sum(weights.numel() for weights in build(recipe, split.groups).parameters()),
        "width": recipe.width,
        "epochs": recipe.epochs,
        "per_epoch": recipe.per_epoch,
        "minutes": sum(row["minutes"] * len(row["macros"]) for row in results["rows"]),
        "seed_data": not data,
        "gpu": torch.cuda.is_available(),
    }
    page.write(results, rows, split, Path(work), Path(out), _command(out, table_path, only, data, seeds, finished))
    if as_json:
        emit(results)
        return 0
    lines = [[r["name"], f"{r['macro']:.4g}", f"{r['spread']:.2g}", f"{r['ensemble']:.4g}"] for r in results["rows"]]
    click.echo(table(["row", "macro log2-MSE", "spread", "together"], lines))
    remark(f"wrote {out}", quiet)
    return 0


def _command(
    out: str, table_path: str | None, only: tuple[str, ...], data: tuple[str, ...], seeds: int, finished: bool
) -> str:
    """What to type to get the page again."""
    parts = ["python", "benchmarks/ablation", "--out", out, *([] if table_path is None else ["--table", table_path])]
    parts += [word for text in only for word in ("--only", text)] + [word for name in data for word in ("--data", name)]
    return shlex.join(parts + ([] if seeds == 3 else ["--seeds", str(seeds)]) + ["--finished"] * finished)


command.context_class = Context

if __name__ == "__main__":
    main(command, "ablation")
