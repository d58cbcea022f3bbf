"""Open a page in headless Chromium, at three widths, light and dark: what is wrong with it, and pictures of it.

    python benchmarks/screenshots.py [PAGE]

Without PAGE a report of the shipped models is made, and the pictures go to docs/report. Needs playwright (extra dev)
and a Chromium on the PATH. Exit code 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
WIDTHS = (360, 768, 1440)
SCHEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip

TOO_WIDE = """() => {
  const found = [], edge = document.documentElement.clientWidth;
  const page = document.documentElement.scrollWidth;
  if (page > edge) found.push(`the page is ${page} wide`);
  for (const element of document.querySelectorAll('body *')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > edge + 1 && !element.closest('.wide, pre, script, svg, .md-typeset__scrollwrap'))
      found.push(`<${element.tagName}> "${element.textContent.trim().slice(0, 30)}" ends at ${box.right}`);
  }
  return found;
}"""
"""What reaches beyond the window, except for what scrolls by itself."""


def browser() -> str | None:
    """Path of a Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def problems(
    pages: Iterable[Path],
    widths: Iterable[int] = WIDTHS,
    schemes: Iterable[str] = SCHEMES,
    out: Path | None = None,
    root: Path | None = None,
) -> list[str]:
    """What is wrong with pages: messages on the console, requests beyond their folder (or root), what is too wide.

    out: folder for a picture of each, PAGE-WIDTH-SCHEME.png.
    """
    from PIL import Image  # noqa: PLC0415  matplotlib's
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  an extra

    wrong: list[str] = []
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser(), args=FLAGS)
        for path in pages:
            for width in widths:
                for scheme in schemes:
                    where = f"{path.name} at {width} px, {scheme}: "
                    context = chromium.new_context(
                        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
                    )
                    page = context.new_page()
                    messages: list[str] = []
                    home = (root or path.parent).resolve().as_uri() + "/"
                    page.on("console", lambda message, messages=messages: messages.append(message.text))
                    page.on("pageerror", lambda error, messages=messages: messages.append(str(error)))
                    page.on("request", lambda request, messages=messages: messages.append(request.url))
                    page.goto(path.resolve().as_uri())
                    messages = [text for text in messages if not text.startswith((home, "data:"))]
                    wrong += [where + text for text in messages + page.evaluate(TOO_WIDE)]
                    if out is not None:
                        shot = out / f"{path.stem}-{width}-{scheme}.png"
                        page.screenshot(path=shot, full_page=True)
                        colours = (
                            Image.open(shot)
                            .convert("RGB")
                            .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                        )
                        colours.save(shot, optimize=True)  # a third
                    context.close()
        chromium.close()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "report", help="folder for the pictures")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = given.page
        if page is None:
            from moe_mheight.cli.main import mheight  # noqa: PLC0415  not needed for pages that are there

            page = Path(folder) / "report.html"
            mheight(["ensemble-eval", "--quiet", "--show", "0", "--report", folder, "--force"], standalone_mode=False)
        wrong = problems([page], out=given.out)
    print("\n".join(wrong) or "nothing is wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
