"""Experts as ONNX: one file per network, for those who ask them without torch.

A folder of exports holds, for every member of every tier, TIER-NUMBER.onnx, and TIER-search-NUMBER.onnx for predictions
under a budget of sets, numbered like the weights they come from; and experts.json, which lists them with checksums,
shapes and how far each was from its network when it was written. Every file also carries its description itself.

Inputs and outputs, float32, the first axis free: see INPUTS and OUTPUTS. From codes to predictions:

    import json
    from pathlib import Path
    import numpy as np
    from onnxruntime import InferenceSession
    from moe_mheight.brackets.bounds import brackets
    from moe_mheight.experts.features import features_of
    from moe_mheight.groups import tier_of

    def predict(folder, P, m, budget=0):
        \"\"\"Heights of codes (B, k, r), as Predictor.predict gives them.\"\"\"
        found = brackets(P, m, budget=budget)
        features = features_of(found)  # of codes that the bounds do not decide
        view, tier = ("search" if budget else "seed"), tier_of(found.n, found.k, m)
        positions = []
        for entry in json.loads((Path(folder) / "experts.json").read_text(encoding="utf-8"))["files"]:
            if (entry["view"], entry["tier"]) == (view, tier):
                session = InferenceSession(Path(folder) / entry["file"])
                inputs = {"tokens": features.kept, "low": features.low, "high": features.high}
                position, beyond, doubt = session.run(["position", "beyond", "doubt"], inputs)
                positions.append(position + np.maximum(beyond - entry["threshold"], 0))
        return np.clip(2 ** features.log2_heights(np.mean(positions, 0)), *found.tightest)

onnx, onnxscript and onnxruntime are an extra: they are imported when something is exported.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from .._io import make_folder, restore, swap, temporary, write_file
from ..brackets.bounds import brackets
from ..codes.generators import random_codes
from ..errors import FolderError, ModelError, brief
from ..experts.features import features_of
from ..experts.model_store import VIEWS, pack
from ..experts.network import Architecture, Expert
from ..experts.torch_threads import on_threads
from ..groups import TIERS
from ..raw.models import is_raw
from .predictor import Predictor

FORMAT = "moe_mheight onnx 1"

OPSET = 18
"""Of ONNX: the first with all that the networks need, so that older runtimes read them too."""

INPUTS = {
    "tokens": "what is known of the sets (S, a) with the largest upper bounds: experts.Features.kept",
    "low": "lower bounds of these, as positions in the code's bracket: experts.Features.low",
    "high": "their upper bounds: experts.Features.high",
}

OUTPUTS = {
    "position": "where log2 h lies: log2 L + position (log2 U - log2 L); of searches, bits above log2 L",
    "beyond": "what sets that were not looked at are expected to add to it; 0 but of searches",
    "doubt": "natural log of the expected |error| of the sum",
}

BATCHES = (1, 7, 600)
"""Numbers of codes that each file is compared with its network on."""

TOLERANCE = 2e-5
"""Largest difference of an output that passes: five times what is usual, which is the rounding of float32. Positions
are worth 0.01 bits as a rule, doubts are logs."""

SEARCHED = 100
"""Budget of sets for the codes that networks of searches read."""

COMPARED = {
    0: (("normal", 9, 4, 2), ("integer", 9, 5, 2), ("near-singular", 12, 6, 3)),
    SEARCHED: (("normal", 16, 8, 4), ("integer", 12, 5, 4), ("near-singular", 18, 9, 5)),
}
"""By budget: kinds and groups of the codes that are read to compare, SHARE of each."""

SHARE = 400


def onnx_itself() -> tuple[Any, Any]:
    """onnx and onnxruntime, with what torch exports by.

    Raises:
        ModelError: one of them is missing.
    """
    try:
        onnx, runtime, _ = (import_module(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    except ImportError as error:
        raise ModelError("exports need onnx, onnxscript and onnxruntime: pip install 'moe-mheight[onnx]'") from error
    return onnx, runtime


def export_onnx(
    folder: str | Path,
    models: Predictor | str | Path | None = None,
    *,
    force: bool = False,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write every expert of a model set as ONNX, each compared with its network before the folder appears.

    Args:
        folder: where to; made whole or not at all.
        models: a Predictor, or the folder of a model set; default the shipped one. Raw-view sets are not exported.
        force: replace an export that is there; anything else is never replaced.
        advance: told after every file how many are written, and of how many.

    Returns:
        What experts.json holds: format, versions, opset, steps of the brackets that the experts read, inputs, outputs,
        tolerance, largest_difference, and files, each with file, tier, view ("seed" or "search"), member, threshold
        (what `beyond` must exceed to count), architecture, shapes, sha256, weights_sha256 (of the .safetensors it comes
        from) and its own largest differences, by output.

    Raises:
        ModelError: a package is missing, the models do not load or are raw-view ones, or an exported network answers
            otherwise than torch.
        FolderError: the folder exists, or cannot be written.

    Example:
        >>> from moe_mheight.ensemble.onnx import export_onnx
        >>> found = export_onnx("experts-onnx")  # doctest: +SKIP
        >>> found["files"][0]["file"]  # doctest: +SKIP
        'low-0.onnx'
    """
    onnx, runtime = onnx_itself()
    final = Path(folder).resolve()  # of a link its target, of "." a name
    _refuse_taken(final, force)
    if isinstance(models, (str, Path)) and is_raw(Path(models)):
        raise ModelError(f"{models} holds raw-view experts; only those that read brackets are exported")
    predictor = models if isinstance(models, Predictor) else Predictor.load(models)
    files: list[dict[str, Any]] = []
    total = sum(len(experts) for _, *both in predictor.tiers.values() for experts in both)
    partial = temporary(final)
    make_folder(partial)
    try:
        for entry, content in _networks(onnx, runtime, predictor):
            write_file(partial / str(entry["file"]), content)
            files.append(entry)
            advance(len(files), total)
        found = {
            "format": FORMAT,
            "versions": {
                "moe_mheight": __version__,
                **{package.__name__: package.__version__ for package in (torch, onnx, runtime)},
            },
            "opset": OPSET,
            "steps": predictor.steps,
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "batches": list(BATCHES),
            "tolerance": TOLERANCE,
            "largest_difference": max(max(entry["largest_difference"].values()) for entry in files),
            "files": files,
        }
        write_file(partial / "experts.json", (json.dumps(found, indent=2) + "\n").encode())
        _settle(partial, final, force)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _networks(onnx: Any, runtime: Any, predictor: Predictor) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Every network as an entry of experts.json and the content of its file, each compared with torch's answers.

    Raises:
        ModelError: one answers otherwise.
    """
    samples = {budget: _sample(predictor.steps, budget) for budget in COMPARED}
    graphs: dict[Architecture, Any] = {}
    for tier in TIERS:
        config, *ensembles = predictor.tiers[tier]
        for view, experts in zip(VIEWS, ensembles, strict=True):
            threshold, sample = 0.0, samples[0]
            if view == "search":
                threshold, sample = float(config["search"]["threshold"]), samples[SEARCHED]
            for member, expert in enumerate(experts):
                if expert.architecture not in graphs:
                    graphs[expert.architecture] = _graph(onnx, expert)
                entry = _entry(tier, view, member, threshold, expert)
                content = _filled(onnx, graphs[expert.architecture], expert, entry)
                apart = _compared(runtime, content, expert, sample)
                if not max(apart.values()) <= TOLERANCE:
                    raise ModelError(
                        f"{entry['file']} answers otherwise than its network: {brief(apart)}, at most {TOLERANCE} "
                        "may be; try the versions in constraints.txt"
                    )
                yield entry | {"sha256": sha256(content).hexdigest(), "largest_difference": apart}, content


def _entry(tier: str, view: str, member: int, threshold: float, expert: Expert) -> dict[str, Any]:
    """What experts.json says of a network, in the words of format 1, which calls kept candidates tokens."""
    architecture = asdict(expert.architecture)
    return {
        "file": f"{tier}-{'search-' if view == 'search' else ''}{member}.onnx",
        "tier": tier,
        "view": view,
        "member": member,
        "threshold": threshold,
        "architecture": {"tokens" if name == "kept" else name: value for name, value in architecture.items()},
        "shapes": _shapes(expert.architecture),
        "weights_sha256": sha256(pack(expert.state_dict())).hexdigest(),
    }


def _refuse_taken(final: Path, force: bool) -> None:
    if final in (Path.cwd(), *Path.cwd().parents):
        raise FolderError(f"{final} is where you are; an export takes a folder of its own")
    restore(final.parent)
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    if not force:
        raise FolderError(f"{final} exists; choose another folder, or --force to replace an export")
    try:
        known = json.loads((final / "experts.json").read_text(encoding="utf-8"))
        names = {"experts.json", *(entry["file"] for entry in known["files"])}
        foreign = known["format"] != FORMAT or {path.name for path in final.iterdir()} - names
    except (OSError, ValueError, KeyError, TypeError):
        foreign = True
    if foreign:
        raise FolderError(f"{final} holds other things than an export; they are not replaced: choose another folder")


def _settle(partial: Path, final: Path, force: bool) -> None:
    """Give the finished folder its name."""
    _refuse_taken(final, force)
    swap([(partial, final)])


def _shapes(architecture: Architecture) -> dict[str, list[str | int]]:
    kept: list[str | int] = ["codes", architecture.kept]
    return {"tokens": [*kept, architecture.features], "low": kept, "high": kept} | {name: ["codes"] for name in OUTPUTS}


class _Named(nn.Module):
    """An expert whose weights are named expert.NAME, so that no node of the exporter's own has the name of one."""

    def __init__(self, expert: Expert) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, kept: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out: tuple[Tensor, Tensor, Tensor] = self.expert(kept, low, high)
        return out


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns, logs and prints at length."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _graph(onnx: Any, expert: Expert) -> Any:
    """The network of this architecture as ONNX. Exporting takes seconds, so that members share it."""
    architecture = expert.architecture
    kept = torch.zeros(2, architecture.kept, architecture.features)
    codes = {0: torch.export.Dim("codes")}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Named(expert).eval(),
                (kept, kept[..., 0], kept[..., 0] + 1.0),
                dynamo=True,
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                dynamic_shapes=(codes, codes, codes),
                opset_version=OPSET,
                optimize=False,  # which would melt weights into others; runtimes do it when they load
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises
        raise ModelError(f"torch cannot export an expert: {brief(error)}; try constraints.txt's versions") from error
    assert program is not None
    model = program.model_proto
    # where it was made: paths of this machine
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in (*model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    names = {tensor.name for tensor in model.graph.initializer}
    missing = {f"expert.{name}" for name in expert.state_dict()} - names
    if missing:
        raise ModelError(f"the exporter of torch {torch.__version__} lost {sorted(missing)[:4]}; try constraints.txt's")
    onnx.checker.check_model(model)
    return model


def _filled(onnx: Any, graph: Any, expert: Expert, entry: dict[str, Any]) -> bytes:
    """The graph with an expert's weights and its description."""
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    weights = {f"expert.{name}": tensor.cpu().numpy() for name, tensor in expert.state_dict().items()}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    model.graph.name = Path(entry["file"]).stem
    about = {"format": FORMAT, "moe_mheight": __version__, "inputs": INPUTS, "outputs": OUTPUTS} | entry
    onnx.helper.set_model_props(
        model, {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _sample(steps: int, budget: int) -> list[NDArray[np.float32]]:
    """Inputs of max(BATCHES) codes with open brackets, from different kinds of codes."""
    rng = np.random.default_rng(0)
    parts = []
    for kind, n, k, m in COMPARED[budget]:
        found = brackets(random_codes(kind, SHARE, k, n - k, rng), m, steps=steps, budget=budget)
        features = features_of(found, np.ones(SHARE, bool))
        parts.append((features.kept, features.low, features.high))
    order = rng.permutation(sum(len(kept) for kept, *_ in parts))[: max(BATCHES)]
    assert len(order) == max(BATCHES)
    return [np.concatenate(part)[order] for part in zip(*parts, strict=True)]


def _compared(runtime: Any, content: bytes, expert: Expert, sample: list[NDArray[np.float32]]) -> dict[str, float]:
    """The largest difference of each output between the file and the network."""
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    apart = dict.fromkeys(OUTPUTS, 0.0)
    for count in BATCHES:
        inputs = [part[-count:] for part in sample]
        wanted = on_threads(1, _outputs, expert, inputs)
        answers = session.run(list(OUTPUTS), dict(zip(INPUTS, inputs, strict=True)))
        for name, one, two in zip(OUTPUTS, answers, wanted, strict=True):
            apart[name] = float(max(apart[name], np.abs(one - two).max()))
    return apart


def _outputs(expert: Expert, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        return [
            out.cpu().numpy() for out in expert(*(torch.from_numpy(x).to(expert.feature_mean.device) for x in inputs))
        ]
