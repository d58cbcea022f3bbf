"""Raw-view ensembles on disk, and the predictor made of them.

    SET/high/config.json             format, recipe, groups, sizes and checksums of the data, metrics, provenance
    SET/high/seed0.safetensors       weights of one member (and seed1, ...)
    SET/high/history.jsonl           what every epoch measured
    SET/high/README.md, *.png        the model card and, with the extra `plot`, pictures
    SET/high/SHA256SUMS              checksums of all the others

SET/all instead of, or beside, the tiers holds an ensemble for every group.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .._arguments import check_rows
from .._io import make_folder, restore, write_file
from ..brackets.bounds import bounds
from ..codes.linear import check_m, check_P, equivalent, like_input
from ..data.code_files import Group, from_rows
from ..errors import CodeError, MHeightError, ModelError, brief
from ..experts.measurement import Measurement
from ..experts.model_store import MOST_SEEDS, checked_files, pack, unpack, with_weights, write_checksums
from ..experts.torch_threads import on_threads
from ..groups import tier_of
from ..numerics.jit import thread_count
from .data import Parts
from .monitor import ratio
from .networks import Codes, Network, build, renamed
from .recipe import SCOPES, RawRecipe, as_json, make

FORMAT = "moe_mheight raw 1"

AT_ONCE = 2048
"""Codes a network reads at a time, which bounds memory."""

MOST_WEIGHTS, MOST_GROUPS = 1 << 26, 4096
"""Of what is loaded: width squared times blocks, sixteen times run 1, and groups."""


def answers(network: Network, P: NDArray[np.float64], group: Group, forms: int | None = None) -> NDArray[np.float64]:
    """log2 heights that a network gives codes of one of its groups, (B,).

    With test-time augmentation, means over `forms` members of each code's orbit; default as many as the recipe says.
    """
    forms = network.recipe.views if forms is None else forms
    device = next(network.parameters()).device
    number, total = network.groups.index(group), np.zeros(len(P))
    for form in range(forms):
        for start in range(0, len(P), AT_ONCE):
            chunk = P[start : start + AT_ONCE]
            x = torch.from_numpy(network.read(chunk if form == 0 else _another(chunk, form))).to(device)
            with torch.no_grad():
                out = network(Codes(x, torch.full((len(chunk),), number, device=device)))
            total[start : start + AT_ONCE] += out.double().cpu().numpy()
    return total / forms


def _another(P: NDArray[np.float64], form: int) -> NDArray[np.float64]:
    """Another member of each code's orbit, the same for a code alone and among others."""
    return equivalent(P, _Alike(np.random.PCG64(np.random.SeedSequence([2, form]))))


class _Alike(np.random.Generator):
    """Draws, for all codes of a batch, what it would draw for one alone."""

    def permuted(self, x: Any, *, axis: Any = None, out: Any = None) -> Any:
        return np.repeat(super().permuted(x[:1], axis=axis), len(x), axis=0)

    def choice(self, a: Any, size: Any = None, *arguments: Any, **options: Any) -> Any:
        return np.repeat(super().choice(a, (1, *size[1:]), *arguments, **options), size[0], axis=0)


class RawTier:
    """An ensemble: its config and its networks, in eval mode, on the CPU."""

    def __init__(self, config: dict[str, Any], networks: list[Network]) -> None:
        self.config, self.networks = config, networks
        self.groups = networks[0].groups

    @classmethod
    def of(cls, config: dict[str, Any], weights: list[bytes]) -> RawTier:
        """From fresh weights."""
        networks = [_network(config) for _ in weights]
        for network, content in zip(networks, weights, strict=True):
            network.load_state_dict(unpack(content, "fresh weights"))
            network.eval().requires_grad_(False)
        return cls(config, networks)

    def members(self, P: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
        """log2 heights that each member gives: (members, B)."""
        return np.stack([answers(network, P, group) for network in self.networks])


def _network(config: dict[str, Any]) -> Network:
    return build(make(config["recipe"], files=False), tuple((int(n), int(k), int(m)) for n, k, m in config["groups"]))


def save(
    folder: Path, config: dict[str, Any], weights: list[bytes], history: str, tier: RawTier, validation: Parts
) -> None:
    """Fill a new folder with one ensemble; pictures where matplotlib is there."""
    make_folder(folder)
    for number, content in enumerate(weights):
        write_file(folder / f"seed{number}.safetensors", content)
    written = {"format": FORMAT, **config, "seeds": len(weights)}
    write_file(folder / "config.json", (json.dumps(written, indent=1) + "\n").encode())
    write_file(folder / "history.jsonl", history.encode())
    write_file(folder / "README.md", card(written).encode())
    draw(folder, [json.loads(record) for record in history.splitlines()], tier, validation)
    write_checksums(folder)


def draw(folder: Path, history: list[dict[str, Any]], tier: RawTier, validation: Parts) -> None:
    """training_history.png and predictions_scatter.png, unless matplotlib is missing."""
    from ..figures import plots  # noqa: PLC0415  needs an extra, and a second to import

    try:
        plots.training_history(history, folder / "training_history.png")
        log2_h = np.concatenate([part.log2_h for part in validation])
        predicted = np.concatenate([tier.members(part.P, part.group).mean(0) for part in validation])
        groups = [part.group for part in validation for _ in range(len(part.P))]
        plots.predictions_scatter(log2_h, predicted, groups, folder / "predictions_scatter.png")
    except ModelError:
        return


def card(config: dict[str, Any]) -> str:
    """The model card of a raw-view ensemble, from its own config."""
    made, metrics, codes = config["provenance"], config["metrics"], config["codes"]
    members = [f"{member['macro']:.3f}" for member in metrics["members"]]
    rows = "\n".join(
        f"| ({group.replace(',', ', ')}) | {value:.3f} | {metrics['train']['groups'][group]:.3f} |"
        for group, value in metrics["validation"]["groups"].items()
    )
    default, recipe = as_json(RawRecipe()), config["recipe"]
    settings = ", ".join(f"{name} {value}" for name, value in recipe.items() if value != default[name])
    return f"""# A raw-view ensemble: {config["scope"]}

Reads (n, k, m, P) itself and answers log2 h, outside of any bracket. For comparison: the experts of the bracket view
are thousands of times nearer. {config["seeds"]} members, of the network "{recipe["network"]}".

* Data: {codes["originals"]} codes ({codes["training"]} with what was made from them), {codes["validation"]} others to
  validate, no orbit on both sides.
* Settings that differ from the defaults: {settings or "none"}.
* Made: {made["date"]}, version {made["version"]}, commit {made["commit"]}, torch {made["torch"]}, {made["machine"]},
  device {made["device"]}, {config["trained_minutes"]} minutes.
* Licence: MIT.

log2-MSE in bits squared on the validation codes: macro {metrics["validation"]["macro"]:.3f} (single members
{", ".join(members)}); training codes {metrics["train"]["macro"]:.3f}; worst code {metrics["worst_code"]:.1f} bits off.

| group | validation | training |
|---|---|---|
{rows}
"""


def is_raw(folder: Path) -> bool:
    """Whether a model set holds raw-view ensembles."""
    for scope in SCOPES:
        try:
            if json.loads((folder / scope / "config.json").read_bytes()).get("format") == FORMAT:
                return True
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
    return False


def load_tier(folder: Path) -> RawTier:
    """One ensemble.

    Raises:
        ModelError: a file is missing, damaged, of another format, or its weights have wrong names or shapes.
    """
    files = checked_files(folder)
    try:
        config = json.loads(files["config.json"])
        if config["format"] != FORMAT:
            raise ModelError(f"its format is {brief(config['format'])}, not {FORMAT!r}")
        seeds, groups = config["seeds"], config["groups"]
        if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= MOST_SEEDS:
            raise ModelError(f"seeds must be an int from 1 to {MOST_SEEDS}, got {brief(seeds)}")
        if not groups or not all(1 <= k < n <= 64 and 1 <= m <= n - k for n, k, m in groups):
            raise ModelError(f"groups must be (n, k, m) of codes, got {brief(groups)}")
        recipe = make(config["recipe"], files=False)
        if recipe.width * recipe.width * recipe.blocks > MOST_WEIGHTS or len(groups) > MOST_GROUPS:
            raise ModelError(f"width {recipe.width} and {recipe.blocks} blocks for {len(groups)} groups are too many")
        metrics = [config["metrics"][side]["macro"] for side in ("train", "validation")]
        if not all(isinstance(value, float) and value >= 0 for value in metrics):
            raise ModelError(f"the metrics must have macros >= 0, got {brief(metrics)}")
        networks = [_network(config) for _ in range(seeds)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = brief(error) if isinstance(error, MHeightError) else f"{type(error).__name__}: {brief(error)}"
        raise ModelError(f"{folder}/config.json is missing, incomplete or wrong: {what}") from error
    for name in [name for name in files if name.endswith(".safetensors")]:
        files[name] = pack(renamed(unpack(files[name], str(folder / name))))
    return RawTier(config, [with_weights(x, folder, files, f"seed{i}.safetensors") for i, x in enumerate(networks)])


class RawPredictor:
    """Predicts m-heights from raw P; made by `RawPredictor.load`.

    It answers for the groups it was trained on only, and outside of any bracket unless told to stay within. Infinite
    heights are told by the minimum distance, as no network can tell them.

    Args:
        tiers: ensembles by scope.
    """

    def __init__(self, tiers: dict[str, RawTier]) -> None:
        self.tiers = tiers

    @classmethod
    def load(cls, path: str | Path) -> RawPredictor:
        """A model set that `mheight train-expert --view raw` made.

        Raises:
            ModelError: there is none at the path, or it is damaged.
        """
        if not isinstance(path, (str, PathLike)):
            raise ModelError(f"path must be the name of a model set's folder, got {brief(path)}")
        folder = Path(path)
        restore(folder)
        found = {scope: load_tier(folder / scope) for scope in SCOPES if (folder / scope).is_dir()}
        if not found:
            raise ModelError(f"{folder} holds no raw-view models; `mheight train-expert --view raw` makes them")
        return cls(found)

    @property
    def gap(self) -> float | None:
        """Validation over training macro, means over the ensembles that answer."""
        used = [tier for scope, tier in self.tiers.items() if scope != "all"] or list(self.tiers.values())
        sides = ("train", "validation")
        return ratio({s: {"macro": float(np.mean([t.config["metrics"][s]["macro"] for t in used]))} for s in sides})

    def _tier(self, group: Group) -> RawTier:
        for scope in (tier_of(*group), "all"):
            if scope in self.tiers and group in self.tiers[scope].groups:
                return self.tiers[scope]
        known = sorted({g for tier in self.tiers.values() for g in tier.groups})
        raise CodeError(f"these raw-view models know the groups {', '.join(map(str, known))}, not {group}")

    def log2_heights(self, P: NDArray[np.float64], m: int) -> NDArray[np.float64]:
        """log2 heights of one group, (B,), as the networks give them, means over the members."""
        group = (P.shape[1] + P.shape[2], P.shape[1], m)
        return self._tier(group).members(P, group).mean(0)

    def predict(self, P: Any, m: Any = None, *, certified: bool = False, threads: int | None = None) -> Any:
        """Predicted heights.

        Args:
            P: one code (k, r), a batch (B, k, r), or, without m, rows [n, k, m, P] of mixed groups.
            m: int, or (B,) ints for a batch; None for rows.
            certified: move answers into the certified bracket.
            threads: for the brackets; default all cores.

        Returns:
            float for one code, else (B,) float64, dimensionless; inf for infinite heights.

        Raises:
            CodeError: P or m breaks a rule, or a group is not one of those trained on.
            DataError: a row does; the message says which.
        """
        thread_count(threads)
        if m is None:
            check_rows(P)
            rows = from_rows(P, None) if len(P) else {}
            heights = np.empty(sum(len(codes.P) for codes in rows.values()))
            for (_, _, level), codes in rows.items():
                heights[codes.row] = self.predict(codes.P, level, certified=certified, threads=threads)
            return heights
        batch, single = check_P(P)
        levels, heights = check_m(m, len(batch), batch.shape[2]), np.empty(len(batch))
        for level in np.unique(levels):
            at = levels == level
            found = self.measure(batch[at], int(level), threads=threads)
            heights[at] = np.clip(found.height, found.lower, found.upper) if certified else found.height
        return like_input(heights, single)

    def bounds(self, P: ArrayLike, m: Any, *, threads: int | None = None) -> tuple[Any, Any]:
        """Certified (lower, upper) bounds, as `moe_mheight.bounds` gives them."""
        return bounds(P, m, threads=threads)

    def measure(self, P: ArrayLike, m: int, *, threads: int | None = None) -> Measurement:
        """Certified bounds and predicted heights of one group's codes; the networks know nothing else."""
        batch, _ = check_P(P)
        lower, upper = (np.asarray(end) for end in bounds(batch, m, threads=threads))
        height = np.exp2(on_threads(thread_count(threads), self.log2_heights, batch, m))
        infinite = np.isinf(lower)
        return replace(
            Measurement.unknown(len(batch)),
            lower=lower,
            upper=upper,
            height=np.where(infinite, np.inf, np.maximum(height, 1.0)),
            tightest_lower=lower,
            tightest_upper=upper,
            routed=~infinite,
        )

    def __call__(self, n: int, k: int, m: int, matrices: Sequence[ArrayLike]) -> list[float]:
        """The signature that the course's evaluator calls: heights of a list of P of one group."""
        return [float(h) for h in self.predict([[n, k, m, P] for P in matrices])]
