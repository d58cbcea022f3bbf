"""`mheight verify`: check the certificate of a height."""

from __future__ import annotations

import sys

import click

from .options import Choice, Output, output_options
from .printing import emit, unread_is_fine
from .progress import Progress

STEPS = 1000


@click.command("verify")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.argument("code", type=click.Path(dir_okay=False, allow_dash=True), required=False, metavar="[MATRIX]")
@click.option(
    "--matrix", type=Choice(["P", "G", "H"]), help="What MATRIX is.  [default: as its name says, or as the certificate]"
)
@output_options
def command(file: str, code: str | None, matrix: str | None, output: Output) -> int:
    """Check the certificate in FILE, and that it is about the code of MATRIX; - reads standard input.

    A certificate states the m-height of a code, exactly or as an interval, and holds the proof: a codeword for one
    side, sets of columns for the other. The check shares no code with the solvers that make certificates, so their
    mistakes cannot hide in it. One line says what was proven, or the first thing that was not.

    A certificate names the matrix that it was made for. With MATRIX, a file as `mheight exact` reads it, it is refused
    unless that matrix generates the very same code, coordinate by coordinate: the same matrix, the same rows in other
    combinations, or another one of P, G and H. Doubles stand for the fractions that they are: two real matrices that
    agree up to rounding are of two codes.

    Exit codes: 0 the height is proven, 1 the certificate does not prove it, 2 FILE is no certificate, MATRIX no matrix;
    3 says nothing about it: the check itself broke down, a fault of ours.

    \b
    Examples:
      mheight verify height.json
      mheight verify height.json code_G.csv
      mheight verify height.json code.csv --matrix H
      mheight verify --json - < height.json
    """
    from moe_mheight.data.matrix_files import read_matrix
    from moe_mheight.proofs.certificate_format import open_certificate, read_certificate
    from moe_mheight.proofs.verify import verify

    if code is None and matrix is not None:
        raise click.UsageError("--matrix says what MATRIX is, and there is none")
    if file == code == "-":
        raise click.UsageError("only one of FILE and MATRIX can be standard input")
    certificate = read_certificate(sys.stdin.buffer) if file == "-" else open_certificate(file)
    rows = None
    if code is not None:
        named = certificate.get("matrix")
        read = read_matrix(code, matrix, otherwise=named if named in ("P", "G", "H") else "P")
        rows, matrix = read.entries, read.kind
    with Progress(STEPS, "checking", output) as bar:
        verdict = verify(
            certificate, rows, matrix=matrix, advance=lambda share: bar.update(int(share * STEPS) - bar.done)
        )
    with unread_is_fine():
        if output.as_json:
            emit({"format": "moe_mheight verdict 1", **vars(verdict)})
        else:
            size = f"n = {verdict.n}, k = {verdict.k}, m = {verdict.m}, {verdict.arithmetic} {verdict.matrix}"
            click.echo(f"{'accepted' if verdict.accepted else 'refused'}: {verdict.reason} ({size})")
    return 0 if verdict.accepted else 1
