"""Certificates changed in every way that came to mind, and what `mheight verify` says about them.

    python benchmarks/mutate_certificates.py                  # 20,000, some minutes; writes results/mutations.json
    python benchmarks/mutate_certificates.py --count 1000     # fewer

A changed certificate may be refused or be no certificate; when it is accepted, the claim that it makes must be true of
the matrix that it names, by rational arithmetic over all bases (tests/brute.py), which shares nothing with the package.
Accepted together with the matrix that it was made for, it must be true of that one. Any other error, and anything that
takes more than LONGEST seconds, is a fault. Most changes carry the digest that fits: whoever forges can count, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from io import BytesIO
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from moe_mheight import __version__, certify
from moe_mheight._io import write_file
from moe_mheight.errors import DataError
from moe_mheight.proofs.certificate_format import read_certificate
from moe_mheight.proofs.verify import verify

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import brute  # noqa: E402

LONGEST = 10.0
"""Seconds that no check may take."""

JUNK = 10 << 20
"""Bytes of a large piece of rubbish."""


@dataclass
class Original:
    """A true certificate, and the matrix that it was made for."""

    matrix: list[list[Any]]
    certificate: dict[str, Any]


# the truth


def profile(rows: list[list[Fraction]], kind: str) -> list[Fraction | float] | None:
    """[h_0, ..., h_r] of the code of P, G or H; None where the matrix has not full rank."""
    if kind == "P":
        return list(brute.profile(rows))
    integers = [[int(x * den) for x in row] for row, den in zip(rows, map(_denominator, rows), strict=True)]
    n = len(rows[0])
    for basis in combinations(range(n), len(rows)):
        M = brute.on_basis(integers, basis)
        if M is not None:
            D = M[0][basis[0]]
            X = [[Fraction(M[i][j], D) for j in range(n) if j not in basis] for i in range(len(rows))]
            return list(brute.profile(X if kind == "G" else [[-x for x in column] for column in zip(*X, strict=True)]))
    return None


def _denominator(row: list[Fraction]) -> int:
    out = 1
    for x in row:
        out *= x.denominator
    return out


def true_of(certificate: dict[str, Any], rows: list[list[Fraction]], kind: str) -> bool:
    """Whether what a certificate claims holds for this matrix."""
    heights = profile(rows, kind)
    m, height = certificate["m"], certificate["height"]
    if heights is None or m >= len(heights):
        return False
    h = heights[m]
    if height == "inf":
        return h == inf or (certificate["arithmetic"] == "float64" and h > 10**11)
    if isinstance(height, str):
        return Fraction(height) == h
    return Fraction(float(height["lower"])) <= h <= Fraction(float(height["upper"]))


# true certificates


def fractions(matrix: Any, arithmetic: str = "rational") -> list[list[Fraction]]:
    """A matrix as it is meant: the decimals of a float64 certificate stand for doubles."""
    return [[Fraction(float(x) if arithmetic == "float64" else x) for x in row] for row in matrix]


def originals(seed: int) -> list[Original]:
    """Of P, G and H; whole, fractions and doubles; finite and infinite; with automorphisms; of all formats."""
    rng = np.random.default_rng(seed)
    out = []
    for kind in ("P", "P", "G", "H"):
        for k, r in ((1, 2), (2, 2), (2, 3), (3, 2), (3, 3), (2, 4)):
            shape = {"P": (k, r), "G": (k, k + r), "H": (r, k + r)}[kind]
            small, large = rng.integers(-3, 4, shape), rng.integers(-99, 100, shape)
            ratios = [[Fraction(int(x), int(y)) for x, y in zip(a, b, strict=True)]
                      for a, b in zip(large, rng.integers(1, 9, shape), strict=True)]  # fmt: skip
            for matrix in (small.tolist(), large.tolist(), ratios, rng.normal(size=shape).tolist(),
                           (np.round(rng.normal(size=shape), 1) + 0.5).tolist()):  # fmt: skip
                for m in {1, r}:
                    try:
                        made = certify(matrix, m, matrix=kind)
                    except ValueError:  # a G or H that is singular
                        continue
                    out.append(Original(matrix, made))
                    if kind == "P" and "automorphisms" not in made:
                        old = {key: value for key, value in made.items() if key != "matrix"}
                        out.append(Original(matrix, signed(old | {"format": "moe_mheight certificate 1"})))
    for k, m in ((2, 1), (3, 1), (3, 2), (4, 2)):  # circulants
        for row in (rng.integers(-9, 10, k).tolist(), rng.normal(size=k).tolist()):
            matrix = [row[k - i :] + row[: k - i] for i in range(k)]
            out.append(Original(matrix, certify(matrix, m)))
    return out


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """With the digest that fits, written down here once more."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "sha256": sha256(text.encode()).hexdigest()}


# changes: of a certificate as JSON has it


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    holder = at(value, path[:-1])
    if isinstance(holder, dict) and not isinstance(path[-1], str):
        raise TypeError("a list has become an object")
    holder[path[-1]] = new


def length(c: dict[str, Any]) -> int:
    """n, whatever was made of it."""
    return len(c["P"]) + len(c["P"][0])


def a_leaf(c: dict[str, Any], draw: random.Random) -> tuple[Any, ...]:
    """Mostly a number or a word, by key, so that long lists do not take all."""
    key = draw.choice([key for key in c if key != "sha256"])
    inner = [(key, *path) for path in leaves(c[key])] or [(key,)]
    return draw.choice(inner if draw.random() < 0.9 else [(key,)])


def numeric(c: dict[str, Any], draw: random.Random) -> None:
    """A number a little different, still well written."""
    path = a_leaf(c, draw)
    old = at(c, path)
    try:
        if isinstance(old, int):
            new: Any = old + draw.choice([-2, -1, 1, 2])
        elif path[0] == "bases":
            new = f"{int(old, 16) ^ 1 << draw.randrange(length(c)):x}"
        elif "." in old or "e" in old:
            new = repr(float(old) * draw.choice([1 + 1e-15, 1 - 1e-15, 1 + 1e-9, 2.0, 0.5, -1.0, 1.001]))
        else:
            x = Fraction(old)
            new = str(draw.choice([x + 1, x - 1, -x, x * 2, x / 3, x + Fraction(1, 10**9), 1 / x if x else x]))
    except (ValueError, TypeError, ArithmeticError, AttributeError):
        return
    put(c, path, new)


def swap(c: dict[str, Any], draw: random.Random) -> None:
    """Two values change places."""
    first, second = a_leaf(c, draw), a_leaf(c, draw)
    if draw.random() < 0.5:  # of one list
        siblings = [path for path in leaves(c) if path[:-1] == first[:-1]]
        second = draw.choice(siblings)
    if first[: len(second)] == second or second[: len(first)] == first:
        return
    x, y = at(c, first), at(c, second)
    put(c, first, y)
    put(c, second, x)


def sizes(c: dict[str, Any], draw: random.Random) -> None:
    """Another n, k or m."""
    key = draw.choice("nkm")
    c[key] = draw.choice([c[key] - 1, c[key] + 1, 0, 1, -1, 63, 64, 65, 2**31, 10**30, draw.randint(1, 12)])


def retyped(c: dict[str, Any], draw: random.Random) -> None:
    """Numbers as strings and strings as numbers."""
    path = a_leaf(c, draw)
    old = at(c, path)
    if isinstance(old, str):
        try:
            put(c, path, int(old))
        except ValueError:
            put(c, path, draw.choice([None, True, [old], {"value": old}, 0]))
    else:
        put(c, path, json.dumps(old) if not isinstance(old, int) else str(old))


def nested(c: dict[str, Any], draw: random.Random) -> None:
    """Deep lists and objects in place of a value."""
    value: Any = at(c, path := a_leaf(c, draw))
    for _ in range(draw.choice([1, 3, 50, 400])):
        value = [value] if draw.random() < 0.5 else {"a": value}
    put(c, path, value)


def junk(c: dict[str, Any], draw: random.Random) -> None:
    """10 MB of rubbish in place of a value."""
    kind = draw.randrange(5)
    value: Any = ["9" * JUNK, "\u00e9" * (JUNK // 2), ["1"] * (JUNK // 5), [[0, 0]] * (JUNK // 9), None][kind]
    if kind == 4:  # every set of columns there is, and more
        value = [f"{mask:x}" for mask in range(JUNK // 8)]
        c["bases"] = value
        return
    put(c, a_leaf(c, draw), value)


def letters(c: dict[str, Any], draw: random.Random) -> None:
    """Digits of other scripts, surrogates, control characters inside a string."""
    path = a_leaf(c, draw)
    old = at(c, path)
    if isinstance(old, str):
        i = draw.randint(0, len(old))
        odd = draw.choice(["\u0661", "\u00b2", "\uff11", "\ud800", "\0", "\n", " ", "_", "\u202e", "\U0001d7d9", "+"])
        put(c, path, old[:i] + odd + old[i + draw.randint(0, 1) :])


def huge(c: dict[str, Any], draw: random.Random) -> None:
    """Numbers that are long, large or small."""
    value = draw.choice([
        "1e999999999", "1e308", "1.7976931348623157e+308", "5e-324", "1e-999999999", "9" * 699, "9" * 3999, "9" * 5000,
        "1/" + "9" * 690, "1/" + "9" * 3990, "1" + "0" * 400, "-1" + "0" * 400, "1e400", "nan", "inf", "-inf", "0",
    ])  # fmt: skip
    put(c, a_leaf(c, draw), value)


def keys(c: dict[str, Any], draw: random.Random) -> None:
    """A key less, more or by another name."""
    where = draw.choice([c, *[value for value in c.values() if isinstance(value, dict)]])
    key = draw.choice(list(where))
    value = where.pop(key)
    if draw.random() < 0.5:
        where[draw.choice(["x", key.upper(), "G", "H", "order", "matrix", "u_low", ""])] = value


def bases(c: dict[str, Any], draw: random.Random) -> None:
    """Sets of columns left out, added, in another order."""
    masks = c["bases"]
    n = length(c)
    if not isinstance(masks, list):
        return
    for _ in range(draw.randint(1, 3)):
        how = draw.randrange(4)
        if how == 0 and masks:
            masks.pop(draw.randrange(len(masks)))
        elif how == 1:
            masks.append(f"{sum(1 << j for j in draw.sample(range(n), c['k'])):x}")
        elif how == 2:
            draw.shuffle(masks)
        elif masks:
            masks[draw.randrange(len(masks))] = f"{draw.getrandbits(n):x}"
    if draw.random() < 0.7:
        masks.sort(key=lambda mask: int(mask, 16))


def places(c: dict[str, Any], draw: random.Random) -> None:
    """Columns in another order, other coordinates."""
    lists = [c["witness"]["outside"], c.get("order"), c.get("dual", {}).get("basis")]
    found = draw.choice([value for value in lists if value and isinstance(value, list)])
    if draw.random() < 0.6:
        draw.shuffle(found)
    else:
        found[draw.randrange(len(found))] = draw.randrange(length(c))


def symmetries(c: dict[str, Any], draw: random.Random) -> None:
    """Generators with other images or signs, added, exchanged or left out; ones of our own."""
    n = length(c)
    if "automorphisms" not in c:
        c["format"], c["automorphisms"] = "moe_mheight certificate 3", []
    found = c["automorphisms"]
    how = draw.randrange(5) if found else 0
    if how == 0:
        perm = draw.sample(range(n), n)
        if draw.random() < 0.5:
            perm = list(range(n))
            i, j = draw.sample(range(n), 2)
            perm[i], perm[j] = perm[j], perm[i]
        found.append({"perm": perm, "signs": [draw.choice([1, -1]) for _ in range(n)]})
        return
    generator = draw.choice(found)
    if how == 1:
        i, j = draw.sample(range(n), 2)
        generator["perm"][i], generator["perm"][j] = generator["perm"][j], generator["perm"][i]
    elif how == 2:
        i = draw.randrange(n)
        generator["signs"][i] = draw.choice([-generator["signs"][i], 0, 2, True])
    elif how == 3:
        found.remove(generator)
    else:
        found.extend(deepcopy(found) * draw.choice([1, 100]))


def kinds(c: dict[str, Any], draw: random.Random) -> None:
    """Another kind of matrix, format or arithmetic."""
    how = draw.randrange(4)
    if how == 0:
        old, new = c.get("matrix", "P"), draw.choice("PGH")
        c["matrix"] = new
        if old != "P" and old in c:
            c[new] = c.pop(old)
    elif how == 1:
        c["format"] = draw.choice([f"moe_mheight certificate {number}" for number in (1, 2, 3, 4)])
        if not c["format"].endswith("3"):
            c.pop("automorphisms", None)
        if c["format"].endswith("1"):
            for key in ("matrix", "G", "H", "order"):
                c.pop(key, None)
    elif how == 2:
        c["arithmetic"] = "float64" if c["arithmetic"] == "rational" else "rational"
    else:
        c["height"] = draw.choice(["inf", "1", {"lower": "1.0", "upper": "1e+300"}, {"lower": "2.0", "upper": "2.0"}])
        if c["height"] == "inf":
            c["bases"] = []
            c.pop("dual", None)


def rows(c: dict[str, Any], draw: random.Random) -> None:
    """Rows of the matrix exchanged, scaled or added: the same code for G and H, another one for P."""
    matrix = c[c.get("matrix", "P")]
    if any(len(x) > 700 or "e99" in x or "e-99" in x for row in matrix for x in row):
        return  # Python would write all its digits
    i, j = draw.randrange(len(matrix)), draw.randrange(len(matrix))
    how = draw.randrange(3)
    if how == 0:
        matrix[i], matrix[j] = matrix[j], matrix[i]
    elif c["arithmetic"] == "rational":
        factor, other = (3, 0) if how == 1 or i == j else (1, 1)
        matrix[i] = [str(factor * Fraction(x) + other * Fraction(y)) for x, y in zip(matrix[i], matrix[j], strict=True)]
    else:
        matrix[i] = [repr(2.0 * float(x)) for x in matrix[i]]


CHANGES: list[Callable[[dict[str, Any], random.Random], None]] = [
    numeric, numeric, numeric, numeric, swap, swap, sizes, retyped, nested, letters, huge, keys, bases, bases, bases,
    places, places, kinds, rows, rows, symmetries, symmetries,
]  # fmt: skip


# changes: of the text


def digit(text: str, draw: random.Random) -> str:
    """A single digit or letter is another one."""
    i = draw.choice([i for i, c in enumerate(text) if c.isalnum()])
    return text[:i] + draw.choice("0123456789abcdefxPGH/-.e") + text[i + 1 :]


def cut(text: str, draw: random.Random) -> str:
    """The end is missing, or some piece."""
    i, j = sorted(draw.randrange(len(text)) for _ in range(2))
    return text[:i] if draw.random() < 0.5 else text[:i] + text[j:]


def bytes_(text: str, draw: random.Random) -> str:
    """A character more, less or twice."""
    i = draw.randrange(len(text))
    return text[:i] + draw.choice(["", text[i] * 2, ",", "[", "}", '"', "\\", "0", "\ufeff", " "]) + text[i + 1 :]


def wrapped(text: str, draw: random.Random) -> str:
    """Too deep, twice, with rubbish behind it, or a key twice."""
    depth = draw.choice([2, 1000, 200_000])
    return draw.choice([
        "[" * depth + text + "]" * depth, text + text, text + " " * JUNK, text + "x" * 1000, '{"a":' * depth + text,
        text[:-1] + ', "height": "1"}', text[:-1] + ', "n": 1e5}', text[:-1] + ', "m": NaN}',
    ])  # fmt: skip


TEXTS: list[Callable[[str, random.Random], str]] = [digit, digit, cut, bytes_, wrapped]


def mutants(count: int, seed: int) -> Iterator[tuple[str, bool, Original, bytes]]:
    """(kind of change, whether its digest fits, what it was made of, its bytes)."""
    draw = random.Random(seed)
    all_of_them = originals(seed)
    for number in range(count):
        original = draw.choice(all_of_them)
        c = deepcopy(original.certificate)
        fits = draw.random() < 0.75
        if number % 4 == 3:
            change = draw.choice(TEXTS)
            text = change(json.dumps(c), draw)
            if fits and len(text) < JUNK:
                try:
                    again = json.loads(text)
                    text = json.dumps(signed(again)) if isinstance(again, dict) else text
                except (ValueError, RecursionError):
                    fits = False
            yield change.__name__, fits, original, text.encode(errors="surrogatepass")
            continue
        name = "junk" if number % 400 == 0 else ""
        while rest(c) == rest(original.certificate):
            name = change_one(c, name, draw)
        yield name, fits, original, json.dumps(signed(c) if fits else c).encode()


def rest(c: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in c.items() if key != "sha256"}


def change_one(c: dict[str, Any], name: str, draw: random.Random) -> str:
    """One to three changes; what the first is called."""
    chosen = [junk] if name == "junk" else draw.choices(CHANGES, k=draw.choice([1, 1, 1, 2, 3]))
    for change in chosen:
        with suppress(
            KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError
        ):  # an earlier one left nothing
            change(c, draw)
    return chosen[0].__name__


# what comes of them


def outcome(content: bytes) -> tuple[str, Any]:
    """ "accepted", "refused" or "unreadable", or the name of an error that should not be; and the certificate."""
    try:
        certificate = read_certificate(BytesIO(content))
        return "accepted" if verify(certificate).accepted else "refused", certificate
    except DataError:
        return "unreadable", None
    except Exception as error:
        return f"fault: {type(error).__name__}: {error}"[:200], None


def fault_of(what: str, content: Any, original: Original) -> str | None:
    """Why an answer is wrong, if it is."""
    if what.startswith("fault"):
        return what
    if what == "accepted":
        kind = content.get("matrix", "P")
        if not true_of(content, fractions(content[kind], content["arithmetic"]), kind):
            return "a false certificate was accepted"
        kind = original.certificate.get("matrix", "P")
        try:
            same = verify(content, original.matrix, matrix=kind).accepted
        except DataError as error:
            return f"fault: {error}"
        if same and not true_of(content, fractions(original.matrix), kind):
            return "a certificate was accepted for a matrix that it is not true of"
    return None


def run(count: int, seed: int, commands: int, tell: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Counts by outcome and by kind of change, and the faults."""
    by_change: dict[str, Counter[str]] = {}
    totals: Counter[str] = Counter()
    digests: Counter[str] = Counter()
    faults, slowest, slowest_kind, told = [], 0.0, "", 0
    every = max(1, count // max(commands, 1))
    for number, (name, fits, original, content) in enumerate(mutants(count, seed)):
        began = time.perf_counter()
        what, certificate = outcome(content)
        seconds = time.perf_counter() - began
        if seconds > slowest:
            slowest, slowest_kind = seconds, name
        fault = fault_of(what, certificate, original) or (f"{seconds:.1f} s" if seconds > LONGEST else None)
        if commands and number % every == 0:
            told += 1
            fault = fault or command(content, what)
        if fault:
            faults.append({"number": number, "change": name, "fault": fault})
        by_change.setdefault(name, Counter())[what] += 1
        totals[what] += 1
        digests[what] += fits
        tell(number + 1)
    return {
        "count": count,
        "seed": seed,
        "outcomes": dict(totals),
        "of_these_with_a_digest_that_fits": dict(digests),
        "by_change": {name: dict(by_change[name]) for name in sorted(by_change)},
        "through_the_command_line": told,
        "slowest_s": round(slowest, 3),
        "slowest_change": slowest_kind,
        "faults": faults,
    }


def command(content: bytes, what: str) -> str | None:
    """Whether `mheight verify` exits as it should: 0, 1 or 2, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.json")
        path.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "moe_mheight", "verify", str(path), "-q"],
            capture_output=True,
            timeout=120,
            check=False,
        )
    wanted = {"accepted": 0, "refused": 1, "unreadable": 2}[what]
    if done.returncode != wanted:
        return f"exit code {done.returncode} for {what}: {done.stderr[-200:]!r}"
    said = done.stdout + done.stderr
    return f"more than a line: {said[:200]!r}" if said.count(b"\n") != 1 or b"Traceback" in said else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", type=int, default=60, help="how many of them through the command line")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "mutations.json")
    args = parser.parse_args()
    began = time.perf_counter()

    def tell(done: int) -> None:
        if done % 1000 == 0:
            print(f"{done:,} in {time.perf_counter() - began:.0f} s", flush=True)

    found = run(args.count, args.seed, args.commands, tell)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    ).stdout.strip()
    made = {
        "command": f"python benchmarks/mutate_certificates.py --count {args.count} --seed {args.seed}",
        "version": __version__,
        "commit": commit,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "seconds": round(time.perf_counter() - began, 1),
        **found,
    }
    write_file(args.out, (json.dumps(made, indent=2) + "\n").encode())
    print(json.dumps({key: made[key] for key in ("outcomes", "slowest_s", "faults")}, indent=2))
    raise SystemExit(1 if made["faults"] else 0)


if __name__ == "__main__":
    main()
