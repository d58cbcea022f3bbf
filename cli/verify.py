"""`mheight verify`: check the certificate of a height."""

from __future__ import annotations

import sys

import click

from .options import emit, output_options, progress, unread_is_fine

STEPS = 1000


@click.command("verify")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@output_options
def command(file: str, as_json: bool, quiet: bool) -> int:
    """Check the certificate in FILE; - reads standard input.

    A certificate states the m-height of a code, exactly or as an interval, and holds the proof: a codeword for one
    side, sets of columns for the other. The check shares no code with the solvers that make certificates, so their
    mistakes cannot hide in it. One line says what was proven, or the first thing that was not.

    Exit codes: 0 the height is proven, 1 the certificate does not prove it, 2 FILE is no certificate; 3 says nothing
    about it: the check itself broke down, a fault of ours.

    \b
    Examples:
      mheight verify height.json
      mheight verify --json - < height.json
    """
    from moe_mheight.claims import read_certificate
    from moe_mheight.verification import verify

    certificate = read_certificate(sys.stdin.buffer) if file == "-" else file
    with progress(STEPS, "checking", quiet, as_json) as bar:
        verdict = verify(certificate, advance=lambda share: bar.update(int(share * STEPS) - bar.pace.done))
    with unread_is_fine():
        if as_json:
            emit({"format": "moe_mheight verdict 1", **vars(verdict)})
        else:
            size = f"n = {verdict.n}, k = {verdict.k}, m = {verdict.m}, {verdict.arithmetic}"
            click.echo(f"{'accepted' if verdict.accepted else 'refused'}: {verdict.reason} ({size})")
    return 0 if verdict.accepted else 1
