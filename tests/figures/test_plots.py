"""Pictures are whole PNG files, not blank; their texts do not overlap and stay inside, whatever the input lacks."""

import math
import os
import struct
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from moe_mheight.errors import DataError, FolderError, ModelError
from moe_mheight.figures import plots, style
from moe_mheight.groups import EVALUATOR, HEADLINE, tier_of

mpl = pytest.importorskip("matplotlib")


def name_of(group):
    return ",".join(map(str, group))


def history(rng, groups, seeds, epochs, phases=1):
    """Records as a training writes them; seeds after the first stop ever earlier."""
    levels = {name_of(group): rng.uniform(0.1, 2.0) for group in groups}
    return [
        {
            "seed": seed, "epoch": epoch, "epochs": epochs, "samples": 96000 * epoch, "minutes": 0.1 * epoch,
            "phase": 1 + phases * (epoch - 1) // epochs, "rate": 1e-3 * 0.9**epoch, "ratio": 1.0 + epoch / epochs,
            "roughness": None,
        }
        | {
            part: {"macro": float(np.mean(list(errors.values()))), "groups": errors, "tiers": {}, "worst": 2.1}
            for part in ("train", "validation")
            for decay in [1 + 8 * math.exp(-epoch / 6)]
            for errors in [{name: x * decay * rng.lognormal(0, 0.05) for name, x in levels.items()}]
        }
        for seed in range(seeds)
        for epoch in range(1, epochs + 1 - min(2 * seed, epochs - 1))
    ]  # fmt: skip


def predictions(rng, groups, count):
    chosen = [groups[at] for at in rng.integers(0, len(groups), count)]
    log2_h = rng.gamma(3.0, 1.0, count)
    return log2_h, 0.8 * log2_h + 0.6 + rng.normal(0, 0.5, count), chosen


def ablation(rng, count):
    rows = []
    for at in range(count):
        values = np.exp(rng.uniform(-2.5, 0.2) + rng.normal(0, 0.1, 5)).tolist()
        name = f"{at}: the network without its columns in canonical order, {at} layers" if at % 3 else f"{at}: less"
        rows.append({"name": name, "mean": float(np.mean(values)), "values": values, "reference": at == 1})
    return rows


def sizes(count):
    x = [1000 * 3**at for at in range(8)]
    return {f"network {at}": (x, [(at + 1) * t**-0.3 for t in x], [0.1 * t**-0.3 for t in x]) for at in range(count)}


AXES = {"x": "codes trained on", "y": "macro log2-MSE (bits²)"}

DRAWINGS = {
    "history": lambda rng, path: plots.training_history(history(rng, HEADLINE, 3, 40, phases=3), path),
    "history of 21 groups": lambda rng, path: plots.training_history(history(rng, EVALUATOR, 1, 100, phases=9), path),
    "history of one epoch": lambda rng, path: plots.training_history(history(rng, HEADLINE[:1], 1, 1), path),
    "history of two epochs": lambda rng, path: plots.training_history(history(rng, HEADLINE[:2], 2, 2, phases=2), path),
    "scatter": lambda rng, path: plots.predictions_scatter(*predictions(rng, HEADLINE, 16000), path),
    "scatter of 21 groups": lambda rng, path: plots.predictions_scatter(*predictions(rng, EVALUATOR, 3000), path),
    "scatter of two groups": lambda rng, path: plots.predictions_scatter(*predictions(rng, HEADLINE[:2], 50), path),
    "scatter of one code": lambda rng, path: plots.predictions_scatter(np.ones(1), np.ones(1), [(9, 4, 2)], path),
    "ablation": lambda rng, path: plots.ablation_bars(ablation(rng, 12), path),
    "ablation of 30 rows": lambda rng, path: plots.ablation_bars(ablation(rng, 30), path),
    "ablation of one row": lambda rng, path: plots.ablation_bars(ablation(rng, 1), path),
    "curves": lambda rng, path: plots.curves(sizes(4), path, **AXES),
    "many curves": lambda rng, path: plots.curves(sizes(16), path, **AXES),
    "one point": lambda rng, path: plots.curves({"$1": ([3.0], [0.2], None)}, path, **AXES),
    "linear curves": lambda rng, path: plots.curves(sizes(3), path, log_x=False, log_y=False, **AXES),
}


def check_png(path):
    """Whole, of sensible size, not blank, and alone in its folder."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", content[16:24])
    assert 500 <= width <= 2500
    assert 150 <= height <= 2500
    from matplotlib.image import imread

    pixels = imread(path)
    assert pixels.shape[:2] == (height, width)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50
    assert (pixels[0, 0, :3] == 1.0).all()
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is drawn."""
    seen = []

    @contextmanager
    def recorded(*args):
        with style.picture(*args) as figure:
            seen.append(figure)
            yield figure

    monkeypatch.setattr(plots, "picture", recorded)
    return seen


def shown_texts(figure):
    """(text, its box in pixels, its size in points) of all that is printed."""
    hidden = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval()) or not axes.axison
    }
    texts = [text for text in figure.findobj(mpl.text.Text) if id(text) not in hidden]
    return [
        (text.get_text(), mpl.text.Text.get_window_extent(text), text.get_fontsize())
        for text in texts
        if text.get_visible() and text.get_text().strip()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_whole_and_its_texts_do_not_overlap(name, rng, tmp_path, figures):
    DRAWINGS[name](rng, tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")
    (figure,) = figures
    texts = shown_texts(figure)
    assert len(texts) > 4
    for at, (text, box, size) in enumerate(texts):
        assert size >= 8, text
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y1 <= figure.bbox.height + 1, text
        for other, other_box, _ in texts[:at]:
            across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            assert min(across, up) < 2.0, (text, other)


@pytest.mark.slow
def test_a_history_may_lack_anything_but_seed_and_epoch(rng, tmp_path):
    records = history(rng, HEADLINE[:3], 2, 6)
    records[0]["validation"] = None
    records[1]["validation"] = {"macro": None, "groups": {"9,4,2": None}}
    records[2]["ratio"] = records[2]["rate"] = records[2]["phase"] = None
    records[3]["train"]["macro"] = float("inf")
    records[4] = {"seed": 0, "epoch": 5}
    records[5]["validation"]["groups"]["all the others"] = 0.3
    plots.training_history(records, tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")
    plots.training_history([{"seed": 0, "epoch": 1}], tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")


@pytest.mark.slow
def test_a_history_names_every_group_the_best_epoch_and_the_phases(rng, tmp_path, figures):
    records = history(rng, HEADLINE, 2, 30, phases=3)
    best = records[17]
    best["validation"]["macro"] = 0.01
    plots.training_history(records, tmp_path / "drawn.png")
    said = [text for text, _, _ in shown_texts(figures[0])]
    for group in HEADLINE:
        assert sum(text.startswith(name_of(group)) for text in said) == 1
    assert f"○ best: 0.01, epoch {best['epoch']}, member 0" in said
    assert {"phase 2", "phase 3", "low tier", "medium tier", "high tier", "2 members, 30 epochs"} <= set(said)


@pytest.mark.slow
def test_a_scatter_says_what_it_left_out(rng, tmp_path, figures):
    log2_h, predicted, groups = predictions(rng, HEADLINE, 6000)
    log2_h[:7], predicted[5:11], predicted[11], predicted[12] = np.inf, -np.inf, np.nan, 500.0
    plots.predictions_scatter(log2_h, predicted, groups, tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")
    said = " ".join(text for text, _, _ in shown_texts(figures[0]))
    assert "12 not finite, left out" in said
    assert " beyond the frame, drawn at its edge" in said
    assert figures[0].axes[0].get_ylim()[1] < 50
    finite = np.isfinite(log2_h) & np.isfinite(predicted)
    for group in HEADLINE:
        mine = finite & np.array([other == group for other in groups])
        mse = np.mean((log2_h - predicted)[mine] ** 2)
        assert f"{name_of(group)}  {tier_of(*group)} tier\nlog2-MSE {mse:.3g}, {mine.sum()} codes" in said
    drawn = sum(
        cells.get_array().sum()
        for axes in figures[0].axes
        for cells in axes.collections
        if isinstance(cells, mpl.collections.PolyCollection) and len(axes.lines) == 3
    )
    assert drawn == finite.sum()


@pytest.mark.slow
def test_a_scatter_of_nothing_finite(tmp_path):
    plots.predictions_scatter(np.full(2, np.inf), np.ones(2), [(9, 4, 2), (9, 4, 3)], tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")


@pytest.mark.slow
def test_an_ablation_may_lack_figures_and_a_reference(tmp_path, figures):
    rows = [
        {"name": "costs $5 and $6", "mean": 0.5, "values": [0.4, None, 0.6], "reference": False},
        {"name": "never ran", "mean": None, "values": [], "reference": True},
        {"name": "diverged", "mean": float("inf"), "values": [float("inf"), 0.7]},
        {"name": "one seed", "mean": 0.0, "values": [0.0]},
    ]
    plots.ablation_bars(rows, tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")
    said = [text for text, _, _ in shown_texts(figures[0])]
    assert {"0.5", "none", "inf", "0", "costs $5 and $6"} <= set(said)
    assert "ratio" not in said
    plots.ablation_bars(rows[1:2], tmp_path / "drawn.png")
    check_png(tmp_path / "drawn.png")


@pytest.mark.parametrize(("factor", "scale"), [(7.0, "linear"), (9.0, "log")])
def test_an_ablation_is_logarithmic_beyond_a_factor_of_8(factor, scale, tmp_path, figures):
    rows = [{"name": str(mean), "mean": mean, "values": [mean], "reference": False} for mean in (0.1, 0.1 * factor)]
    plots.ablation_bars(rows, tmp_path / "drawn.png")
    assert figures[0].axes[0].get_xscale() == scale


@pytest.mark.slow
def test_curves_drop_what_their_axes_cannot_show(tmp_path, figures):
    series = {
        "minor": ([0.0, 1.0, 2.0, None], [0.3, 0.02, 0.2, 0.1], [0.1, 0.05, None, 0.1]),
        "array": (np.arange(1.0, 4.0), np.ones(3), np.full(3, 0.1)),
        "empty": ([], [], None),
    }
    plots.curves(series, tmp_path / "drawn.png", x="smallest minor", y="|error| (bits)")
    check_png(tmp_path / "drawn.png")
    assert "2 points left out" in [text for text, _, _ in shown_texts(figures[0])]
    low, high = figures[0].axes[0].get_ylim()
    assert 0.01 < low < 0.02  # the bar from 0.02 down to -0.03 leaves the picture
    assert 1.1 < high < 2.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plots.training_history([], path),
        lambda path: plots.predictions_scatter(np.empty(0), np.empty(0), [], path),
        lambda path: plots.predictions_scatter(np.ones(2), np.ones(2), [(9, 4, 2)], path),
        lambda path: plots.ablation_bars([], path),
        lambda path: plots.curves({}, path, **AXES),
        lambda path: plots.curves({"none": ([], [], None)}, path, **AXES),
        lambda path: plots.curves({"below 0": ([1.0], [-1.0], None)}, path, **AXES),
        lambda path: plots.curves({"uneven": ([1.0, 2.0], [1.0], None)}, path, **AXES),
    ],
)
def test_nothing_to_draw_is_one_clear_line(draw, tmp_path):
    with pytest.raises(DataError, match=r"must (hold|be|have)") as caught:
        draw(tmp_path / "drawn.png")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["history of one epoch", "scatter of one code", "ablation of one row", "one point"])
def test_without_matplotlib(name, rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModelError, match=r"^plots need matplotlib: pip install 'moe-mheight\[plot\]'$"):
        DRAWINGS[name](rng, tmp_path / "drawn.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_the_old_file(rng, tmp_path, monkeypatch):
    old = tmp_path / "drawn.png"
    old.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FolderError, match=r"cannot write .*drawn\.png: No space left on device"):
        DRAWINGS["one point"](rng, old)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"old"
    with pytest.raises(FolderError, match="No such file or directory"):
        DRAWINGS["one point"](rng, tmp_path / "no folder" / "drawn.png")


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_under_any_settings(tmp_path):
    plots.curves(sizes(2), tmp_path / "drawn.png", **AXES)
    first = (tmp_path / "drawn.png").read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        plots.curves(sizes(2), tmp_path / "drawn.png", **AXES)
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "drawn.png").read_bytes() == first


@pytest.mark.slow
def test_pyplot_and_matplotlib_stay_away_until_asked_for(tmp_path):
    code = (
        "import sys; from pathlib import Path; from moe_mheight.figures import plots\n"
        "assert not {'matplotlib', 'torch'} & set(sys.modules)\n"
        "plots.curves({'a': ([1], [2], None)}, Path('drawn.png'), x='x', y='y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_labels_move_as_little_as_keeps_them_from_overlapping(rng):
    from sklearn.isotonic import isotonic_regression

    for count in range(1, 30):
        wanted = np.sort(rng.random(count))
        free = style.spaced(wanted - 5.0, 0.02, 100.0)  # everything below 0 moves up to it
        assert np.allclose(free, 0.02 * np.arange(count))
        placed = style.spaced(10.0 + wanted, 0.02, 100.0)
        steps = 0.02 * np.arange(count)
        assert np.allclose(placed, isotonic_regression(10.0 + wanted - steps) + steps)
        inside = style.spaced(wanted, 0.02, 1.0)
        assert np.diff(inside).min(initial=1.0) > 0.02 - 1e-12
        assert -1e-12 < inside[0] <= inside[-1] < 1.0 + 1e-12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.02, "0.02"),
        (5.0, "5"),
        (1.5, "1.5"),
        (200_000.0, "200,000"),
        (1e-6, "10⁻⁶"),
        (2e7, "2·10⁷"),
        (0, "0"),
    ],
)
def test_ticks_are_plain_numbers(value, text):
    assert style.plain(value) == text
