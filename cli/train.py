"""`mheight train-expert`: train the experts of one tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moe_mheight.tiers import MINUTES

from .options import emit, force_option, models_option, output_options, remark, shows_progress, table


@click.command("train-expert")
@click.option(
    "--tier",
    required=True,
    type=click.Choice(["low", "medium", "high"]),
    help="By slack s = n - k - m: low s >= 2, medium s = 1, high s = 0.",
)
@models_option("Model set to put the tier into.  [default: ./mheight-models]")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 64), help="Independent ensemble members.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Training time of all members together.  "
    f"[default: {', '.join(f'{tier} {minutes:g}' for tier, minutes in MINUTES.items())}]",
)
@click.option(
    "--chunks", type=click.IntRange(2), help="Length in chunks of fresh codes instead: the same weights again."
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@force_option
@output_options
def command(
    tier: str,
    models: str | None,
    seeds: int,
    minutes: float | None,
    chunks: int | None,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train the experts of one tier on fresh, exactly labelled random codes.

    The members of the ensemble train side by side. Progress is kept every half minute: the same command goes on where
    an interrupted one stopped. A finished tier is a folder DIR/TIER with config.json, weights as safetensors,
    checksums, history.jsonl and a model card; when all three tiers are there, Predictor.load(DIR) takes them.

    \b
    Examples:
      mheight train-expert --tier low --models mine
      mheight train-expert --tier medium --models mine --seeds 3 --minutes 30
      mheight ensemble-eval --models mine
    """
    from moe_mheight.cards import over_kinds
    from moe_mheight.training import train_tier

    folder = Path(models or "mheight-models")
    live = shows_progress(quiet)
    told: dict[tuple[str, int], int] = {}

    def report(records: list[dict[str, Any]]) -> None:
        if live and records:
            parts = [
                f"{r['view']} {r['seed']} {100 * r['chunk'] // r['chunks']:3d} % {r['validation']['macro']:.2e}"
                for r in records
            ]
            click.echo(f"\r{tier}: {'   '.join(parts)}", nl=False, err=True)
        elif not quiet:
            for r in records:
                who = (r["view"], r["seed"])
                if told.get(who) != r["chunk"]:
                    told[who] = r["chunk"]
                    done = f"chunk {r['chunk']} of {r['chunks']}"
                    remark(f"{tier} {r['view']} {r['seed']}: {done}, log2-MSE {r['validation']['macro']:.2e}", quiet)

    remark(f"training {seeds} x {tier} into {folder / tier}; interrupt and repeat the command to go on later", quiet)
    config = train_tier(
        tier, folder, seeds=seeds, minutes=minutes, chunks=chunks, device=device, force=force, report=report
    )
    if live:
        click.echo(err=True)
    if as_json:
        emit({"format": "moe_mheight training 1", "folder": str(folder / tier), **config})
        return 0
    rows = [
        [f"({group})", str(v["codes"]), f"{v['log2_mse']:.1e}", f"{v['fixed_log2_mse']:.1e}", f"{v['worst_bits']:.3f}"]
        for group, v in over_kinds(config["metrics"]).items()
    ]
    click.echo(table(["held out", "codes", "log2-MSE", "fixed point", "worst, bits"], rows))
    remark(f"saved to {folder / tier}", quiet)
    return 0
