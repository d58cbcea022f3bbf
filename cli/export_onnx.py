"""`mheight export-onnx`: the experts as ONNX files."""

from __future__ import annotations

import click

from .options import Output, force_option, models_option, output_options
from .printing import emit, remark, table
from .progress import training


@click.command("export-onnx")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@models_option("A model set made by train-expert, on brackets.  [default: the shipped one]")
@force_option
@output_options
def command(folder: str, models: str | None, force: bool, output: Output) -> int:
    """Write every expert as ONNX into DIR, for programs without torch (extra onnx).

    One file per network: low-0.onnx, and low-search-0.onnx for predictions under a budget of sets, numbered like the
    weights. experts.json lists them with checksums. Each is compared with its network on 600 codes first; DIR appears
    whole or not at all.

    \b
    Inputs, float32, of A codes, T = 12 sets (S, a), F features of each:
      tokens    (A, T, F)  what is known of these sets
      low       (A, T)     their lower bounds, as positions in the bracket
      high      (A, T)     their upper bounds
    Outputs:
      position  (A,)       where log2 h lies: log2 L + position log2(U / L);
                           of searches, bits above log2 L
      beyond    (A,)       expected gap of the unvisited sets; 0 but of searches
      doubt     (A,)       predicted error: natural log of the expected |error|

    moe_mheight.experts.features.features_of makes the inputs; `python -m pydoc
    moe_mheight.ensemble.onnx` shows how predictions come of them.

    \b
    Examples:
      mheight export-onnx experts-onnx
      mheight export-onnx experts-onnx --models mine --force --json
    """
    from moe_mheight.ensemble.onnx import export_onnx

    with training("exporting", output, lambda _: "") as report:
        found = export_onnx(folder, models, force=force, advance=lambda done, total: report(done, total, []))
    if output.as_json:
        emit(found)
        return 0
    rows = [
        [
            entry["file"],
            *(f"{entry['largest_difference'][name]:.0e}" for name in found["outputs"]),
            entry["sha256"][:12],
        ]
        for entry in found["files"]
    ]
    click.echo(table(["file", *found["outputs"], "sha256"], rows))
    remark(f"largest differences to torch, at most {found['tolerance']:.0e} may be; saved to {folder}", output.quiet)
    return 0
