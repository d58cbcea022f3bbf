"""Draws docs/pictures/m_height.svg, the picture of "What is an m-height?": python docs/_build/m_height.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_mheight import m_height
from moe_mheight.figures.style import BLUE, GREY, ORANGE, STYLE, VERMILLION, matplotlib_itself

P = [[-3, -3, -2, 0, 3], [0, 2, 3, 2, -3], [-3, -2, 1, 2, 1], [-2, -3, -2, 0, 2]]
M = 3
OUT = Path(__file__).parent.parent / "pictures" / "m_height.svg"


def main() -> None:
    mpl = matplotlib_itself()
    found = m_height(P, M, details=True)
    word = found.witness / np.abs(found.witness).max()
    word *= np.sign(word[np.argmax(np.abs(word))])
    order = np.argsort(-np.abs(word), kind="stable")
    size = np.abs(word)[order]
    look = [VERMILLION, *[ORANGE] * (M - 1), BLUE, *["#9aa5b1"] * (found.n - M - 1)]
    colours = dict(zip(order.tolist(), look, strict=True))
    with mpl.style.context(["default", STYLE, {"svg.hashsalt": "m_height", "font.size": 10}]):
        figure = mpl.figure.Figure(figsize=(7.6, 3.3), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2)
        left.bar(range(found.n), word, color=[colours[j] for j in range(found.n)])
        left.axhline(0.0, color="#333333", lw=0.8)
        left.set(title="a codeword", xlabel="coordinate", ylabel="entry", xticks=range(found.n))
        right.bar(range(found.n), size, color=look)
        right.set(title="its entries, sorted by size", xlabel="place", xticks=range(found.n), ylim=(0, 1.12))
        for place, name in ((0, "$|c|_{(0)}$"), (M, f"$|c|_{{({M})}}$")):
            right.annotate(name, (place, size[place]), (0, 3), textcoords="offset points", ha="center")
        right.annotate(
            "", (M + 0.75, size[M]), (M + 0.75, 1.0), arrowprops={"arrowstyle": "<->", "color": GREY, "lw": 1.2}
        )
        right.axhline(1.0, color=GREY, lw=0.7, ls=":", xmin=0.08)
        right.text(M + 0.95, 0.6, f"ratio {found.value:.4g}\n= $h_{M}$ of this code", color="#333333")
        figure.savefig(OUT, metadata={"Date": None, "Creator": None})
    print(f"{OUT.name}: h_{M} = {found.value:.6g}, codeword {word.round(4).tolist()}")


if __name__ == "__main__":
    main()
