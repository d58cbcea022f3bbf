"""`mheight train-router`: fit the learned router of a model set."""

from __future__ import annotations

from pathlib import Path

import click

from moe_mheight.groups import TIERS

from .options import Output, force_option, models_option, output_options
from .printing import emit, remark, table
from .progress import Progress


@click.command("train-router")
@models_option("Model set with all tiers; the router goes into it.  [default: ./mheight-models]")
@click.option("--codes", default=500, show_default=True, type=click.IntRange(20), help="Codes drawn for each size.")
@click.option("--keep-worse", is_flag=True, help="Keep the gate even if it is worse than the fixed slack table.")
@force_option
@output_options
def command(models: str | None, codes: int, keep_worse: bool, force: bool, output: Output) -> int:
    """Fit a small gate on (n, k, m): soft weights over the experts of all tiers (slack n - k - m: low >= 2, medium 1,
    high 0).

    It is fitted on held-out predictions of the finished experts, for every size with 4 <= n <= 12 but n = 8 and 11,
    and compared with the fixed slack table on fresh codes of all of them. A gate whose log2-MSE is more than 1 % above
    the table's, on the sizes fitted, on those kept out or on the nine groups of the course, is not saved.
    `ensemble-eval --router learned` and Predictor.load(router="learned") use a saved one.

    \b
    Examples:
      mheight train-router --models mine
      mheight ensemble-eval --models mine --router learned
    """
    from moe_mheight.ensemble.router_training import sizes_compared, train_router

    folder = Path(models or "mheight-models")
    with Progress(2 * sizes_compared(), "fitting", output) as bar:
        found = train_router(folder, codes=codes, force=force, keep_worse=keep_worse, advance=bar.update)
    if output.as_json:
        emit(found)
        return 0
    rows = [[f"({size})", *[f"{w:.3f}" for w in weights]] for size, weights in found["weights"].items()]
    click.echo(table(["weights of", *TIERS], rows) + "\n")
    rows = [
        [
            "course" if part == "field" else part,
            str(v["sizes"]),
            f"{v['fixed']:.2e}",
            f"{v['learned']:.2e}",
            f"{v['ratio']:.3f}",
        ]
        for part, v in found["comparison"].items()
    ]
    click.echo(table(["sizes", "number", "fixed", "learned", "ratio"], rows))
    path = folder / "router.json"
    if found["worse"]:
        done = f"kept all the same, {path}" if keep_worse else f"not saved, --keep-worse would; {path} is as it was"
        click.echo(f"\nworse than the fixed router on fresh codes: {done}")
        return 0
    remark(f"log2-MSE on fresh codes; saved to {path}", output.quiet)
    return 0
