"""`mheight train-router`: fit the learned router of a model set."""

from __future__ import annotations

from pathlib import Path

import click

from .options import emit, force_option, models_option, output_options, progress, remark, table


@click.command("train-router")
@models_option("Model set with all three tiers; the router goes into it.  [default: ./mheight-models]")
@click.option("--codes", default=500, show_default=True, type=click.IntRange(20), help="Codes drawn for each size.")
@force_option
@output_options
def command(models: str | None, codes: int, force: bool, as_json: bool, quiet: bool) -> int:
    """Fit a small gate on (n, k, m): soft weights over the three experts.

    It is fitted on held-out predictions of the finished experts, for every size with 4 <= n <= 12 but n = 8 and 11,
    and compared with the fixed slack table on fresh codes of all of them. `ensemble-eval --router learned` and
    Predictor.load(router="learned") use it.

    \b
    Examples:
      mheight train-router --models mine
      mheight ensemble-eval --models mine --router learned
    """
    from moe_mheight.gating import sizes_compared, train_router

    folder = Path(models or "mheight-models")
    with progress(2 * sizes_compared(), "fitting", quiet, as_json) as bar:
        found = train_router(folder, codes=codes, force=force, advance=bar.update)
    if as_json:
        emit(found)
        return 0
    rows = [[f"({size})", *[f"{w:.3f}" for w in weights]] for size, weights in found["weights"].items()]
    click.echo(table(["weights of", "low", "medium", "high"], rows) + "\n")
    rows = [
        [part, str(v["sizes"]), f"{v['fixed']:.2e}", f"{v['learned']:.2e}", f"{v['ratio']:.3f}"]
        for part, v in found["comparison"].items()
    ]
    click.echo(table(["sizes", "number", "fixed", "learned", "ratio"], rows))
    remark(f"log2-MSE on fresh codes; saved to {folder / 'router.json'}", quiet)
    return 0
