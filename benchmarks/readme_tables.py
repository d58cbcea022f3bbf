"""Put the measured tables into README.md, from the JSON files in benchmarks/results.

mheight ensemble-eval --rows 30000 --json > benchmarks/results/evaluation.json
python benchmarks/exact_profile.py
python benchmarks/large_codes.py sizes, hard, published
python benchmarks/predict_speed.py
python benchmarks/budget.py
mheight train-expert --view raw --epochs 14 --models models/raw --tier low, medium, high
python benchmarks/readme_tables.py
"""

import json
import re
import textwrap
from pathlib import Path

from moe_mheight.evaluation import REFERENCE
from moe_mheight.kinds import KINDS

ROOT = Path(__file__).parent.parent


def results() -> str:
    report = json.loads((ROOT / "benchmarks/results/evaluation.json").read_text())
    others = list(REFERENCE.values())
    lines = ["| (n, k, m) | tier | log2-MSE | closing | fixed | gain | seed | peer |", "|---|---|" + "--:|" * 6]
    for i, g in enumerate(report["groups"]):
        fixed = g["fixed_log2_mse"]
        gain = f"{fixed / g['log2_mse']:.1f}" if fixed < 1e5 * g["log2_mse"] else "> 100,000"
        gain = gain if fixed > 1e-12 else "-"  # below, only rounding is left
        lines.append(
            f"| ({g['n']}, {g['k']}, {g['m']}) | {g['tier']} | {g['log2_mse']:.1e} | {g['closing_log2_mse']:.1e} | "
            f"{fixed:.1e} | {gain} | "
            f"{others[0][i]:.3f} | {others[1][i]:.3f} |"
        )
    macro, closing, fixed = (report[f"macro_{name}log2_mse"] for name in ("", "closing_", "fixed_"))
    seed, peer = report["reference"].values()
    lines.append(
        f"| **macro** | | **{macro:.1e}** | {closing:.1e} | {fixed:.1e} | {fixed / macro:.1f} | {seed} | best: {peer} |"
    )
    parts = (
        f'From "fixed" to "closing", {fixed / closing:.0f} times on the mean, nothing is learnt; from there to the '
        f"ensemble, {closing / macro:.0f} times, all is. No network is asked about {100 * decided():.1f} % of them."
    )
    return "\n".join([*lines, "", *textwrap.wrap(parts, 120)])


def decided() -> float:
    """Share of the codes of n = 9 that no expert is asked about, from the metrics of the shipped models."""
    asked = []
    for path in (ROOT / "models/default").glob("*/metrics.json"):
        for group, kinds in json.loads(path.read_text())["groups"].items():
            asked += [figures["asked"] for kind, figures in kinds.items() if group[:2] == "9," and kind in KINDS]
    return 1.0 - sum(asked) / len(asked)


def exact() -> str:
    report = json.loads((ROOT / "benchmarks/results/exact_profile.json").read_text())
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


def large() -> str:
    report = json.loads((ROOT / "benchmarks/results/large_codes.json").read_text())
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
    report = json.loads((ROOT / "benchmarks/results/large_codes.json").read_text())
    lines = ["| code | m | height | programs | time |", "|---|" + "--:|" * 4]
    for row in report["hard"]:
        height = "inf" if row["height"] == "inf" else f"{row['height']:.6g}"
        done = time_of(row["seconds_2"]) if row["ended"] == "finished" else f"> {time_of(row['seconds_2'])}"
        lines.append(f"| {row['code']} | {row['m']} | {height} | {row['programs']:,} | {done} |")
    return "\n".join(lines)


def speed() -> str:
    report = json.loads((ROOT / "benchmarks/results/predict_speed.json").read_text())
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
    report = json.loads((ROOT / "benchmarks/results/budget.json").read_text())
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
    seed, peer = REFERENCE.values()
    lines = ["| (n, k, m) | raw view | on training codes | seed (leaky) | peer |", "|---|--:|--:|--:|--:|"]
    for i, group in enumerate(groups):
        lines.append(
            f"| ({group.replace(',', ', ')}) | {found[group][0]:.3f} | {found[group][1]:.3f} | "
            f"{seed[i]:.3f} | {peer[i]:.3f} |"
        )
    mine, theirs = (sum(found[group][side] for group in groups) / len(groups) for side in (0, 1))
    lines.append(f"| **macro** | **{mine:.3f}** | {theirs:.3f} | 0.495; without leaks 1.39 | 1.005 |")
    codes = [sum(config["codes"][side] for config in sets) for side in ("originals", "validation")]
    minutes = sum(config["trained_minutes"] for config in sets)
    text = (
        f"Trained on {codes[0]:,} codes, validated on {codes[1]:,}, {sets[0]['seeds']} seeds a tier, {minutes:.0f} "
        "minutes in all; each of the others on its own data."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120)])


def filled(readme: str) -> str:
    for name, make in (
        ("results", results),
        ("exact", exact),
        ("large", large),
        ("hard", hard),
        ("speed", speed),
        ("budget", budget),
        ("raw", raw),
    ):
        pattern = f"<!-- {name} -->.*?<!-- /{name} -->"
        readme = re.sub(pattern, lambda _, n=name, m=make: f"<!-- {n} -->\n{m()}\n<!-- /{n} -->", readme, flags=re.S)
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
