"""Torch's threads are borrowed and given back; many threads that predict, solve and search at once disturb nobody."""

import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from ablation import runs as ablation
from ablation.rows import Row
from tiny_models import tiny_models

from moe_mheight import Predictor, bounds, height_profile, m_height, random_codes
from moe_mheight.errors import ModelError
from moe_mheight.experts import training
from moe_mheight.experts.network import Architecture
from moe_mheight.experts.torch_threads import on_threads
from moe_mheight.raw import training as raw_training
from moe_mheight.raw.data import Part, Split
from moe_mheight.raw.recipe import RawRecipe

LATEST = 120.0
"""Seconds that no wait here should ever take."""


def in_fresh_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(LATEST)


@pytest.fixture
def three():
    """A number of torch's threads that nobody would set by chance, in this thread and for the process."""
    numba.get_num_threads()  # the first call starts numba's own threads, which changes this thread's number
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    left = torch.get_num_threads(), in_fresh_thread(torch.get_num_threads)
    torch.set_num_threads(before)
    assert left == (3, 3)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor.load(tiny_models(tmp_path_factory.mktemp("models")))


def at_once(work, count):
    """work(i) in `count` threads that start together; their results."""
    ready = threading.Barrier(count)

    def one(i):
        ready.wait(LATEST)
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return [done.result(LATEST) for done in [pool.submit(one, i) for i in range(count)]]


@pytest.mark.slow
def test_predictions_at_once_leave_torch_as_it_was(three, predictor, rng):
    P = random_codes("normal", 3, 5, 6, rng)

    def work(i):
        before = torch.get_num_threads()
        for _ in range(5):
            predictor.predict(P, 5, budget=50)
        return before, torch.get_num_threads()

    assert at_once(work, 4) == [(three, three)] * 4
    # the fixture looks at this thread and at new ones


def test_passes_have_the_threads_that_were_asked_for(three):
    assert on_threads(1, torch.get_num_threads) == 1
    assert on_threads(2, torch.get_num_threads) == 2
    assert on_threads(2, on_threads, 1, torch.get_num_threads) == 1  # and those of another number inside
    assert on_threads(1, in_fresh_thread, torch.get_num_threads) == 1  # also in threads started meanwhile


def test_the_least_number_holds_while_it_is_wanted(three):
    began, end = threading.Event(), threading.Event()

    def long():
        began.set()
        return end.wait(LATEST)

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(on_threads, 1, long)
        try:
            assert began.wait(LATEST)
            assert on_threads(2, in_fresh_thread, torch.get_num_threads) == 1
        finally:
            end.set()
        assert one.result(LATEST)


@pytest.mark.parametrize("error", [ValueError("what"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_errors_come_out_and_leave_torch_as_it_was(three, error):
    def work():
        raise error

    with pytest.raises(type(error)) as caught:
        on_threads(1, work)
    assert caught.value is error


@pytest.mark.skipif(os.name == "nt", reason="sends itself a signal")
def test_an_interrupt_reaches_the_work(three):
    began, reached = threading.Event(), []

    def work():
        began.set()
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            reached.append(torch.get_num_threads())
            raise

    def interrupt():
        began.wait(LATEST)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        on_threads(1, work)
    thread.join(LATEST)
    assert reached == [1]


def broken(*_, **__):
    raise KeyboardInterrupt


def test_a_training_that_ends_early_leaves_torch_as_it_was(three, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "chunk", broken)
    member = training.Member(training.Recipe(tier="low", chunks=2), "seed", 0, 1, "cpu")
    with pytest.raises(KeyboardInterrupt):
        training.advance((member, training.Stage()))
    with pytest.raises(KeyboardInterrupt):
        training.plan_chunks(member.recipe, 1.0, 1, 1)
    with pytest.raises(ModelError, match="minutes"):
        training.train_tier("low", tmp_path, minutes=-1.0, architecture=Architecture(width=8))


def codes_of(group, count, rng):
    n, k, m = group
    P = random_codes("normal", count, k, n - k, rng)
    return (Part(group, P, np.log2(m_height(P, m))),)


def test_a_raw_training_and_an_ablation_that_end_early_leave_torch_as_it_was(three, tmp_path, monkeypatch, rng):
    data = Split(codes_of((5, 2, 1), 20, rng), codes_of((5, 2, 1), 10, rng))
    monkeypatch.setattr(raw_training, "build", broken)
    recipe = RawRecipe(width=8, blocks=1, epochs=1)
    member = raw_training.Member(recipe, data.training, data.training, data.validation, 0, 1)
    with pytest.raises(KeyboardInterrupt):
        raw_training.advance((member, raw_training.Stage()))
    row = Row(name="one", part="one", settings={"epochs": 1, "width": 8, "blocks": 1}, originals=20, scope="all")
    with pytest.raises(KeyboardInterrupt):
        ablation.run((row, 0), data, tmp_path, {})


# many threads at once

KINDS = ("normal", "near-singular", "small-integer")


def calls(predictor, rng):
    """Mixed calls, by name: what each gives depends on nothing but its codes."""
    P = np.concatenate([random_codes(kind, 4, 4, 5, rng) for kind in KINDS])
    long = random_codes("normal", 2, 5, 6, rng)
    small = [[code.tolist()] if code.ndim == 1 else code.tolist() for code in random_codes("integer", 2, 3, 3, rng)]
    return {
        "predict": lambda: predictor.predict(P, 2),
        "one": lambda: np.array([predictor.predict(code, 3) for code in P[:2]]),
        "budget": lambda: predictor.predict(long, 5, budget=50),
        "interval": lambda: np.array(predictor.predict_interval(P, 2)),
        "profile": lambda: height_profile(P),
        "search": lambda: np.array([m_height(code, 2, method="search") for code in small]),
        "bounds": lambda: np.array(bounds(P, 3)),
    }


def settings():
    return {
        "torch": (torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled()),
        "numba": (numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "numpy": np.geterr(),
        "hooks": (threading.excepthook,),
    }


@pytest.mark.parametrize("rounds", [4, pytest.param(29, marks=pytest.mark.slow)])
def test_eight_threads_of_mixed_calls(three, predictor, rng, rounds):
    """8 x 28 calls, and 8 x 203 in the slow suite; each thread begins elsewhere."""
    work = calls(predictor, rng)
    names = list(work)
    alone = {name: call() for name, call in work.items()}
    before = settings(), in_fresh_thread(settings)

    def one(number):
        wrong, inside = [], settings()
        for _ in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                wrong += [] if np.array_equal(work[name](), alone[name], equal_nan=True) else [name]
        return wrong, settings() == inside

    assert at_once(one, 8) == [([], True)] * 8
    assert (settings(), in_fresh_thread(settings)) == before
