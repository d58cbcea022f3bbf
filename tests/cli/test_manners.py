"""Manners of the command line: on terminals of any width, in pipes, on other systems, and to those who mistype."""

import ast
import io
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from commands import ROWS, assert_refused, python, write_json
from moe_mheight.cli.main import COMMANDS
from moe_mheight.cli.progress import told_of_compiling

import moe_mheight
from moe_mheight import cli
from moe_mheight import models as shipped
from moe_mheight.numerics import jit

PACKAGE, COMMAND_LINE = Path(moe_mheight.__file__).parent, Path(cli.__path__[0])
MHEIGHT = [sys.executable, "-m", "moe_mheight"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

posix = pytest.mark.skipif(os.name == "nt", reason="needs a pty")


def environment(**changes):
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "TERM")}
    return kept | {"TERM": "xterm-256color"} | changes


def on_terminal(*arguments, columns, streams=("stdout", "stderr"), program=MHEIGHT, **changes):
    """What a command writes to standard output and to standard error, those of `streams` being terminals."""
    import fcntl
    import pty
    import termios
    import threading

    ends, outer, texts = {}, {}, {}
    for name in ("stdout", "stderr"):
        ends[name], outer[name] = pty.openpty() if name in streams else os.pipe()
        if name in streams:
            fcntl.ioctl(outer[name], termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(name):
        content = b""
        try:
            while some := os.read(ends[name], 65536):
                content += some
        except OSError:  # how a terminal says that the other side has gone
            pass
        texts[name] = content.decode().replace("\r\n", "\n")

    process = subprocess.Popen([*program, *map(str, arguments)], **outer, env=environment(**changes))
    for end in outer.values():
        os.close(end)
    readers = [threading.Thread(target=read, args=(name,)) for name in ends]
    try:
        for reader in readers:
            reader.start()
        code = process.wait(timeout=600)
    finally:
        process.kill()
        for reader in readers:
            reader.join()
        for end in ends.values():
            os.close(end)
    assert code == 0, texts
    return texts["stdout"], texts["stderr"]


def frames(text):
    """What a line of a terminal showed, one after the other."""
    return [frame.rstrip() for frame in re.split(r"[\r\n]", ESCAPE.sub("", text)) if frame.strip()]


# help


def test_help_imports_no_library():
    code = (
        "import sys\nfrom moe_mheight.cli.main import main\n"
        "heavy = {'torch', 'numpy', 'numba', 'sklearn', 'scipy', 'joblib', 'importlib.metadata'}\n"
        f"for command in {['', *COMMANDS]!r}:\n"
        "    sys.argv = ['mheight', *command.split(), '--help']\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "    assert not heavy & set(sys.modules), (command, heavy & set(sys.modules))\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def helped(mheight, monkeypatch):
    def run(command, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = mheight(*command.split(), "--help")
        assert (code, err) == (0, "")
        return out

    return run


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_terminal(command, helped):
    texts = {columns: helped(command, columns) for columns in (60, 80, 120, 200)}
    for columns, text in texts.items():
        assert max(map(len, text.splitlines())) <= min(columns, 100)
        assert text.isascii()
    assert len(texts[60].splitlines()) > len(texts[120].splitlines())  # it does follow the width
    assert texts[120] == texts[200]
    # the same words, also where a line of an example is broken for a shell
    words = {columns: shown.replace("\\\n", " ").split() for columns, shown in texts.items()}
    assert words[60] == words[80] == words[200]


def test_broken_examples_are_the_same_command(helped):
    def examples(columns):
        text = helped("generate", columns).partition("Examples:")[2].partition("Options:")[0]
        return [shlex.split(line) for line in text.replace("\\\n", "").strip().split("\n    mheight ")]

    assert "\\\n" in helped("generate", 60)
    assert examples(60) == examples(200)
    assert any("9,4,2" in words for words in examples(60))


def test_options_are_not_broken_at_hyphens(helped):
    for command in COMMANDS:
        for columns in range(60, 101, 5):
            assert not re.search(r"--?\w+(-\w+)*-\n", helped(command, columns))


@pytest.mark.slow
def test_python_m_is_the_same_program():
    done = python("-m", "moe_mheight", "generate", "--help", env=environment())
    assert done.stdout.startswith("Usage: mheight generate [OPTIONS]")
    script = Path(sys.executable).with_name("mheight")
    if script.exists():
        for arguments in (["--help"], ["exact", "--help"], ["--version"], ["nothing"]):
            one = subprocess.run(
                [script, *arguments], capture_output=True, text=True, check=False, env=environment(), timeout=600
            )
            other = python("-m", "moe_mheight", *arguments, env=environment())
            assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


# mistyped


@pytest.mark.parametrize(
    ("line", "near", "allowed"),
    [
        ("exact x --tollerance 3", "--tolerance", ""),
        ("predict x --rooter fixed", "--router", ""),
        ("train-expert --tier low --minuts 3", "--minutes", ""),
        ("exact x --matrix g", "mean G?", "'P', 'G', 'H'"),
        ("exact x --method serch", "mean search?", "'auto', 'bases', 'search'"),
        ("generate x.npz --kind fourrier", "mean fourier?", "'near-singular'"),
        ("generate x.npz --groups n_21", "mean n21?", "n9, n21 or like"),
        ("generate x.npz --backend lokky", "mean loky?", "loky, threading, dask"),
        ("train-expert --tier lo", "mean low?", "'low', 'medium', 'high', 'all'"),
        ("train-expert --tier low --view brackets", "mean bracket?", "'bracket', 'long', 'raw'"),
        ("train-expert --tier low --view raw --set network=gate", "mean gated?", "run1, gated, symmetric"),
        ("train-expert --tier low --view raw --set widht=8", "mean width?", ""),
        ("train-expert --tier low --view raw --set width", "like width=64", ""),
        ("train-expert --tier low --view raw --sett width=8", "--set", ""),
        ("train-expert --tier low --view raw --recipe rum1", "mean run1?", "'run1', 'run2', and no file"),
        ("train-expert --tier low --view raw --set weights=propos", "mean proposed?", "cannot read weights"),
        ("train-expert --tier low --view raw --set augment=smoot", "mean smote?", "noise"),
        ("predict x --router lerned", "mean learned?", "'fixed', 'learned', and no file"),
        ("ensemble-evla", "mean ensemble-eval?", ""),
    ],
)
def test_did_you_mean(line, near, allowed, mheight, folder):
    assert_refused(mheight(*line.split()), near, allowed)
    assert not list(folder.iterdir())


def test_a_word_that_is_no_word_names_no_other(mheight, folder):
    _, _, err = mheight("generate", "x.npz", "--kind", "zzz")
    assert "Did you mean" not in err


def test_two_files_that_differ_in_case_only(mheight, folder):
    """On macOS and Windows they are one."""
    assert_refused(mheight("generate", "Codes", "codes", "--rows", 2), "not only in case")


# terminals


@pytest.mark.slow
@posix
def test_no_colours(folder):
    """We have none, whether asked for none or not; progress moves the cursor, but on a dumb terminal."""
    arguments = ["generate", "codes.npz", "--rows", 3000, "--groups", "4,2,2"]
    dumb = on_terminal(*arguments, columns=80, TERM="dumb")[1]
    assert dumb.removeprefix(SLOWLY) == "wrote 3000 labelled codes to codes.npz\n"
    out, err = on_terminal(*arguments, "--force", columns=80)
    assert out == ""
    assert any("[##" in frame for frame in frames(err))
    assert "3000 codes" in err
    assert "\x1b" in err
    assert not COLOUR.search(err)
    for no_color in ({}, {"NO_COLOR": "1"}):
        out, err = on_terminal("exact", "codes.npz", columns=80, **no_color)
        assert out.startswith("3000 labels")
        assert "\x1b" not in out
        assert not COLOUR.search(err)
        out, err = on_terminal("exact", "--help", columns=80, **no_color)
        assert "\x1b" not in out + err


BAR = """
import time
from moe_mheight.cli.options import Output
from moe_mheight.cli.progress import Progress
with Progress(1000, "h_9", Output()) as bar:
    for step in range(20):
        bar.note = f"h_9 in [{40 + step}.1234567, 52.714]"
        bar.update(50)
        time.sleep(0.02)
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("columns", [60, 200])
def test_progress_stays_on_its_line(columns, folder):
    """Also when standard output is a file, and with a note as long as that of a search."""
    settings = {"columns": columns, "streams": ["stderr"]}
    _, err = on_terminal("-c", BAR, program=[sys.executable], **settings)
    shown = [frame for frame in frames(err) if frame.startswith("h_9  [")]
    assert len(shown) > 2
    assert max(map(len, shown)) < columns
    assert " 1000/1000 " in shown[-1]
    assert ("h_9 in [59.1234567, 52.714]" in shown[-1]) == (columns == 200)
    _, err = on_terminal("generate", "codes.npz", "--rows", 20_000, "--groups", "9,4,4;9,4,5", **settings)
    shown = [frame for frame in frames(err) if frame.startswith("40000 codes  [")]
    assert "40000/40000" in shown[-1]
    assert max(map(len, shown)) < columns
    assert ("[" + "#" * 30 + "]" in shown[-1]) == (columns == 200)


@pytest.mark.slow
@posix
def test_tables_fit_the_terminal(mheight, folder, models, monkeypatch):
    write_json(folder / "rows.json", ROWS * 5)
    arguments = ["predict", "rows.json", "--models", models, "--bounds", "--spread", "--interval", 0.9]
    monkeypatch.setenv("COLUMNS", "60")
    piped = mheight(*arguments)[1]
    head, *lines = piped.splitlines()
    assert len(lines) == 30
    assert on_terminal(*arguments, columns=200)[0] == piped
    narrow = on_terminal(*arguments, columns=60)[0]
    assert max(map(len, narrow.splitlines())) <= 60
    # every cell is there, beside its row's first one, below its column's name
    found = {}
    for band in narrow.strip().split("\n\n"):
        names, *rows = [line.split() for line in band.splitlines()]
        for name, *column in zip(*[names, *rows], strict=True):
            found.setdefault(name, []).append(column)
    columns = dict(zip(head.split(), zip(*[line.split() for line in lines], strict=True), strict=True))
    assert found.keys() == columns.keys()
    for name, cells in columns.items():
        repeated = 1 if name != "height" else len(found["height"]) // len(found["upper"])
        assert [cell for part in found[name][::repeated] for cell in part] == list(cells), name


@pytest.mark.slow
@posix
def test_an_explanation_fits_the_terminal(folder, models):
    np.savez("code.npz", P=np.random.default_rng(0).normal(size=(10, 10)))
    arguments = ["explain", "code.npz", "--m", 2, "--models", models]
    narrow, wide = (on_terminal(*arguments, columns=columns)[0] for columns in (60, 200))
    assert max(map(len, narrow.splitlines())) <= 60

    def words(text):
        return [word for word in text.split() if word != "s"][:20] + text.split()[-20:]

    assert max(map(len, wide.splitlines())) > 100
    assert words(narrow)[-20:] == words(wide)[-20:]


def test_a_table_in_a_pipe_has_any_width(monkeypatch):
    from moe_mheight.cli.printing import table

    rows = [[f"{i},{j}" * 10 for j in range(12)] for i in range(50)]
    monkeypatch.setenv("COLUMNS", "60")
    lines = table([f"column {i}" for i in range(12)], rows).splitlines()
    assert len(lines) == 51
    assert len(lines[1]) > 300


# pipes

CLOSED = """
import json, os, sys
lines, stream = json.loads(sys.argv[1]), int(sys.argv[2])
for line in sys.argv[3:]:
    exec(line)  # once for all
found = []
for number, line in enumerate(lines):
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        said = os.open(f"said{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 2)
        os.dup2(writes, stream)
        os.close(writes)
        sys.argv = ["mheight", *line]
        from moe_mheight.cli.main import main
        main()
    os.close(writes)
    if stream == 1 and number % 2:
        os.read(reads, 10)  # head -c 10
    os.close(reads)
    found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(found))
"""


KERNELS = """
import moe_mheight, moe_mheight.data.labelling, moe_mheight.proofs.certify
P = [[1.0, 1.0], [1.0, 2.0]]
moe_mheight.height_profile([P] * 64), moe_mheight.bounds(P, 2), moe_mheight.m_height(P, 2, details=True)
"""
"""What each of many commands would load anew."""


def quietly(lines, stream, *before):
    """Exit codes, and what stood on standard error, of commands whose readers leave at once or after 10 bytes."""
    done = python("-c", CLOSED, json.dumps([list(map(str, line)) for line in lines]), stream, *before)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), [Path(f"said{number}").read_text() for number in range(len(lines))]


def assert_nobody_minds(lines, *before):
    codes, said = quietly([[*line, "-q"] if "--help" not in line and line[1:] else line for line in lines], 1, *before)
    for line, code, text in zip(lines, codes, said, strict=True):
        assert (code, text) == (0 if line else 2, ""), line


@pytest.mark.slow
@posix
def test_readers_of_help_that_leave_early(folder):
    assert_nobody_minds([["--help"], ["--version"], [], *([name, "--help"] for name in COMMANDS)])


@pytest.mark.slow
@posix
def test_readers_that_leave_early(folder, models):
    """Of more than a pipe holds, and of less."""
    write_json(folder / "many.json", ROWS * 1000)
    write_json(folder / "labelled.json", ROWS * 1000, [2.0] * len(ROWS) * 1000)
    write_json(folder / "rows.json", ROWS)
    np.savez("code.npz", P=[[1, 1], [1, 2]])
    one_code = ["exact", "code.npz", "--matrix", "P"]
    lines = [["exact", "many.json"], ["exact", "many.json", "--json"], one_code, [*one_code, "--json"]]
    lines += [["exact", "labelled.json", "--show", 20000], ["exact", "labelled.json", "--json"]]
    lines += [[*one_code, "--m", 2, "--certificate", "proof.json"], ["verify", "proof.json"]]
    lines += [["verify", "proof.json", "--json"], ["generate", "codes.npz", "--rows", 5, "--json"]]
    assert_nobody_minds(lines, KERNELS)
    of = ["--models", models]
    lines = [["predict", "many.json", *of, *flags] for flags in ([], ["--json"], ["--bounds"])]
    lines += [["explain", "rows.json", "--row", 0, *of], ["explain", "rows.json", "--row", 0, "--json", *of]]
    lines += [["ensemble-eval", "rows.json", *of], ["ensemble-eval", "rows.json", "--json", *of]]
    assert_nobody_minds(lines, KERNELS, "import moe_mheight.ensemble.predictor, moe_mheight.evaluation.scoring")


@pytest.mark.slow
@posix
def test_a_verdict_nobody_reads_stands(mheight, folder, models):
    """As in `mheight exact --check rows heights | head -3`, of more than a pipe holds and of less."""
    write_json(folder / "wrong.json", ROWS * 1500, [2.0] * len(ROWS) * 1500)
    write_json(folder / "rows.json", ROWS)
    criteria = {"format": "moe_mheight criteria 1", "criteria": [{"figure": "macro", "below": 1e-300, "label": "all"}]}
    (folder / "criteria.json").write_text(json.dumps(criteria), encoding="utf-8")
    np.savez("code.npz", P=[[1, 1], [1, 2]])
    assert mheight("exact", "code.npz", "--m", 2, "--certificate", "proof.json", "-q")[0] == 0
    proof = Path("proof.json").read_text(encoding="utf-8")
    Path("false.json").write_text(proof.replace('"height": "3"', '"height": "2"'), encoding="utf-8")
    wrong = (
        "exact wrong.json --check --show 20000",
        f"ensemble-eval rows.json --models {models} --criteria criteria.json",
        "verify false.json",
    )
    asked = [[*line.split(), *flags, "-q"] for flags in ([], ["--json"]) for line in wrong]
    codes, said = quietly(asked, 1, KERNELS, "import moe_mheight.ensemble.predictor, moe_mheight.evaluation.scoring")
    assert codes == [1] * 6
    assert set(said) == {""}


@pytest.mark.slow
@posix
def test_a_reader_that_leaves_in_the_middle_changes_no_verdict(folder):
    write_json(folder / "wrong.json", ROWS * 3000, [2.0] * len(ROWS) * 3000)
    line = [*MHEIGHT, "exact", "wrong.json", "--check", "--show", "20000", "-q"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline().startswith(b"18000 labels")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=300) == 1
    finally:
        process.kill()
        process.stderr.close()


@pytest.mark.slow
@posix
def test_nobody_reads_standard_error(folder):
    lines = [["generate", "codes.npz", "--rows", 5], ["exact", "missing"], ["nonsense"]]
    codes, _ = quietly(lines, 2)
    assert codes == [0, 2, 2]
    assert Path("codes.npz").exists()


@pytest.mark.slow
def test_progress_in_a_file_is_silent_or_json(mheight, folder):
    arguments = ["generate", "--rows", 100_000, "--groups", "9,4,2;9,4,3;9,4,4", "--threads", 1]
    for flags, silent in (["codes.npz"], True), (["more.npz", "--json"], False):
        code, _, err = mheight(*arguments, *flags)  # standard error is a file here
        assert code == 0
        lines = err.splitlines()
        if silent:
            assert lines == ["wrote 300000 labelled codes to codes.npz"]
        else:
            assert all(json.loads(line)["format"] == "moe_mheight progress 1" for line in lines)


# Ctrl-C


def struck_twice(told):
    """An exception amid the compiler would harm it, so Python's own waits for the end however often one strikes."""
    with jit.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        told.append("end")


def test_ctrl_c_is_kept_while_something_compiles():
    """Whoever handled it before handles it when the kernel is done, or one that it calls; a second one goes there at
    once."""
    told = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    mine = signal.getsignal(signal.SIGINT)
    try:
        with jit.uninterrupted():
            pass
        assert told == []
        with jit.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert told == []
        assert told == [signal.SIGINT]
        told.clear()
        with jit.uninterrupted():
            with jit.uninterrupted():
                signal.raise_signal(signal.SIGINT)
                assert len(jit.COMPILING) == 2
                assert told == []
            assert told == [signal.SIGINT]
        assert told == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
        with suppress(ZeroDivisionError), jit.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError
        assert len(told) == 2
        with jit.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert len(told) == 3
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            struck_twice(told)
        assert told.pop() == "end"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with jit.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert jit.COMPILING == []


def test_only_the_main_thread_keeps_ctrl_c():
    handlers = []

    def elsewhere():
        with jit.uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [before]
    assert jit.COMPILING == []


def test_compiling_before_a_search_hands_ctrl_c_on(monkeypatch):
    """The search itself answers with its bracket, which nobody asks for here."""
    from moe_mheight.exact import branch_and_bound

    stopped = types.SimpleNamespace(ended="interrupt")
    monkeypatch.setattr(branch_and_bound, "search_height", lambda *_, **__: (stopped, []))
    with pytest.raises(KeyboardInterrupt):
        branch_and_bound._compile.__wrapped__()


def test_ctrl_c_does_not_wait_for_other_threads():
    """They may be compiling. What waits in the queue is not done."""
    begun, done, go = [], [], threading.Event()

    def work(start, stop):
        begun.append(start)
        if start == 0:
            raise KeyboardInterrupt
        go.wait(300)
        done.append(start)

    try:
        with pytest.raises(KeyboardInterrupt):
            jit.side_by_side(work, [(i, i + 1) for i in (0, 1, 2, 3, 4, 5)], 2)
        assert done == []
    finally:
        go.set()
    assert set(begun) <= {0, 1, 2}


COLD = """
import os, signal, sys, threading, time
import moe_mheight.numerics.jit as kernels
from moe_mheight.cli.main import main

def strikes(count):
    # main must have its handler, and a kernel must be compiling
    while not (kernels.COMPILING and signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        time.sleep(0.001)
    for _ in range(count):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

def forever():
    with kernels.uninterrupted():
        time.sleep(600)

def stuck(*_, **__):
    forever()

def stuck_elsewhere(*_, **__):
    kernels.side_by_side(lambda start, stop: forever(), [(0, 1), (1, 2)], 2)

def raises_in_an_exec(*_, **__):
    exec("raise KeyboardInterrupt")

def amid_an_import(*_, **__):
    import struck

how, count, *sys.argv[1:] = sys.argv[1:]
if how != "kernel":
    import moe_mheight.data.labelling
    moe_mheight.data.labelling.exact_heights = globals()[how]
threading.Thread(target=strikes, args=(int(count),), daemon=True).start()
main()
"""


SLOWLY = "compiling for this machine, once: some 10 to 20 seconds\n"
"""What may stand on standard error before anything else, on a machine with much to do."""


def struck(folder, script, *arguments):
    """What becomes of a command that a script strikes, with nothing compiled yet: without SLOWLY."""
    done = python("-c", script, *arguments, env=environment(NUMBA_CACHE_DIR=str(folder / "cold")))
    return done.returncode, done.stdout, done.stderr.removeprefix(SLOWLY)


@pytest.mark.slow
@posix
@pytest.mark.parametrize("how", ["stuck 2", "stuck_elsewhere 1", "raises_in_an_exec 0", "amid_an_import 0"])
def test_ctrl_c_ends_the_command(how, folder):
    """In the main thread the second one, where the compiler does not come to an end; in others already the first."""
    write_json(folder / "rows.json", ROWS)
    # some modules take an exception for something to survive, or end the process with it
    module = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: os.abort()\n"
    (folder / "struck.py").write_text(module, encoding="utf-8")
    assert struck(folder, COLD, *how.split(), "exact", "rows.json") == (130, "", "interrupted\n")


@pytest.mark.slow
@posix
def test_ctrl_c_while_a_kernel_compiles(folder):
    np.savez("code.npz", P=np.arange(1.0, 21.0).reshape(4, 5) ** 1.5)
    line = ["exact", "code.npz", "--matrix", "P", "--m", 2]
    assert struck(folder, COLD, "kernel", 1, *line) == (130, "", "interrupted\n")


SOME_TIME = """
import os, signal, sys, threading, time
from moe_mheight.__main__ import main

def strike(pause):
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=strike, args=(float(sys.argv.pop(1)),), daemon=True).start()
main()
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("line", ["exact code.npz --m 3", "predict rows.json"])
def test_ctrl_c_at_any_moment(line, mheight, folder, rng):
    """Amid the imports, then at random: interrupted and no answer, or the whole answer, as if nothing had happened."""
    np.savez("code.npz", P=rng.normal(size=(4, 5)))
    write_json(folder / "rows.json", [[9, 4, 3, rng.normal(size=(4, 5)).tolist()] for _ in range(200)])

    def but_the_time(code, out, err):
        return code, re.sub(r"[0-9.]+ s\)", "s)", out), err

    code, out, _ = answer = but_the_time(*mheight(*line.split()))
    assert code == 0
    assert out
    interrupted = (130, "", "interrupted\n")
    assert struck(folder, SOME_TIME, 0, *line.split()) == interrupted
    for pause in rng.uniform(0.0, 8.0, 2):
        assert but_the_time(*struck(folder, SOME_TIME, pause, *line.split())) in (interrupted, answer)


LATE = """
import atexit, os, signal, sys
from moe_mheight.__main__ import main
from moe_mheight.cli import main as command_line

def strike(kill=os.kill, own=os.getpid(), number=signal.SIGINT):
    kill(own, number)

class Last:  # when Python has taken its handlers back
    __del__ = lambda self, strike=strike: strike()

how, *sys.argv[1:] = sys.argv[1:]
told_of_compiling = command_line.told_of_compiling
if how == "amid what follows":
    class Told:
        def __init__(self, *arguments):
            self.told = told_of_compiling(*arguments)
        def __enter__(self):
            self.told.__enter__()
        def __exit__(self, *error):
            strike()
            self.told.__exit__(*error)
    command_line.told_of_compiling = Told
elif how == "at exit":
    atexit.register(strike)
else:
    last = Last()
main()
"""


@posix
@pytest.mark.slow
def test_ctrl_c_comes_too_late(mheight, folder):
    """The answer is out: neither another exit code nor death by a signal."""
    write_json(folder / "rows.json", ROWS)
    answer = mheight("exact", "rows.json")
    for how in ("amid what follows", "at exit", "in the end"):
        done = python("-c", LATE, how, "exact", "rows.json")
        assert (done.returncode, done.stdout, done.stderr) == answer, how
        refused = python("-c", LATE, how, "exact", "none.json")
        assert (refused.returncode, refused.stdout) == (2, ""), how
        assert refused.stderr.count("\n") == 1, how


# other systems


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = node.func.value.id if isinstance(getattr(node.func, "value", None), ast.Name) else ""
            yield node, name, owner


def in_bytes(call):
    """Whether a call of open has a mode with b in it."""
    modes = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and "b" in mode.value for mode in modes)


def without_encoding(path):
    for call, name, owner in calls(path):
        given = {keyword.arg for keyword in call.keywords}
        own = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)  # super().write_text
        text = name in ("read_text", "write_text", "TextIOWrapper") and not (own and call.func.value.func.id == "super")
        text |= name in ("open", "fdopen") and owner not in ("archive", "os") and not in_bytes(call)
        text |= name in ("run", "Popen", "check_output") and bool({"text", "universal_newlines"} & given)
        if text and "encoding" not in given:
            yield f"{path.name}:{call.lineno}"


SOURCES = sorted([*PACKAGE.rglob("*.py"), *COMMAND_LINE.glob("*.py")])


@pytest.mark.slow
def test_text_has_an_encoding(tmp_path):
    """Windows would take a code page."""
    assert len(SOURCES) > 60
    assert [place for path in SOURCES for place in without_encoding(path)] == []
    bad = tmp_path / "bad.py"
    bad.write_text("open(p)\np.read_text()\nopen(p, 'rb')\nopen(p, 'w', encoding='utf-8')\nrun(a, text=True)\n")
    assert list(without_encoding(bad)) == ["bad.py:1", "bad.py:2", "bad.py:5"]


@pytest.mark.slow
def test_what_other_systems_lack_is_guarded():
    """Signals, forks and locks of POSIX: only where the module asks for the system first."""
    for path in SOURCES:
        names = {(owner, name) for _, name, owner in calls(path)}
        assert not names & {("os", "fork"), ("os", "kill"), ("os", "killpg"), ("signal", "alarm")}, path
        text = path.read_text(encoding="utf-8")
        for word in ("fcntl", "msvcrt", "getppid"):
            assert word not in text or "os.name" in text, (path, word)


def test_names_of_files_are_portable(mheight, folder):
    from ablation.rows import TABLE, stem

    assert mheight("generate", "set", "--rows", 9, "--jobs", 1, "-q")[0] == 0
    names = [path.name for path in [*Path("set").rglob("*"), *PACKAGE.rglob("*.py")]]
    names += [path.name for path in Path(shipped.__path__[0]).rglob("*")]
    names += [stem(row.name) for row in TABLE] + [stem('a:b*c?"<d>|/\\e')]
    assert len(names) > 30
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*[A-Za-z0-9_-]", name) for name in names), names
    assert len({stem(row.name).casefold() for row in TABLE}) == len(TABLE)


def test_a_code_page_without_the_letters(mheight, folder, monkeypatch):
    write_json(folder / "table.json", [{"name": "\u03c1 \u6f22", "settings": {}, "originals": 5}])
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        code, _, err = mheight("ablation", "--table", "table.json", "--list")
    assert (code, err) == (0, "")
    assert rb"\u03c1 \u6f22" in out.buffer.getvalue()


def test_what_commands_print_is_ascii(mheight, folder, models):
    path = write_json(folder / "rows.json", ROWS)
    for line in (
        ["explain", path, "--row", 0, "--models", models],
        ["ensemble-eval", path, "--models", models],
        ["ablation", "--list"],
        ["exact", write_json(folder / "wrong.json", ROWS, [2.0] * len(ROWS))],
    ):
        code, out, err = mheight(*line)
        assert code == 0
        assert out.isascii(), line
        assert err.isascii(), line


SPAWN = """
import sys
from joblib.externals.loky.backend.context import get_context, set_start_method
from moe_mheight.cli.main import main
if __name__ == "__main__":
    set_start_method("spawn")
    assert get_context().get_start_method() == "spawn"
    sys.argv = ["mheight", *sys.argv[1:]]
    main()
"""


@pytest.mark.slow
def test_workers_that_are_spawned(mheight, folder):
    """As on macOS and Windows, where nothing is inherited."""
    Path("spawn.py").write_text(SPAWN, encoding="utf-8")
    arguments = ["generate", "--rows", 40, "--groups", "9,4,2;9,4,3", "--shard-rows", 20, "-q"]
    done = python("spawn.py", *arguments, "--jobs", 2, "set")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mheight(*arguments, "--jobs", 1, "same")[0] == 0
    names = sorted(path.name for path in Path("set").glob("*.npz"))
    assert len(names) == 4
    assert all(Path("set", name).read_bytes() == Path("same", name).read_bytes() for name in names)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="closes streams as a POSIX shell does")
@pytest.mark.parametrize(
    ("closed", "commands"),
    [
        (">&-", ["predict codes.json", "generate --help"]),
        ("2>&-", ["exact codes.json", "generate --help"]),
        (">&- 2>&-", ["exact codes.json", "predict codes.json"]),
    ],
)
def test_streams_that_are_closed(folder, closed, commands):
    (folder / "codes.json").write_text("[[4, 2, 2, [[1, 1], [1, 2]]]]", encoding="utf-8")
    for command in commands:
        line = f"{shlex.quote(sys.executable)} -m moe_mheight {command} {closed}"
        done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0), (0.6, 1)])
def test_one_line_says_that_kernels_compile(seconds, told, monkeypatch, capfd):
    """After LONG seconds of compiling, not of other work, and once however long it goes on."""
    monkeypatch.setattr("moe_mheight.cli.progress.LONG", 0.2)
    until = time.monotonic() + seconds
    with told_of_compiling(lambda: [1] if time.monotonic() < until else [], quiet=False):
        time.sleep(1.0)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == told
    assert all(line.startswith("compiling for this machine") for line in lines)


def test_compiling_is_not_told_of_to_those_who_want_quiet(monkeypatch, capfd):
    monkeypatch.setattr("moe_mheight.cli.progress.LONG", 0.2)
    with told_of_compiling(lambda: [1], quiet=True):
        time.sleep(0.6)
    assert capfd.readouterr().err == ""
