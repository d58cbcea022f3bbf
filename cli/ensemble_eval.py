"""`mheight ensemble-eval`: how good are the predictions?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from moe_mheight.groups import group_name

from .options import (
    KINDS,
    Choice,
    Ensemble,
    Output,
    WordOrFile,
    Workers,
    data_argument,
    ensemble_options,
    force_option,
    gathered,
    jobs_options,
    output_options,
    partial_option,
    threads_option,
    working,
)
from .printing import emit, fold, remark, table, unread_is_fine
from .progress import Progress


@dataclass(frozen=True)
class Codes:
    """What is predicted: a file or set, or codes that are drawn."""

    data: tuple[str, ...]
    partial: bool
    groups: str
    kinds: tuple[str, ...]
    rows: int
    seed: int
    long_codes: str

    def source(self, output: Output) -> Any:
        """Where they come from: what is opened, or drawn now."""
        from moe_mheight.data.generate import parse_groups
        from moe_mheight.data.sources import of, open_codes
        from moe_mheight.evaluation.scoring import default_data

        if self.data:
            return open_codes(self.data, partial=self.partial)
        wanted, each = parse_groups(self.groups), f"{self.rows} codes for each"
        remark(f"no DATA: drawing {each} of {len(wanted)} groups, seed {self.seed}, exact labels", output.quiet)
        return of(default_data(self.rows, self.seed, wanted, self.drawn))

    def patience(self, predictor: Any, output: Output) -> float | None:
        """For labelled long codes; None where DATA, --groups, --kind or the models leave them out."""
        from moe_mheight.evaluation.long_codes import PATIENCE

        if self.long_codes == "none" or self.data or self.kinds or self.groups != "n9":
            return None
        if not getattr(predictor, "long", None):
            remark("no table of long codes: these models have no experts of them", output.quiet)
            return None
        return PATIENCE if self.long_codes == "few" else float("inf")

    @property
    def drawn(self) -> tuple[str, ...]:
        """The kinds of codes that are drawn."""
        from moe_mheight.codes.generators import KINDS as DEFAULT

        return self.kinds or DEFAULT


@click.command("ensemble-eval")
@data_argument(required=False)
@ensemble_options
@click.option(
    "--groups",
    default="n9",
    show_default=True,
    metavar="GROUPS",
    help='When no DATA is given: n9, n21 or like "9,4,2;12,6,3".',
)
@click.option(
    "--kind",
    "kinds",
    type=Choice(KINDS),
    multiple=True,
    metavar="KIND",
    help="When no DATA is given, as in `mheight generate`; repeatable.  [default: its first four]",
)
@click.option(
    "--rows", default=1000, show_default=True, type=click.IntRange(1), help="Per group, when no DATA is given."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the codes, when no DATA is given."
)
@click.option(
    "--long",
    "long_codes",
    default="few",
    show_default=True,
    type=Choice(["few", "all", "none"]),
    help="When no DATA, --groups or --kind is given: how many of the labelled long codes.",
)
@click.option(
    "--show", default=2, show_default=True, type=click.IntRange(0), help="Codes shown per group, true | predicted."
)
@click.option(
    "--criteria",
    type=WordOrFile("release", "run2"),
    metavar="release|run2|FILE",
    help="Judge the figures: exit code 1 if one misses.  [default: release for the shipped models on their own codes]",
)
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write a page with pictures, DIR/report.html, which needs no network (extra plot).",
)
@force_option
@partial_option
@jobs_options
@threads_option
@output_options
@gathered("given", Codes)
def command(
    given: Codes,
    ensemble: Ensemble,
    show: int,
    criteria: str | None,
    folder: str | None,
    force: bool,
    workers: Workers,
    threads: int | None,
    output: Output,
) -> int:
    """Score the predictor on DATA, or on codes drawn by seed and labelled exactly.

    DATA as for `mheight exact`; of a folder of shards one is in memory at a time. Without labels the exact heights are
    taken. Errors are mean squared errors of log2 h, per group and their plain mean (macro). "bounds alone" is what one
    has without learning: the middle (in log2) of the tightest certified bounds, nothing fitted. "gain" is its error
    over ours, and "routed" the number of codes that went to experts; bounds decide the others to a millionth of a bit.
    The tier follows from the slack n - k - m: low >= 2, medium 1, high 0. At slack 0 bounds close by themselves, and
    there is nothing left to learn.

    Without DATA a second table is about codes of n = 20 to 64 that ship with the package, their heights proven
    beforehand. "lower alone" is the error of the certified lower bound, "found" the share of codes whose lower bound
    is the height, "certainty" what the ensemble says that share is. "ms exact" was measured when the codes were
    labelled, with one thread, "ms predicted" is measured now, with one thread unless --threads says otherwise.

    Criteria are limits that figures must stay below: "release" holds the goals of the shipped models, "run2" those of
    the planned second run of the network that this project grew from, its run 1. The exit code is 1 if one is missed; a
    figure that was not measured is a miss. Figures are macro, worst group, worst code (bits), gap (validation over
    training), and groups as in "group 9,4,5" or, the worst of all n, "group 4,5". A FILE of them:

    \b
      {"format": "moe_mheight criteria 1",
       "criteria": [{"figure": "macro", "below": 0.4, "label": "overall"}]}

    \b
    Examples:
      mheight ensemble-eval
      mheight ensemble-eval n_k_m_P.pkl mHeights.pkl
      mheight ensemble-eval --groups n21 --kind near-singular --router learned
      mheight ensemble-eval --models mine --json codes.npz
      mheight ensemble-eval --models mine --criteria run2
      mheight ensemble-eval --report report n_k_m_P.pkl mHeights.pkl
    """
    from moe_mheight.evaluation import scoring
    from moe_mheight.evaluation.criteria import judge, load

    if criteria is None and not given.data and ensemble.models is None:
        criteria = "release"
    limits = () if criteria is None else load(criteria)
    keep = 0
    if folder is not None:
        from moe_mheight.data.code_files import refuse_existing
        from moe_mheight.evaluation import report as page

        page.check_extras()
        refuse_existing(page.taken(Path(folder)), force)
        keep = page.KEEP
    codes = given.source(output) if given.data else None
    predictor = ensemble.load()
    codes = codes or given.source(output)
    with working(workers) as shared, Progress(codes.rows, "predicting", output) as bar:
        threads = 1 if shared else threads
        report = scoring.evaluate(predictor, codes, threads=threads, advance=bar.update, keep=keep)
    long = _long(predictor, given.patience(predictor, output), threads, output)
    verdicts = judge(limits, report.figures(gap=getattr(predictor, "gap", None)))
    if folder is not None:
        remark("drawing the report", output.quiet)
        about = _about(given, ensemble, codes)
        more: dict[str, Any] = {"long": long, "about": about, "verdicts": verdicts, "force": force, "threads": threads}
        written = page.write_report(folder, predictor, report, **more)
        remark(f"wrote {written[0]} and {len(written) - 1} files beside it", output.quiet)
    with unread_is_fine():
        if output.as_json:
            more = {} if long is None else {"long": long.as_dict()}
            more |= {"criteria": [verdict.as_dict() for verdict in verdicts]} if verdicts else {}
            emit(report.as_dict() | more)
        else:
            parts = [_table(report, scoring)]
            parts += [] if long is None else [_long_table(long)]
            parts += [_judgement(verdicts)] if verdicts else []
            parts += [_samples(predictor, codes, show)] if show else []
            click.echo("\n\n".join(parts))
    return int(not all(verdict.passed for verdict in verdicts))


def _long(predictor: Any, patience: float | None, threads: int | None, output: Output) -> Any:
    """The report of the labelled long codes; None without patience for them."""
    from moe_mheight.evaluation import long_codes

    if patience is None:
        return None
    sets = long_codes.read()
    more: dict[str, Any] = {"patience": patience, "threads": 1 if threads is None else threads}
    with Progress(sum(map(len, long_codes.few(sets, patience))), "long codes", output) as bar:
        return long_codes.evaluate(predictor, sets, advance=bar.update, **more)


def _about(given: Codes, ensemble: Ensemble, codes: Any) -> dict[str, str]:
    """What a report says it is of."""
    from moe_mheight._io import identity
    from moe_mheight.experts.model_store import shipped_folder

    found, kinds = Path(ensemble.models) if ensemble.models else shipped_folder(), ", ".join(given.drawn)
    drawn = f"drawn: {given.rows} codes a group, kinds {kinds}, seed {given.seed}, labelled exactly"
    return {
        "data": " ".join(given.data) or drawn,
        "models": f"{ensemble.models or 'shipped'}, {identity(found)}",
        "router": ensemble.router,
        "digest of the codes": codes.stamp()[:12],
    }


def _table(report: Any, evaluation: Any) -> str:
    head = ["(n,k,m)", "tier", "codes", "routed", "log2-MSE", "bounds alone", "gain", "worst bit", "width bit", "inf",
            "viol", "run 1", "peer"]  # fmt: skip
    lines = []
    for s in report.scores:
        others = ["", ""]
        if s.group in evaluation.HEADLINE:
            at = evaluation.HEADLINE.index(s.group)
            others = [f"{values[at]:.3f}" for values in evaluation.REFERENCE.values()]
        lines.append(
            [
                group_name(s.group),
                s.tier,
                str(s.codes),
                str(s.asked),
                f"{s.log2_mse:.1e}",
                f"{s.bounds_log2_mse:.1e}",
                _gain(s.gain),
                f"{s.worst:.3f}",
                f"{s.width:.3f}",
                f"{s.infinite_found}/{s.infinite}" + (f"+{s.infinite_false}" if s.infinite_false else ""),
                str(s.violations),
                *others,
            ]
        )
    # their macro figures are of these nine groups
    same = [s.group for s in report.scores] == list(evaluation.HEADLINE)
    others = [f"{value:.3f}" if same else "" for value in evaluation.REFERENCE_MACRO.values()]
    total = sum(s.codes for s in report.scores)
    ours = [f"{report.macro:.1e}", f"{report.bounds_macro:.1e}", _gain(report.gain)]
    lines.append(["macro", "", str(total), str(report.asked), *ours, "", "", "", "", *others])
    return "\n".join(
        [
            table(head, lines),
            "",
            fold(
                f"macro log2-MSE {report.macro:.2e}, bounds alone {report.bounds_macro:.2e} (their middle, nothing "
                "fitted); gain: their error over ours"
            ),
            fold(
                "routed: codes that went to experts; run 1 (which this grew from), peer: others, each on its own data"
            ),
            fold(f"best credible macro of a peer: {evaluation.BEST_MACRO}, of another system, which prints no groups"),
            fold("inf: infinite heights found / there (+ false ones); viol: certified bounds that fail, must be 0"),
            fold(
                f"time per code: predicted {report.predict_microseconds:.0f} us, exact "
                f"{report.exact_microseconds:.1f} us"
                + (f"; {report.wrong_labels} labels are wrong, `mheight exact` lists them" * bool(report.wrong_labels))
            ),
        ]
    )


def _long_table(long: Any) -> str:
    head = ["(n,k,m)", "codes", "log2-MSE", "lower alone", "worst bit", "found", "certainty", "inf", "viol",
            "ms predicted", "ms exact", "faster"]  # fmt: skip
    lines = [
        [
            group_name(s.group),
            str(s.codes),
            f"{s.log2_mse:.1e}",
            f"{s.lower_log2_mse:.1e}",
            f"{s.worst:.3f}",
            _share(s.found),
            _share(s.certainty),
            f"{s.infinite_found}/{s.infinite}" + (f"+{s.infinite_false}" if s.infinite_false else ""),
            str(s.violations),
            f"{s.predict_milliseconds:.3g}",
            f"{s.exact_milliseconds:,.0f}",
            f"{s.faster:,.1f}",
        ]
        for s in long.scores
    ]
    lines.append(["macro", str(long.codes), f"{long.macro:.1e}", f"{long.lower_macro:.1e}", f"{long.worst:.3f}",
                  _share(long.found), *[""] * 6])  # fmt: skip
    known = long.reliability
    sure = f"{_share(known.sure_found)} of them rightly" if known.sure else "none"
    return "\n".join(
        [
            table(head, lines),
            "",
            fold(
                f"{long.codes} of {long.shipped} labelled long codes, kinds {', '.join(long.kinds)}"
                + (" (--long all takes all)" * (long.codes < long.shipped))
            ),
            fold("lower alone: the certified lower bound as the answer; found: it is the height, proven beforehand"),
            fold(
                f"certainty: what the ensemble says that share is; of 99 % or more for {known.sure} codes, {sure}; "
                f"Brier score {known.brier:.3f}, of one certainty for all {known.base_brier:.3f}"
            ),
            fold(
                f"ms predicted: now, threads: {long.threads}; ms exact: one thread, when the codes were labelled; "
                "faster: their ratio"
            ),
        ]
    )


def _share(value: float) -> str:
    return "-" if value != value else f"{100.0 * value:.1f} %"


def _gain(value: float) -> str:
    return "-" if value != value else "> 100,000" if value > 1e5 else f"{value:,.1f}"


def _judgement(verdicts: Any) -> str:
    lines = []
    for verdict in verdicts:
        c, value = verdict.criterion, verdict.value
        shown = "not measured" if value is None else f"{value:.4g}"
        label = c.label if c.label == c.figure else f"{c.label} ({c.figure})"
        lines.append([label, f"{c.below:.6g}", shown, "pass" if verdict.passed else "miss"])
    return table(["criterion", "below", "value", ""], lines)


def _samples(predictor: Any, codes: Any, show: int) -> str:
    from moe_mheight.exact.heights import m_height

    head = ["(n,k,m)"] + ["true", "predicted"] * show
    first: dict[Any, Any] = {}
    for piece in codes.pieces():
        first = {group: c.P[:show] for group, c in piece.items()} | first
        if len(first) == len(codes.groups):
            break
    lines = []
    for group in codes.groups:
        P = first[group]
        true, predicted = m_height(P, group[2]), predictor.predict(P, group[2])
        cells = [f"{h:.5g}" for pair in zip(true, predicted, strict=True) for h in pair]
        lines.append([group_name(group), *cells, *[""] * (2 * show - len(cells))])
    return table(head, lines)
