"""`mheight train-expert`: train the experts of one tier, on brackets, on searches of long codes or on raw matrices."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from moe_mheight.groups import RULES, group_name, in_words
from moe_mheight.raw.recipe import SCOPES, from_text, named, settings_table

from .options import (
    Choice,
    Finite,
    Output,
    WordOrFile,
    Workers,
    force_option,
    gathered,
    jobs_options,
    models_option,
    output_options,
    working,
)
from .printing import emit, remark, table
from .progress import training


@dataclass(frozen=True)
class Ensemble:
    """What is trained, and where it goes."""

    tier: str
    view: str
    models: str | None
    seeds: int
    device: str
    force: bool


@dataclass(frozen=True)
class Bracket:
    """Options that only the bracket view has."""

    minutes: float | None
    chunks: int | None


@dataclass(frozen=True)
class Long:
    """Options that only the view of long codes has."""

    labels: Path | None


@dataclass(frozen=True)
class Raw:
    """Options that only the raw view has."""

    data: tuple[str, ...]
    data_seed: int | None
    rows: int | None
    recipe: str | None
    epochs: int | None
    settings: tuple[str, ...]


def _list_settings(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    if "help" in given and not ctx.resilient_parsing:
        formatter = ctx.make_formatter()
        with formatter.section("Settings of --view raw: --set NAME=VALUE, or in the JSON file of --recipe"):
            formatter.write_dl(settings_table())
        click.echo(formatter.getvalue().rstrip())
        ctx.exit()
    return given


@click.command("train-expert")
@click.option(
    "--tier",
    required=True,
    type=Choice(SCOPES),
    help=f"By slack s = n - k - m: {in_words()}; all (raw view only): one network for every group, as run 1 had it.",
)
@click.option(
    "--view",
    default="bracket",
    show_default=True,
    type=Choice(["bracket", "long", "raw"]),
    help="What the networks read: certified brackets, up to n = 16; searches of long codes, beyond; or (n, k, m, P) "
    "itself.",
)
@models_option("Model set to put the tier into.  [default: ./mheight-models, ./mheight-raw]")
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1, 64), help="Independent members of the ensemble."
)
@click.option(
    "--minutes",
    type=Finite(0, min_open=True),
    help="Bracket view: time of all members together, calibration and card included; short ones hold fewer codes out.  "
    f"[default: {', '.join(f'{rule.name} {rule.minutes:g}' for rule in RULES)}]",
)
@click.option(
    "--chunks",
    type=click.IntRange(2),
    help="Bracket view: length in chunks of fresh codes instead; the same weights again.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Long view: exactly labelled codes; `python benchmarks/label_long_codes.py batches FILE` makes them, repeated "
    "more of them.  [default: the set that ships]",
)
@click.option("--epochs", type=int, help="Raw view: how often the codes are shown.  [default: 30, or as in the recipe]")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Raw view: labelled codes, two pickles (give it twice), .npz, .json or a set.  [default: 108,000 codes as run "
    "1 had, made anew]",
)
@click.option("--data-seed", type=click.IntRange(0), help="Raw view: of those, and of the split.  [default: 0]")
@click.option("--rows", type=click.IntRange(1), help="Raw view: training codes per group.  [default: all]")
@click.option(
    "--recipe",
    type=WordOrFile("run1", "run2"),
    metavar="run1|run2|FILE",
    help="Raw view: settings to start from: those of run 1, of the network this project grew from, those proposed for "
    'its run 2, or a JSON file like {"network": "gated", "width": 64}.',
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    is_eager=True,
    callback=_list_settings,
    metavar="NAME=VALUE",
    help="Raw view: change a setting of the recipe; repeatable. `--set help` lists them all.",
)
@click.option("--device", default="auto", show_default=True, type=Choice(["auto", "cpu", "cuda"]))
@jobs_options
@force_option
@output_options
@gathered("wanted", Ensemble)
@gathered("bracket", Bracket)
@gathered("long", Long)
@gathered("raw", Raw)
def command(wanted: Ensemble, bracket: Bracket, long: Long, raw: Raw, workers: Workers, output: Output) -> int:
    """Train the experts of one tier: of the bracket view, on fresh, exactly labelled random codes, of the long view, on
    searches of labelled codes, or of the raw view, on a file.

    The members of the ensemble train side by side, by this machine's cores or a cluster's. Progress is kept: the same
    command goes on where an interrupted one stopped, on any machine that has DIR. A finished tier is a folder DIR/TIER
    with config.json, weights as safetensors, checksums, history.jsonl and a model card; when all tiers are there
    (raw: one is enough), ensemble-eval --models DIR takes them.

    The experts of long codes, n > 16, are trained right after those of the bracket view, unless --chunks is given, or
    by --view long for a tier that is there. Their training is minutes, and is not kept when interrupted; the tier stays
    as it was, and --view long begins again.

    The raw view is for comparison, and for those who train on P: its errors are thousands of times those of the
    bracket view (docs/ablation.md). The file is split by orbit, 85 to 15, before anything is made from it.

    \b
    Examples:
      mheight train-expert --tier low --models mine
      mheight train-expert --tier medium --models mine --seeds 3 --minutes 30
      mheight train-expert --tier high --models mine --chunks 2000 --scheduler tcp://10.0.0.1:8786
      mheight train-expert --tier low --view long --models mine --labels labels.npz --force
      mheight train-expert --tier high --view raw --epochs 10
      mheight train-expert --tier all --view raw --recipe run1 --set width=128 --set orbit=true
      mheight train-expert --set help
    """
    for view, options in (("bracket", bracket), ("long", long), ("raw", raw)):
        if view != wanted.view and (foreign := _given(options)):
            name = min("set" if name == "settings" else name for name in foreign).replace("_", "-")
            raise click.UsageError(f"--{name} is for --view {view}")
    if wanted.view != "raw" and wanted.tier == "all":
        raise click.UsageError(f"--tier all is for --view raw; the {wanted.view} view has an ensemble for each tier")
    with working(workers):
        if wanted.view == "raw":
            return _train_raw(wanted, raw, output)
        return _train_long(wanted, long, output) if wanted.view == "long" else _train_bracket(wanted, bracket, output)


def _given(options: Any) -> dict[str, Any]:
    """Those that the command line names."""
    every = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in every.items() if value not in (None, ())}


def _announce(wanted: Ensemble, folder: Path, output: Output) -> dict[str, Any]:
    """Says what begins; what both trainings are told."""
    begins = f"training {wanted.seeds} x {wanted.tier} into {folder / wanted.tier}"
    remark(f"{begins}; interrupt and repeat the command to go on later", output.quiet)
    return {"seeds": wanted.seeds, "device": wanted.device, "force": wanted.force}


def _train_bracket(wanted: Ensemble, bracket: Bracket, output: Output) -> int:
    from moe_mheight.experts.model_card import over_kinds
    from moe_mheight.experts.training import train_tier

    folder = Path(wanted.models or "mheight-models")

    def newest(records: list[dict[str, Any]]) -> str:
        if "doing" in records[0]:
            return ""
        return "  ".join(f"{r['view']} {r['seed']} {r['validation']['macro']:.1e}" for r in records)

    settings = _announce(wanted, folder, output) | _given(bracket)
    with training(f"{wanted.tier}, chunks", output, newest) as report:
        config = train_tier(wanted.tier, folder, report=report, **settings)
    if bracket.chunks is None:
        _add_long(wanted, folder, None, output, f"; interrupted, --view long --models {folder} begins again")
    if output.as_json:
        emit({"format": "moe_mheight training 1", "folder": str(folder / wanted.tier), **config})
        return 0
    rows = [
        [f"({group})", str(v["codes"]), f"{v['log2_mse']:.1e}", f"{v['fixed_log2_mse']:.1e}", f"{v['worst_bits']:.3f}"]
        for group, v in over_kinds(config["metrics"]).items()
    ]
    click.echo(table(["held out", "codes", "log2-MSE", "fixed point", "worst, bits"], rows))
    remark(f"saved to {folder / wanted.tier}", output.quiet)
    return 0


def _add_long(wanted: Ensemble, folder: Path, labels: Path | None, output: Output, hint: str = "") -> dict[str, Any]:
    """Trains the experts of long codes, and tells how far it is."""
    from moe_mheight.experts.long_store import add_long
    from moe_mheight.experts.long_training import count_batches, shipped_labels

    found = labels or shipped_labels()
    total, done = 2 * count_batches(found, wanted.tier), 0
    remark(f"training {wanted.seeds} x {wanted.tier} for long codes, into {folder / wanted.tier}{hint}", output.quiet)
    with training(f"{wanted.tier}, long codes", output, lambda _: "") as report:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            report(done, total, [])

        return add_long(folder, wanted.tier, seeds=wanted.seeds, labels=found, force=wanted.force, advance=advance)


def _train_long(wanted: Ensemble, long: Long, output: Output) -> int:
    from moe_mheight.experts.long_store import check_long

    folder = Path(wanted.models or "mheight-models")
    check_long(folder / wanted.tier, wanted.force)
    about = _add_long(wanted, folder, long.labels, output)
    if output.as_json:
        emit({**about, "folder": str(folder / wanted.tier)})
        return 0
    rows = [
        [str(2**place), f"{stage['codes']:.0f}", f"{stage['found']:.1%}", f"{stage['lower bound alone']:.1e}",
         f"{stage['prediction']:.1e}", f"{stage['Brier score']:.3f}"]
        for place, stage in enumerate(about["held out"]["stages"])
    ]  # fmt: skip
    head = ["search, times the first stage", "codes", "found", "bound alone, log2-MSE", "log2-MSE", "Brier score"]
    click.echo(table(head, rows))
    remark(f"saved to {folder / wanted.tier}", output.quiet)
    return 0


def _train_raw(wanted: Ensemble, raw: Raw, output: Output) -> int:
    changes = from_text(raw.settings) | ({} if raw.epochs is None else {"epochs": raw.epochs})
    recipe = named(raw.recipe, changes)  # before any data is made: a wrong setting should be told at once

    from moe_mheight.data.sources import open_codes
    from moe_mheight.raw.data import divide, run1_data
    from moe_mheight.raw.training import train_raw

    folder, seed = Path(wanted.models or "mheight-raw"), raw.data_seed or 0

    def newest(records: list[dict[str, Any]]) -> str:
        return "  ".join(f"{r['seed']}: {r['train']['macro']:.3g} | {r['validation']['macro']:.3g}" for r in records)

    if not raw.data:
        remark(f"no --data: making 108,000 codes as run 1 had, seed {seed}, exact labels", output.quiet)
    split = divide(open_codes(raw.data).in_memory() if raw.data else run1_data(seed=seed), seed=seed, rows=raw.rows)
    settings = _announce(wanted, folder, output)
    with training(f"{wanted.tier}, epochs", output, newest) as report:
        config = train_raw(wanted.tier, folder, split, recipe=recipe, report=report, **settings)
    if output.as_json:
        emit({"format": "moe_mheight raw training 1", "folder": str(folder / wanted.tier), **config})
    else:
        _print_raw(config, folder, output)
    return 0


def _print_raw(config: dict[str, Any], folder: Path, output: Output) -> None:
    metrics, made = config["metrics"], folder / config["scope"]
    lines = [
        [f"({group})", f"{value:.3f}", f"{metrics['train']['groups'][group]:.3f}"]
        for group, value in metrics["validation"]["groups"].items()
    ]
    lines.append(["macro", f"{metrics['validation']['macro']:.3f}", f"{metrics['train']['macro']:.3f}"])
    click.echo(table(["log2-MSE", "validation", "training"], lines))
    if not (made / "training_history.png").exists():
        remark("no pictures: they need matplotlib, pip install 'moe-mheight[plot]'", output.quiet)
    groups = ";".join(map(group_name, config["groups"]))
    how = f'mheight ensemble-eval --models {folder} --groups "{groups}"'
    remark(f"saved to {made}; `{how}` scores it on other codes", output.quiet)
