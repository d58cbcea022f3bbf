"""`mheight train-expert`: train the experts of one tier, on brackets or on raw matrices."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from moe_mheight.groups import RULES, group_name, in_words
from moe_mheight.raw.recipe import SCOPES, RawRecipe

from .options import (
    Choice,
    Finite,
    WordOrFile,
    emit,
    force_option,
    jobs_options,
    models_option,
    output_options,
    remark,
    table,
    training,
    working,
)


def _recipe_option(field: Any) -> Any:
    """The command line's option for one setting of a raw recipe; not given means as in the recipe file."""
    flag, text, allowed = field.name.replace("_", "-"), field.metadata["about"], field.metadata.get("of")
    if "default:" not in text and field.default not in ((), ""):
        text += f"  [default: {field.default}]"
    if isinstance(field.default, bool):
        return click.option(f"--{flag}/--no-{flag}", default=None, help=text)
    if field.name in ("weights", "curriculum"):
        return click.option(f"--{flag}", type=WordOrFile("none", "seed"), metavar="none|seed|FILE", help=text)
    if isinstance(field.default, tuple):
        return click.option(f"--{flag}", multiple=True, type=Choice(allowed), help=text)
    kind = Choice(allowed) if allowed else int if isinstance(field.default, int) else float
    metavar = "|".join(allowed) if allowed else None
    return click.option(f"--{flag}", type=kind, metavar=metavar, help=text)


RECIPE = [field.name for field in fields(RawRecipe)]
RAW = {*RECIPE, "recipe", "data", "rows", "data_seed"}
"""Options that only the raw view has."""

BRACKET = {"minutes", "chunks"}
"""Options that only the bracket view has."""


def recipe_options(command: Any) -> Any:
    """All settings of a raw recipe."""
    for field in reversed(fields(RawRecipe)):
        command = _recipe_option(field)(command)
    return command


class Sectioned(click.Command):
    """Help with the settings of the raw view in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[Any]] = {"Options": [], "Options of --view raw": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                sections["Options of --view raw" if parameter.name in RAW else "Options"].append(record)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command("train-expert", cls=Sectioned)
@click.option(
    "--tier",
    required=True,
    type=Choice(SCOPES),
    help=f"By slack s = n - k - m: {in_words()}; all (raw view only): one network for every group, the seed's way.",
)
@click.option(
    "--view",
    default="bracket",
    show_default=True,
    type=Choice(["bracket", "raw"]),
    help="What the networks read: certified brackets, or (n, k, m, P) itself.",
)
@models_option("Model set to put the tier into.  [default: ./mheight-models, ./mheight-raw]")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 64), help="Independent ensemble members.")
@click.option(
    "--minutes",
    type=Finite(0, min_open=True),
    help="Time of all members together, calibration and card included, bracket view; short ones hold fewer codes out.  "
    f"[default: {', '.join(f'{rule.name} {rule.minutes:g}' for rule in RULES)}]",
)
@click.option(
    "--chunks",
    type=click.IntRange(2),
    help="Length in chunks of fresh codes instead: the same weights again; bracket view.",
)
@click.option("--device", default="auto", show_default=True, type=Choice(["auto", "cpu", "cuda"]))
@jobs_options
@force_option
@output_options
@click.option(
    "--data",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Labelled codes: two pickles (give it twice), .npz, .json or a set.  [default: the seed's 108,000, made anew]",
)
@click.option("--data-seed", default=0, show_default=True, type=click.IntRange(0), help="Of those, and of the split.")
@click.option("--rows", type=click.IntRange(1), help="Training codes per group.  [default: all of the training side]")
@click.option(
    "--recipe",
    type=WordOrFile("run1", "run2"),
    metavar="run1|run2|FILE",
    help="Settings to start from: the seed's run 1, what it proposed for run 2, or a JSON file of these options.",
)
@recipe_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    tier: str,
    view: str,
    models: str | None,
    seeds: int,
    device: str,
    jobs: int | None,
    backend: str | None,
    scheduler: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Train the experts of one tier: of the bracket view, on fresh, exactly labelled random codes, or of the raw view,
    on a file.

    The members of the ensemble train side by side, by this machine's cores or a cluster's. Progress is kept: the same
    command goes on where an interrupted one stopped, on any machine that has DIR. A finished tier is a folder DIR/TIER
    with config.json, weights as safetensors, checksums, history.jsonl and a model card; when all tiers are there
    (raw: one is enough), ensemble-eval --models DIR takes them.

    The raw view is for comparison, and for those who train on P: its errors are thousands of times those of the
    bracket view (docs/ablation.md). The file is split by orbit, 85 to 15, before anything is made from it.

    \b
    Examples:
      mheight train-expert --tier low --models mine
      mheight train-expert --tier medium --models mine --seeds 3 --minutes 30
      mheight train-expert --tier high --models mine --chunks 2000 --scheduler tcp://10.0.0.1:8786
      mheight train-expert --tier high --view raw --epochs 10
      mheight train-expert --tier all --view raw --recipe run1 --width 128 --weights seed --orbit
    """
    given = {name for name in settings if _given(ctx, name)}
    wrong = given & (BRACKET if view == "raw" else RAW)
    if wrong:
        flag = "--" + min(wrong).replace("_", "-")
        raise click.UsageError(f"{flag} is for --view {'bracket' if view == 'raw' else 'raw'}")
    if view == "bracket" and tier == "all":
        raise click.UsageError("--tier all is for --view raw; the bracket view has an ensemble for each tier")
    more = {name: settings[name] for name in given}
    with working(jobs, backend, scheduler):
        return (_raw if view == "raw" else _bracket)(tier, models, seeds, device, force, as_json, quiet, more)


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _bracket(
    tier: str,
    models: str | None,
    seeds: int,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> int:
    from moe_mheight.experts.model_card import over_kinds
    from moe_mheight.experts.training import train_tier

    folder = Path(models or "mheight-models")

    def newest(records: list[dict[str, Any]]) -> str:
        if "doing" in records[0]:
            return ""
        return "  ".join(f"{r['view']} {r['seed']} {r['validation']['macro']:.1e}" for r in records)

    remark(f"training {seeds} x {tier} into {folder / tier}; interrupt and repeat the command to go on later", quiet)
    with training(f"{tier}, chunks", quiet, as_json, newest) as report:
        config = train_tier(tier, folder, seeds=seeds, device=device, force=force, report=report, **given)
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


def _raw(
    tier: str,
    models: str | None,
    seeds: int,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> int:
    from moe_mheight.raw.recipe import named

    data, rows, data_seed = given.pop("data", ()), given.pop("rows", None), given.pop("data_seed", 0)
    recipe = named(given.pop("recipe", None), given)  # before any data is made: a wrong setting should be told at once

    from moe_mheight.data.sources import open_codes
    from moe_mheight.raw.data import divide, seed_data
    from moe_mheight.raw.training import train_raw

    folder = Path(models or "mheight-raw")

    def newest(records: list[dict[str, Any]]) -> str:
        return "  ".join(f"{r['seed']}: {r['train']['macro']:.3g} | {r['validation']['macro']:.3g}" for r in records)

    if not data:
        remark(f"no --data: making the seed's 108,000 codes, seed {data_seed}, exact labels", quiet)
    split = divide(open_codes(data).in_memory() if data else seed_data(seed=data_seed), seed=data_seed, rows=rows)
    remark(f"training {seeds} x {tier} into {folder / tier}; interrupt and repeat the command to go on later", quiet)
    with training(f"{tier}, epochs", quiet, as_json, newest) as report:
        config = train_raw(tier, folder, split, recipe=recipe, seeds=seeds, device=device, force=force, report=report)
    metrics = config["metrics"]
    if as_json:
        emit({"format": "moe_mheight raw training 1", "folder": str(folder / tier), **config})
        return 0
    lines = [
        [f"({group})", f"{value:.3f}", f"{metrics['train']['groups'][group]:.3f}"]
        for group, value in metrics["validation"]["groups"].items()
    ]
    lines.append(["macro", f"{metrics['validation']['macro']:.3f}", f"{metrics['train']['macro']:.3f}"])
    click.echo(table(["log2-MSE", "validation", "training"], lines))
    if not (folder / tier / "training_history.png").exists():
        remark("no pictures: they need matplotlib, pip install 'moe-mheight[plot]'", quiet)
    groups = ";".join(map(group_name, config["groups"]))
    how = f'mheight ensemble-eval --models {folder} --groups "{groups}"'
    remark(f"saved to {folder / tier}; `{how}` scores it on other codes", quiet)
    return 0
