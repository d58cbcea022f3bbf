"""Put the measured tables into README.md, docs/benchmarks.md and docs/scale.md, from the JSON files in
benchmarks/results, and draw the picture of the first of them, docs/report/error.png, from the same run. Put lists of
names into docs/reference, from the docstrings.

mheight ensemble-eval --rows 30000 --long all --json > benchmarks/results/evaluation.json
python benchmarks/exact_profile.py
python benchmarks/first_second.py --against REF
python benchmarks/cold_start.py --against REF --out benchmarks/results/cold_start.json
python benchmarks/large_codes.py sizes, hard, published
python benchmarks/predict_speed.py
python benchmarks/budget.py
mheight train-expert --view raw --epochs 14 --models models/raw --tier low, medium, high
python benchmarks/survival.py; python benchmarks/scale.py
python benchmarks/tables.py
"""

import hashlib
import inspect
import json
import re
import textwrap
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import moe_mheight
from moe_mheight.evaluation.scoring import BEST_MACRO, REFERENCE, REFERENCE_MACRO, Report, Score
from moe_mheight.groups import group_name

ROOT = Path(__file__).parent.parent

EVALUATION = ROOT / "benchmarks/results/evaluation.json"
"""What the first table and its picture are made of."""

PICTURE = ROOT / "docs/report/error.png"


def measured(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())
    return found


def evaluation() -> Report:
    """The scores of that run."""
    numbers = {f.name: float if f.type == "float" else int for f in fields(Score) if f.type in ("float", "int")}
    found = json.loads(EVALUATION.read_text())
    scores = [
        Score((g["n"], g["k"], g["m"]), g["tier"], **{name: kind(g[name]) for name, kind in numbers.items()})
        for g in found["groups"]
    ]
    return Report(
        tuple(scores),
        found["predict_microseconds_per_code"],
        found["exact_microseconds_per_code"],
        found["wrong_labels"],
    )


def digest() -> str:
    """Of that run; the picture carries it, so that the two cannot part."""
    return "sha256 of benchmarks/results/evaluation.json: " + hashlib.sha256(EVALUATION.read_bytes()).hexdigest()


def draw() -> None:
    from moe_mheight.evaluation import figures  # noqa: PLC0415  tests of the tables go without matplotlib
    from moe_mheight.figures.style import DPI, drawing  # noqa: PLC0415

    shown = figures.errors(evaluation())
    with drawing(figures.WIDTH, shown.height, shown.name) as figure:
        shown.draw(figure)
        figure.savefig(PICTURE, dpi=DPI, metadata={"Source": digest()})


def gain_of(value: float) -> str:
    return "-" if value != value else f"{value:.1f}" if value < 1e5 else "> 100,000"


def results() -> str:
    report = evaluation()
    lines = ["| (n, k, m) | tier | routed | log2-MSE | bounds alone | gain | run 1 | peer |", "|---|---|" + "--:|" * 6]
    for score, run1, peer in zip(report.scores, *REFERENCE.values(), strict=True):
        n, k, m = score.group
        lines.append(
            f"| ({n}, {k}, {m}) | {score.tier} | {score.asked} | {score.log2_mse:.1e} | {score.bounds_log2_mse:.1e} | "
            f"{gain_of(score.gain)} | {run1:.3f} | {peer:.3f} |"
        )
    run1, peer = REFERENCE_MACRO.values()
    lines.append(
        f"| **macro** | | {report.asked} | **{report.macro:.1e}** | {report.bounds_macro:.1e} | "
        f"{gain_of(report.gain)} | {run1:.3f} | {peer:.3f} |"
    )
    codes = sum(score.codes for score in report.scores)
    text = (
        f"The router sent {report.asked} of {codes:,} codes to experts; certified bounds decided the others to a "
        f"millionth of a bit. The best credible macro of a peer, {BEST_MACRO}, is of another system than the column's; "
        "that system prints no groups."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def exact() -> str:
    report = measured("exact_profile")
    lines = ["| (n, k) | one thread | two threads | published C++ | ratio |", "|---|--:|--:|--:|--:|"]
    for row in report["profiles"]:
        other = row.get("published_cpp_us")
        lines.append(
            f"| ({row['n']}, {row['k']}) | {row['one_thread_us']:.1f} us | {row['two_threads_us']:.1f} us | "
            + (f"{other:.0f} us | {other / row['one_thread_us']:.0f} |" if other else "- | - |")
        )
    return "\n".join(lines)


def time_of(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def brief_time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} us" if seconds < 1e-3 else time_of(seconds)


def singles() -> str:
    """Single codes and batches, this tree and an older one in turns."""
    report = measured("first_second")
    lines = ["| what | before | now | ratio |", "|---|--:|--:|--:|"]
    for name, row in report["cases"].items():
        before = brief_time(row["old_seconds"]) if "old_seconds" in row else "-"
        ratio = f"{row['ratio']:,.1f}" if "ratio" in row else "-"
        lines.append(f"| {name} | {before} | {brief_time(row['new_seconds'])} | {ratio} |")
    return "\n".join([*lines, "", f"Before: commit {report['against']}."])


def cold() -> str:
    """First answers with nothing compiled."""
    lines = ["| what | core-seconds before | now | seconds | kernels compiled |", "|---|--:|--:|--:|--:|"]
    for name, runs in measured("cold_start")["commands"].items():
        old = next((run for tree, run in runs.items() if tree not in ("this", "ratio")), None)
        this = runs["this"]
        before = f"{old['core_seconds']:.1f}" if old else "-"
        lines.append(f"| {name} | {before} | {this['core_seconds']:.1f} | {this['seconds']:.1f} | {this['kernels']} |")
    return "\n".join(lines)


def large() -> str:
    report = measured("large_codes")
    lines = ["| (n, k, m) | sets | programs | time | slowest of five |", "|---|" + "--:|" * 4]
    for row in report["sizes"]:
        lines.append(
            f"| ({row['n']}, {row['k']}, {row['m']}) | {row['sets']:,} | {row['programs']:,.0f} | "
            f"{time_of(row['seconds_2'])} | {time_of(row['slowest_2'])} |"
        )
    text = f"Memory of all of these: {report['sizes'][-1]['peak_MiB']} MiB. "
    others = [row for row in report.get("published", []) if "ratio" in row]
    if others:
        last, ratios = max(others, key=lambda row: row["seconds"]), sorted(row["ratio"] for row in others)
        text += (
            f"The published package analog-ecc-heights, its fastest method at each of {len(others)} sizes, one thread "
            f"each, takes {ratios[0]:,.0f} to {ratios[-1]:,.0f} times as long: at "
            f"({last['n']}, {last['k']}, {last['m']}) {last['seconds']:.0f} s against {time_of(last['ours_1'])}."
        )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def hard() -> str:
    report = measured("large_codes")
    lines = ["| code | m | height | programs | time |", "|---|" + "--:|" * 4]
    for row in report["hard"]:
        height = "inf" if row["height"] == "inf" else f"{row['height']:.6g}"
        done = time_of(row["seconds_2"]) if row["ended"] == "finished" else f"> {time_of(row['seconds_2'])}"
        lines.append(f"| {row['code']} | {row['m']} | {height} | {row['programs']:,} | {done} |")
    return "\n".join(lines)


def speed() -> str:
    report = measured("predict_speed")
    lines = ["| (n, k, m) | predict | exact | linear programs | programs / predict |", "|---|" + "--:|" * 4]
    for row in report["against"]:
        about = "about " if row["programs_extrapolated"] else ""
        lines.append(
            f"| ({row['n']}, {row['k']}, {row['m']}) | {row['predict_us']:,.0f} us | {row['exact_us']:,.1f} us | "
            f"{about}{row['programs_us'] / 1e6:.2g} s | {row['programs_over_predict']:,.0f} |"
        )
    rates, one, process = report["batches"]["fixed"], report["one_code"], report["process"]
    many = report["memory"][-1]
    lines.append("")
    rest = (
        f"Mixed over the nine groups of n = 9, two threads: {rates['rows_2']:,.0f} codes a second from a list of rows, "
        f"{rates['arrays_2']:,.0f} from arrays. One code alone: {one['median_ms']:.1f} ms. "
        f"`Predictor.load()`: {process['load_s']:.2f} s, after {process['import_s']:.1f} s of imports. "
        f"{many['codes']:,} codes in one call need {many['beyond_mib']:.0f} MiB beyond their input and output."
    )
    lines += textwrap.wrap(rest, 120)
    return "\n".join(lines)


def budget() -> str:
    report = measured("budget")
    lines = ["| (n, k, m) | sets | budget | search + constant | tightest | ensemble | ms |", "|---|" + "--:|" * 6]
    for row in report["rows"]:
        if row["sets"] < 1000 or row["budget"] not in (100, 300, 1000):
            continue
        lines.append(
            f"| ({row['n']}, {row['k']}, {row['m']}) | {row['sets']:,} | {row['budget']:,} | "
            f"{row['search_constant_log2_mse']:.1e} | {row['closing_log2_mse']:.1e} | {row['predict_log2_mse']:.1e} | "
            f"{row['predict_us'] / 1e3:.1f} |"
        )
    return "\n".join(lines)


def raw() -> str:
    sets = [json.loads(path.read_text()) for path in sorted((ROOT / "models/raw").glob("*/config.json"))]
    found: dict[str, list[float]] = {}
    for config in sets:
        for group, value in config["metrics"]["validation"]["groups"].items():
            found[group] = [value, config["metrics"]["train"]["groups"][group]]
    groups = [group for group in sorted(found) if group.startswith("9,")]
    run1, peer = REFERENCE.values()
    lines = ["| (n, k, m) | raw view | on training codes | run 1 (leaky) | peer |", "|---|--:|--:|--:|--:|"]
    for i, group in enumerate(groups):
        lines.append(
            f"| ({group.replace(',', ', ')}) | {found[group][0]:.3f} | {found[group][1]:.3f} | "
            f"{run1[i]:.3f} | {peer[i]:.3f} |"
        )
    mine, theirs = (sum(found[group][side] for group in groups) / len(groups) for side in (0, 1))
    macros = " | ".join(f"{value:.3f}" for value in REFERENCE_MACRO.values())
    lines.append(f"| **macro** | **{mine:.3f}** | {theirs:.3f} | {macros} |")
    codes = [sum(config["codes"][side] for config in sets) for side in ("originals", "validation")]
    minutes = sum(config["trained_minutes"] for config in sets)
    text = (
        f"Trained on {codes[0]:,} codes, validated on {codes[1]:,}, {sets[0]['seeds']} members a tier, {minutes:.0f} "
        "minutes in all; each of the others on its own data. Run 1, trained again without leaks, had a macro of 1.39."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def scaling() -> str:
    report = measured("scale")
    cores, dask = report["scaling"].pop("cores"), report["dask"]
    lines = [f"| the same set | one worker | {cores} workers | ratio | labels a second |", "|---|--:|--:|--:|--:|"]
    for name, t in report["scaling"].items():
        if name != "machine":
            lines.append(
                f"| {t['rows']:,} rows, {name} | {t['one']:.1f} s | {t['all']:.1f} s | {t['speedup']:.2f} | "
                f"{t['rows_per_second']:,} |"
            )
    text = (
        f"{dask['shards']} shards of about a second each, {cores} workers: {dask['loky']:.1f} s with loky, "
        f"{dask['dask']:.1f} s with a Dask cluster over TCP, {dask['overhead_percent']:+.1f} %: its workers are there "
        "already. Whole commands; one takes a second to start, loky's workers another."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def many() -> str:
    report = measured("scale")["rows"]
    made, read = report["made"], report["audited"]
    text = (
        f"`{made['command']}`: {report['rows']:,} labelled rows in {made['seconds']:.0f} s on "
        f"{report['machine']['cores']} cores, {report['bytes'] / 1e6:.0f} MB on disk, {made['peak_mib']:,} MiB at the "
        f"most, all processes together. `{read['command']}` reads them again and compares every label with the exact "
        f"height: {read['seconds']:.0f} s, {read['peak_mib']:,} MiB, 16 bytes a row of it labels and heights."
    )
    return "\n".join(textwrap.wrap(text, 120))


def two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def costs() -> str:
    report = measured("scale")["costs"]
    rate = report["coordinator"]["dask_mb_per_second"]
    lines = [
        "| (n, k, m) | labels a second, one core | core-hours a million | a thousand cores, a million | bytes a row |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in report["groups"]:
        work, bytes_of_all = row["core_seconds"] * 1e3, row["bytes"] / rate
        longest = max(work, bytes_of_all)
        lines.append(
            f"| ({group_name(row['group'], ', ')}) | {1 / row['core_seconds']:,.0f} | "
            f"{row['core_seconds'] * 1e6 / 3600:.2g} | {two_digits(longest)} s{'*' * (bytes_of_all > work)} | "
            f"{row['bytes']:.0f} |"
        )
    text = (
        f"One thread each; for n up to 16 drawing is included. * here the cores would wait for one coordinator, which "
        f"takes in {rate} MB/s from Dask workers on this machine ({report['coordinator']['loky_mb_per_second']} MB/s "
        f"from loky's)."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def survival() -> str:
    report = measured("survival")
    c, k, t, d = (report[name] for name in ("cluster", "kills", "training", "disk"))
    lines = [
        "| what happened | the end |",
        "|---|---|",
        f"| {c['rows']:,} codes on a Dask scheduler and {c['workers']} workers over TCP; one worker killed after "
        f"{c['killed_after_shards'][0]} of {c['shards']} shards of `generate`, another after "
        f"{c['killed_after_shards'][1]} of `exact` | both ended by themselves, in {c['generate_seconds']:.0f} and "
        f"{c['exact_seconds']:.0f} s; every byte that of one process |",
        f"| `generate` of {k['rows']:,} rows killed {k['kills']} times, every second time with its workers, "
        f"{', '.join(map(str, k['finished_before_each_kill']))} shards later each | every byte that of an unbroken "
        "run, nothing left over |",
        f"| `{t['command']}` killed {len(t['measured_last_when_killed'])} times, moved, and ended there; the same on a "
        f"cluster, one of two workers killed | {t['networks_with_the_same_weights']} networks, the weights of an "
        "unbroken run |",
        f"| a disk of {d['disk_bytes'] / 1e6:.1f} MB for a set of {d['set_bytes'] / 1e6:.1f} MB | exit code 2 and one "
        f"line; {d['finished_before']} shards stayed whole; ended when there was room |",
    ]
    return "\n".join(lines)


def percent(share: float) -> str:
    return "-" if share != share else f"{100.0 * share:.1f} %"


def long() -> str:
    """README's table of long codes."""
    found = measured("evaluation").get("long")
    if found is None:
        return "Not measured yet."
    lines = [
        "| (n, k, m) | codes | log2-MSE | lower bound alone | found exactly | certainty | predicted | exact | faster |",
        "|---|" + "--:|" * 8,
    ]
    for row in found["groups"]:
        lines.append(
            f"| ({row['n']}, {row['k']}, {row['m']}) | {row['codes']} | {float(row['log2_mse']):.1e} | "
            f"{float(row['lower_log2_mse']):.1e} | {percent(row['found'])} | {percent(float(row['certainty']))} | "
            f"{time_of(row['predict_milliseconds'] / 1e3)} | {time_of(row['exact_milliseconds'] / 1e3)} | "
            f"{row['faster']:,.{int(row['faster'] < 10)}f} times |"
        )
    lines.append(
        f"| **macro** | {found['codes']} | **{float(found['macro_log2_mse']):.1e}** | "
        f"{float(found['macro_lower_log2_mse']):.1e} | {percent(found['found'])} | | | | |"
    )
    return "\n".join(lines)


def sureness() -> str:
    """What the certainty of those codes was worth."""
    found = measured("evaluation").get("long")
    if found is None:
        return "Not measured yet."
    known, infinite = found["reliability"], [row for row in found["groups"] if row["infinite"]]
    there, seen = (sum(row[name] for row in infinite) for name in ("infinite", "infinite_found"))
    false, failed = (sum(row[name] for row in found["groups"]) for name in ("infinite_false", "violations"))
    worst = max(float(row["worst"]) for row in found["groups"])
    text = (
        f"Of {known['codes']:,} codes {known['sure']:,} had a certainty of 99 % or more, and of these the lower bound "
        f"was the height for {percent(float(known['sure_found']))}. The Brier score of the certainty is "
        f"{known['brier']:.4f}; that of one certainty for all, the share found, {known['base_brier']:.4f}. The worst "
        f"prediction is off by {worst:.2g} bits. Of {there} infinite heights {seen} were found, {false} were invented, "
        f"and {failed} lower bounds lay above the height."
    )
    return "\n".join(textwrap.wrap(text, 120))


def choice() -> str:
    """README's table: whom to ask."""
    profiles, searches = measured("exact_profile")["profiles"], measured("large_codes")["sizes"]
    speed, found = measured("predict_speed"), evaluation()
    short = next(row["one_thread_us"] for row in profiles if (row["n"], row["k"]) == (9, 4))
    first = next(row for row in searches if (row["n"], row["k"], row["m"]) == (32, 16, 6))
    slow = max(searches, key=lambda row: row["seconds_2"])
    size = f"({slow['n']}, {slow['k']}, {slow['m']})"
    one, longest = speed["against"][0], speed["against"][-1]
    beyond = measured("evaluation").get("long")
    slowest = max(beyond["groups"], key=lambda row: row["predict_milliseconds"]) if beyond else None
    rows = [
        ("ask for", "code lengths", "how fast", "how right"),
        ("---",) * 4,
        (
            "the **exact** height: `m_height`, `mheight exact`",
            "n up to 64",
            f"all m at (9, 4): {short:.1f} µs; (32, 16, 6): {time_of(first['seconds_2'])}; {size}: "
            f"{time_of(slow['seconds_2'])}",
            "the truth, with a proof if you want one",
        ),
        (
            "**certified** bounds: `bounds`, `mheight predict --bounds`",
            "n up to 16; beyond, a lower bound",
            "part of a prediction",
            f"they always hold; their middle errs by {found.bounds_macro:.1e} bits² at n = {one['n']}",
        ),
        (
            "a **prediction**: `Predictor`, `mheight predict`",
            "n up to 64",
            f"{one['predict_us']:.0f} µs at n = {one['n']}, {longest['predict_us'] / 1e3:.1f} ms at n = {longest['n']}"
            + (f"; beyond, up to {slowest['predict_milliseconds']:.0f} ms" if slowest else ""),
            f"{found.macro:.1e} bits² at n = {one['n']}"
            + (f", {float(beyond['macro_log2_mse']):.1e} beyond n = {longest['n']}" if beyond else "")
            + f"; a peer's best network, on its own data: {BEST_MACRO}",
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


REFERENCE_PAGES = ROOT / "docs/reference"


def listed(page: str) -> list[str]:
    """What a page of the reference documents, in its order."""
    return re.findall(r"^::: (moe_mheight\S*)", (REFERENCE_PAGES / page).read_text(encoding="utf-8"), re.M)


def described(name: str, documented: Any) -> str:
    first = (inspect.getdoc(documented) or "").split("\n\n")[0]
    return textwrap.fill(f"* `{name}`: {' '.join(first.split())}", 120, subsequent_indent="  ", break_on_hyphens=False)


def names() -> str:
    """The public names, a line each."""
    short = [name.removeprefix("moe_mheight.") for name in listed("python.md")]
    return "\n".join(described(name, getattr(moe_mheight, name)) for name in short)


def modules() -> str:
    """The documented modules, a line each."""
    inside = [name for name in listed("modules.md") if name != "moe_mheight"]
    return "\n".join(described(name.removeprefix("moe_mheight."), import_module(name)) for name in inside)


TABLES = {
    "README.md": (long, choice),
    "docs/benchmarks.md": (results, long, sureness, exact, singles, cold, large, hard, speed, budget, raw),
    "docs/scale.md": (scaling, many, costs, survival),
    "docs/reference/python.md": (names,),
    "docs/reference/modules.md": (modules,),
}


def filled(page: str, name: str) -> str:
    """The page with its tables made anew."""
    for make in TABLES[name]:
        mark = make.__name__
        page = re.sub(
            f"<!-- {mark} -->.*?<!-- /{mark} -->",
            lambda _, m=make: f"<!-- {m.__name__} -->\n{m()}\n<!-- /{m.__name__} -->",
            page,
            flags=re.S,
        )
    return page


if __name__ == "__main__":
    for name in TABLES:
        path = ROOT / name
        path.write_text(filled(path.read_text(), name))
    draw()
