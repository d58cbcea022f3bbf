"""The ablation as a page: docs/ablation.md with its pictures and figures, written from what was measured."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_mheight._io import write_file
from moe_mheight.errors import DataError
from moe_mheight.figures import plots
from moe_mheight.groups import TIERS, parse_group, tier_of
from moe_mheight.raw.data import Parts, Split

from .rows import BASE, FULL_SIZE, WHOLE, Row
from .runs import predictions

CLEAR = 2.0
"""Standard errors of a difference between two means over seeds from which it counts as one."""

ALONE = "from that minor alone"

FITTED = 500
"""Codes per group that the constant over the smallest minor is fitted on."""

EXAMINED = (BASE, WHOLE, "symmetric, three tiers", "bracket view, equal time")
"""Rows whose errors are shown against the smallest minor."""

BINS = 12
"""Of the smallest minor, of equal numbers of codes."""


def smallest_minors(P: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest minor relative to its neighbours: min over bases B of |p(B)| / max |p(B - i + a)|, (B,).

    At slack 0 every S is a basis, so h_r = max over B, a of the sum over i of |p(B - i + a)| / |p(B)|
    (arXiv:2602.20366, Theorem 8): with rho for this ratio, 1 / rho <= h_r <= k / rho.
    """
    count, k, r = P.shape
    G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)
    Q = np.linalg.qr(G.transpose(0, 2, 1))[0]  # (B, n, k)
    bases = list(combinations(range(k + r), k))
    place: dict[tuple[int, ...], int] = {B: i for i, B in enumerate(bases)}
    minors = np.stack([np.abs(np.linalg.det(Q[:, list(B)])) for B in bases], axis=1)
    rho = np.full(count, np.inf)
    for i, B in enumerate(bases):
        rest = [a for a in range(k + r) if a not in B]
        near = [place[tuple(sorted({*B, a} - {b}))] for b in B for a in rest]
        rho = np.minimum(rho, minors[:, i] / minors[:, near].max(axis=1))
    return rho


def by_minor(parts: Parts, predicted: dict[Any, NDArray[np.float64]]) -> dict[str, list[float]]:
    """log2-MSE of the slack 0 groups together, by the smallest minor: median of the bin, error, mean error."""
    mine = [part for part in parts if tier_of(*part.group) == "high"]
    minors = np.concatenate([smallest_minors(part.P) for part in mine])
    error = np.concatenate([predicted[part.group] - part.log2_h for part in mine])
    order = np.array_split(np.argsort(minors), min(BINS, len(minors)))
    return {
        "minor": [float(np.median(minors[rows])) for rows in order],
        "log2_mse": [float(np.mean(error[rows] ** 2)) for rows in order],
        "bias": [float(np.mean(error[rows])) for rows in order],
        "spread": [float(np.std(error[rows] ** 2) / len(rows) ** 0.5) for rows in order],
    }


def from_minor_alone(data: Split) -> dict[Any, NDArray[np.float64]]:
    """log2 heights of the validation side at slack 0 from the smallest minor alone: a constant for each group, fitted
    on the training side, over 1 / rho."""
    known = {}
    for part in data.training:
        if tier_of(*part.group) == "high":
            first = slice(0, FITTED)
            known[part.group] = float(np.mean(part.log2_h[first] + np.log2(smallest_minors(part.P[first]))))
    return {p.group: known[p.group] - np.log2(smallest_minors(p.P)) for p in data.validation if p.group in known}


def tier_means(groups: dict[str, float]) -> dict[str, float]:
    """Means of a row's groups over each tier."""
    by_tier: dict[str, list[float]] = {}
    for name, value in groups.items():
        by_tier.setdefault(tier_of(*parse_group(name)), []).append(value)
    return {tier: float(np.mean(by_tier[tier])) for tier in TIERS if tier in by_tier}


def compared(row: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What a row changes against another: relative changes of macro and tiers in per cent (less is better), and whether
    the macro's is clear of its standard deviation over seeds."""
    n, m = len(row["macros"]), len(base["macros"])
    error = (row["spread"] ** 2 / n + base["spread"] ** 2 / m) ** 0.5
    change = row["macro"] - base["macro"]
    mine, theirs = tier_means(row["groups"]), tier_means(base["groups"])
    groups = {g: row["groups"][g] / base["groups"][g] - 1.0 for g in row["groups"] if g in base["groups"]}
    return {
        "macro": 100.0 * change / base["macro"],
        "tiers": {tier: 100.0 * (mine[tier] / theirs[tier] - 1.0) for tier in mine if tier in theirs},
        "groups": {g: 100.0 * change for g, change in groups.items()},
        "clear": abs(change) > CLEAR * error and n > 1 and m > 1,
    }


def in_words(row: dict[str, Any], base: dict[str, Any]) -> str:
    """One sentence: helped or not, by how much, where."""
    change = compared(row, base)
    verb = "made no clear difference to" if not change["clear"] else "lowered" if change["macro"] < 0 else "raised"
    tiers = ", ".join(f"{tier} {value:+.0f} %" for tier, value in change["tiers"].items())
    order = sorted(change["groups"], key=lambda g: change["groups"][g])
    gained, lost = order[0], order[-1]
    gap = "" if row["gap"] is None or base["gap"] is None else f"; gap {base['gap']:.2f} to {row['gap']:.2f}"
    return (
        f"{verb} the macro error, {base['macro']:.3f} to {_short(row['macro'])} ({change['macro']:+.1f} %); {tiers}; "
        f"most for ({_group(gained)}), {change['groups'][gained]:+.0f} %, least for ({_group(lost)}), "
        f"{change['groups'][lost]:+.0f} %{gap}"
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _group(name: str) -> str:
    return name.replace(",", ", ")


def write(results: dict[str, Any], table: tuple[Row, ...], data: Split, folder: Path, page: Path, command: str) -> None:
    """Write the page, beside it a folder of the same name with pictures and ablation.json.

    Args:
        results: from `ablation.run_table`.
        table, data, folder: what that was called with.
        page: the Markdown file.
        command: what to run to make it again.

    Raises:
        ModelError: matplotlib is missing, or a file cannot be written.
    """
    beside = page.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    rows = {row["name"]: row for row in results["rows"]}
    seeds = results["seeds"]
    slack0 = {}
    there = any(tier_of(*group) == "high" for group in data.groups)
    for row in table:
        if row.name in EXAMINED and there:
            slack0[row.name] = by_minor(data.validation, predictions(folder, row, seeds, data.validation))
    if slack0:
        slack0[ALONE] = by_minor(data.validation, from_minor_alone(data))
    results = results | {"by_smallest_minor": slack0}
    write_file(beside / "ablation.json", (json.dumps(results, indent=1) + "\n").encode())
    bars = [
        {"name": r["name"], "mean": r["macro"], "values": r["macros"], "reference": r["name"] == BASE}
        for r in results["rows"]
        if r["view"] == "raw"
    ]
    for stale in ("rows.png", "sizes.png", "minors.png"):
        (beside / stale).unlink(missing_ok=True)
    if not bars:
        raise DataError("a page needs a row of the raw view")
    plots.ablation_bars(bars, beside / "rows.png")
    sizes = [rows[name] for name in ("2,000 codes", BASE, "32,000 codes", WHOLE) if name in rows]
    total = [sum(len(p.P[: row["originals"]]) for p in data.training) for row in sizes]
    if len(set(total)) > 1:
        tiers = [tier_means(row["groups"]) for row in sizes]
        series: dict[str, Any] = {tier: (total, [each[tier] for each in tiers], None) for tier in tiers[0]}
        series["macro"] = (total, [row["macro"] for row in sizes], [row["spread"] for row in sizes])
        plots.curves(series, beside / "sizes.png", x="training codes", y="validation log2-MSE")
    if slack0:
        curves = {name: (v["minor"], v["log2_mse"], v["spread"]) for name, v in slack0.items() if "bracket" not in name}
        plots.curves(
            curves, beside / "minors.png", x="smallest minor over its largest neighbour", y="log2-MSE at slack 0"
        )
    write_file(page, _page(results, rows, sizes, total, beside.name, command).encode())


def _page(
    results: dict[str, Any], rows: dict[str, Any], sizes: list[Any], total: list[int], beside: str, command: str
) -> str:
    parts = [
        _head(results, beside, command),
        _lines(results["rows"], rows),
        f"![rows]({beside}/rows.png)",
        _in_short(rows),
        _priorities(rows),
    ]
    parts += [_labels(rows), _sizes(sizes, total, beside), _structure(results, rows), _slack0(results, rows, beside)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: dict[str, Any], beside: str, command: str) -> str:
    made = results["made"]
    size = FULL_SIZE.name in {row["name"] for row in results["rows"]}
    gpu = "" if size or made["gpu"] else " No GPU was at hand, so run 1 at full size is not in the table."
    about = "* Data: a file of its user's"
    if made["seed_data"]:
        about = (
            "* Data: 108,000 codes as run 1 had, made anew: 12,000 for each of the nine groups of n = 9, integers with"
        )
        about += "\n  a scale of their own per matrix, exact labels"
    return f"""# What was proposed after run 1, measured

Run 1 is the first training of the network that this project grew from: log2-MSE 0.495 on a leaky split, 1.39 without
leaks. Its analysis proposes five priorities and says what each should bring. Here each is trained on the same data,
with the same seeds, for the same number of codes. Made by `{command}`; the figures are in {beside}/ablation.json.

{about}, split by orbit 85 to 15 before anything is made from them:
  {made["training"]:,} and {made["validation"]:,} codes. Rows take the first codes of each group's training side, most
  of them {made["originals"]:,} in all.
* Network, where a row does not say otherwise: run 1 at width {made["width"]} instead of 1024, {made["parameters"]:,}
  parameters instead of 10.6 million: 8-head attention over the entries of P, residual blocks, dropout 0.3, AdamW at
  1e-3, {made["epochs"]} epochs of {made["per_epoch"]:,} codes, fewer where patience ends them.{gpu}
* {results["seeds"]} seeds a row, {made["minutes"]:.0f} core-minutes in all on {made["machine"]}, torch {made["torch"]},
  commit {made["commit"]}. A row run again with its seed gives the same figures on one machine.

Errors are log2-MSE in bits squared, lower is better. "together" is the ensemble of a row's seeds, "gap" validation over
training, changes are against the row that the next paragraph names; less is better."""


def _lines(ordered: list[Any], rows: dict[str, Any]) -> str:
    out = [
        "| row | macro | together | low | medium | high | best group | worst group | gap | core-min | macro, change | "
        "high, change | the analysis expected |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in ordered:
        tiers = tier_means(row["groups"])
        base = rows.get(row["against"])
        change = compared(row, base) if base else None
        cells = [
            row["name"],
            f"{row['macro']:.3g} ± {row['spread']:.1g}",
            f"{row['ensemble']:.3g}",
            *[f"{tiers[tier]:.3g}" if tier in tiers else "" for tier in TIERS],
            f"({_group(row['best'][0])}) {row['best'][1]:.2g}",
            f"({_group(row['worst'][0])}) {row['worst'][1]:.3g}",
            "" if row["gap"] is None else f"{row['gap']:.2f}",
            f"{row['minutes']:.1f}",
            f"{change['macro']:+.0f} %" + ("" if change["clear"] else " (unclear)") if change else "",
            f"{change['tiers']['high']:+.0f} %" if change and "high" in change["tiers"] else "",
            row["expected"],
        ]
        out.append("| " + " | ".join(cells) + " |")
    compares = sorted({row["against"] for row in ordered if row["against"] and row["against"] != BASE})
    note = f'Changes are against "{BASE}"; ' if compares else ""
    for name in compares:
        names = [f'"{row["name"]}"' for row in ordered if row["against"] == name]
        note += f'{", ".join(names)} against "{name}"; '
    return "\n".join(out) + ("\n\n" + note.rstrip("; ") + "." if note else "")


def _priorities(rows: dict[str, Any]) -> str:
    lines = []
    for row in rows.values():
        base = rows.get(row["against"])
        if row["part"] == "priorities" and base:
            hope = f" The analysis expected: {row['expected']}." if row["expected"] else ""
            lines.append(f"* **{row['name']}** {in_words(row, base)}.{hope}")
    return "## Which priorities helped\n\n" + "\n".join(lines) if lines else ""


def _in_short(rows: dict[str, Any]) -> str:
    """Which rows lowered the macro error clearly, which raised it, and which neither."""
    kinds: dict[str, list[str]] = {"lowered": [], "raised": [], "neither": []}
    for row in rows.values():
        base = rows.get(row["against"])
        if base and row["part"] in ("priorities", "augmentation"):
            change = compared(row, base)
            kind = "neither" if not change["clear"] else "lowered" if change["macro"] < 0 else "raised"
            kinds[kind].append(f'"{row["name"]}" ({change["macro"]:+.0f} %)')
    if not any(kinds.values()):
        return ""
    said = "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in kinds.items())
    text = f"## In short\n\nThe macro error was {said}."
    if {"3: orbit", "symmetric", BASE, WHOLE} <= set(rows):
        orbit, network = compared(rows["3: orbit"], rows[BASE]), compared(rows["symmetric"], rows[WHOLE])
        text += (
            " The orbit keeps every label and closes the gap between training and validation, yet a network that must "
            "learn from examples that all forms of a code are one has more to learn than this budget teaches "
            f"({orbit['macro']:+.0f} %); a network built to see one code in all of them has it for nothing "
            f"({network['macro']:+.0f} % against run 1 on the same codes)."
        )
    return text


def _labels(rows: dict[str, Any]) -> str:
    mine = [row for row in rows.values() if row["part"] == "augmentation" and row["against"] in rows]
    if not mine:
        return ""
    base = rows[mine[0]["against"]]
    lines = [f"* **{row['name']}** {in_words(row, base)}." for row in mine]
    return (
        "## Labels copied, exact, or kept by the orbit\n\n"
        f"All from the same {base['originals']} originals a group, made up to four times as many, against those "
        "originals alone. A copied label is the original's (the nearer parent's), as run 1 had it; an exact one "
        "costs microseconds; the orbit's needs none.\n\n" + "\n".join(lines)
    )


def _sizes(sizes: list[Any], total: list[int], beside: str) -> str:
    if len(set(total)) < 2:
        return ""
    lines = ["| training codes | macro | together | high | gap |", "|--:|--:|--:|--:|--:|"]
    for row, codes in zip(sizes, total, strict=True):
        high = tier_means(row["groups"]).get("high", float("nan"))
        lines.append(f"| {codes:,} | {row['macro']:.3f} | {row['ensemble']:.3f} | {high:.3f} | {row['gap']:.2f} |")
    slope = np.polyfit(np.log2(total), np.log2([row["macro"] for row in sizes]), 1)[0]
    return (
        "## Error against training-set size\n\n"
        + "\n".join(lines)
        + f"\n\nTwice the codes: {100 * (2**slope - 1):+.0f} "
        f"% error, on the mean.\n\n![sizes]({beside}/sizes.png)"
    )


def _structure(results: dict[str, Any], rows: dict[str, Any]) -> str:
    mine = [row for row in rows.values() if row["part"] == "structure" and row["against"] in rows]
    if not mine:
        return ""
    seeds = results["seeds"]
    lines = [f"* **{row['name']}** {in_words(row, rows[row['against']])}." for row in mine]
    gains = [1.0 - row["ensemble"] / row["macro"] for row in results["rows"] if row["view"] == "raw"]
    lines.append(
        f"* **ensembles**: the mean of {seeds} seeds in log2 is {100 * np.mean(gains):.0f} % better than one, "
        f"from {100 * min(gains):.0f} to {100 * max(gains):.0f} % over the raw-view rows."
    )
    return "## One network, three tiers, ensembles, symmetry, brackets\n\n" + "\n".join(lines)


def _slack0(results: dict[str, Any], rows: dict[str, Any], beside: str) -> str:
    found = results["by_smallest_minor"]
    if not found:
        return ""
    head = "| rho, median of the bin |" + " | ".join(found) + " |"
    lines = [head, "|--:|" + "--:|" * len(found)]
    first = next(iter(found.values()))
    for i, minor in enumerate(first["minor"]):
        cells = [f"{v['log2_mse'][i]:.2g} ({v['bias'][i]:+.2f})" for v in found.values()]
        lines.append(f"| {minor:.1e} | " + " | ".join(cells) + " |")
    raw = {name: v for name, v in found.items() if name != ALONE and rows[name]["view"] == "raw"}
    sentences = [
        f'"{name}" errs by {v["log2_mse"][0]:.1f} bits squared in the first bin (mean error {v["bias"][0]:+.1f} bits), '
        f"by {v['log2_mse'][-1]:.1f} in the last ({v['bias'][-1]:+.1f} bits) and by {min(v['log2_mse']):.1f} at best"
        for name, v in raw.items()
    ]
    return (
        "## Why raw networks fail at slack 0\n\n"
        "At slack 0 every set of k columns decides something, and the height is set by the one whose minor is smallest "
        "against those one swap away: with rho for that ratio, 1 / rho <= h <= k / rho (from arXiv:2602.20366, "
        "Theorem 8). A minor is a sum of products of k entries with signs, and a small one nearly cancels. A network "
        "sees the entries and would have to do that sum for every one of C(n, k) sets, to a relative accuracy; instead "
        "it answers with what such codes have on the mean. "
        f"That it is rho which is missing shows in the last column: a constant over 1 / rho errs by "
        f"{np.mean(found[ALONE]['log2_mse']):.2f} bits squared, with nothing learned. So what would take the raw view "
        "lower at slack 0 is to read minors, or brackets. Log2-MSE of the ensembles at "
        "slack 0 (and the mean error, bits), by rho, bins of equal numbers of codes:\n\n"
        + "\n".join(lines)
        + "\n\n"
        + "; ".join(sentences)
        + f".\n\n![minors]({beside}/minors.png)"
    )
