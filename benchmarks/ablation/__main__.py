"""Train a table of raw-view recipes and write what each is worth."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from moe_mheight.cli.main import Context, main
from moe_mheight.cli.options import Output, Workers, gathered, jobs_options, output_options, working
from moe_mheight.cli.printing import emit, remark, table
from moe_mheight.cli.progress import Progress

sys.path.insert(0, str(Path(__file__).parent.parent))  # also in worker processes


@dataclass(frozen=True)
class Request:
    """Which rows are trained, on what, and where the page goes."""

    table_path: str | None
    only: tuple[str, ...]
    data: tuple[str, ...]
    seeds: int
    out: str
    work: str
    finished: bool

    @property
    def command(self) -> str:
        """What to type to get the page again."""
        parts = ["python", "benchmarks/ablation", "--out", self.out]
        parts += [] if self.table_path is None else ["--table", self.table_path]
        parts += [word for text in self.only for word in ("--only", text)]
        parts += [word for name in self.data for word in ("--data", name)]
        parts += ([] if self.seeds == 3 else ["--seeds", str(self.seeds)]) + ["--finished"] * self.finished
        return shlex.join(parts)


@click.command("ablation")
@click.option(
    "--table",
    "table_path",
    metavar="FILE",
    type=click.Path(),
    help="Rows of one's own.  [default: those proposed for run 2]",
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
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Runs per row, each with a seed of its own.",
)
@click.option("--only", multiple=True, metavar="TEXT", help="Only rows whose name holds TEXT; repeatable.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Labelled codes, as for train-expert.  [default: 108,000 as run 1 had, made anew]",
)
@click.option(
    "--finished", is_flag=True, help="Train nothing, write the rows that are finished, even while others run."
)
@click.option("--list", "listing", is_flag=True, help="Print the rows and stop.")
@jobs_options
@output_options
@gathered("request", Request)
def command(request: Request, listing: bool, workers: Workers, output: Output) -> int:
    """Train a table of raw-view recipes on the same data, with the same seeds, for the same number of codes.

    The default table has each priority of the analysis of run 1 alone and all together, labels copied, exact and by
    orbit, sizes of the training set, tiers, networks, and the bracket view at equal time: an hour and a half on two
    cores. Interrupt it at any time; the same command goes on. A row run again gives the same figures on one machine.

    A table FILE is a list of rows like
    {"name": "wide", "settings": {"network": "run1", "width": 256}, "originals": 1000, "against": "run 1, scaled"};
    settings are those of train-expert --set help and change a run 1 of an eighth of its width.

    \b
    Examples:
      python benchmarks/ablation --out docs/ablation.md
      python benchmarks/ablation --list
      python benchmarks/ablation --only weights --only "run 1" --seeds 5 --out weights.md
    """
    rows = _rows(request, listing)
    if listing:
        _list(rows, output)
        return 0
    _check_out(Path(request.out))
    remark(
        f"{len(rows)} rows x {request.seeds} seeds in {request.work}; interrupt and repeat the command to go on later",
        output.quiet,
    )
    results = _train(rows, request, workers, output)
    if output.as_json:
        emit(results)
        return 0
    lines = [[r["name"], f"{r['macro']:.4g}", f"{r['spread']:.2g}", f"{r['ensemble']:.4g}"] for r in results["rows"]]
    click.echo(table(["row", "macro log2-MSE", "std", "together"], lines))
    remark(f"wrote {request.out}", output.quiet)
    return 0


def _rows(request: Request, listing: bool) -> tuple[Any, ...]:
    """Those that are named, or all."""
    import torch

    from ablation.rows import FULL_SIZE, TABLE, read_table

    rows = read_table(Path(request.table_path)) if request.table_path else TABLE
    if request.table_path is None and torch.cuda.is_available():
        rows = (*rows, FULL_SIZE)
    rows = tuple(row for row in rows if not request.only or any(text in row.name for text in request.only))
    if not rows:
        raise click.UsageError("no row has such a name; --list shows them")
    if not listing and not any(row.view == "raw" for row in rows):
        raise click.UsageError("a page needs a row of the raw view; --list shows them")
    return rows


def _list(rows: tuple[Any, ...], output: Output) -> None:
    if output.as_json:
        listed = [{"name": row.name, "part": row.part, "settings": row.settings} for row in rows]
        emit({"format": "moe_mheight ablation rows 1", "rows": listed})
    else:
        click.echo(table(["row", "part", "against"], [[row.name, row.part, row.against] for row in rows]))


def _check_out(out: Path) -> None:
    """What would fail at the end is told before an hour of training."""
    from moe_mheight.figures.style import matplotlib_itself

    beside = out.with_suffix("")
    if not out.parent.is_dir():
        raise click.UsageError(f"the folder {out.parent} does not exist")
    if out.suffix == "" or (beside.exists() and not beside.is_dir()):
        raise click.UsageError(f"--out must be like page.md, beside a folder page for the pictures, got {out}")
    matplotlib_itself()


def _train(rows: tuple[Any, ...], request: Request, workers: Workers, output: Output) -> dict[str, Any]:
    """Train, measure and write the page: the figures of all rows that are finished."""
    from ablation import page, runs
    from moe_mheight.data.sources import open_codes
    from moe_mheight.raw.data import divide, run1_data

    with working(workers), Progress(len(rows) * request.seeds, "runs", output) as bar:
        split = divide(open_codes(request.data).in_memory() if request.data else run1_data())

        def tell(run: dict[str, Any]) -> None:
            bar.note = f"{run['row']}, seed {run['seed']}: {run['validation']['macro']:.4g}"
            bar.update(1)

        folder, train = Path(request.work), not request.finished
        results = runs.run_table(rows, split, folder, seeds=request.seeds, train=train, tell=tell)
    rows = tuple(row for row in rows if row.name in {summary["name"] for summary in results["rows"]})
    results["made"] = _made(rows, split, request, results)
    page.write(results, rows, split, folder, Path(request.out), request.command)
    return results


def _made(rows: tuple[Any, ...], split: Any, request: Request, results: dict[str, Any]) -> dict[str, Any]:
    """What a page says about how it was made."""
    import torch

    from ablation.rows import BASE
    from moe_mheight.experts.provenance import provenance
    from moe_mheight.raw.networks import build

    first = next((row for row in rows if row.name == BASE), next((row for row in rows if row.view == "raw"), rows[0]))
    recipe = first.recipe
    return provenance() | {
        "training": sum(len(part.P) for part in split.training),
        "validation": sum(len(part.P) for part in split.validation),
        "originals": sum(len(part.P[: first.originals]) for part in split.training),
        "parameters": sum(weights.numel() for weights in build(recipe, split.groups).parameters()),
        "width": recipe.width,
        "epochs": recipe.epochs,
        "per_epoch": recipe.per_epoch,
        "minutes": sum(row["minutes"] * len(row["macros"]) for row in results["rows"]),
        "seed_data": not request.data,
        "gpu": torch.cuda.is_available(),
    }


command.context_class = Context

if __name__ == "__main__":
    main(command, "ablation")
