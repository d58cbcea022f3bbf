"""Scores: bounds that do not hold are counted, in a report and on the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from moe_mheight.cli import ensemble_eval, options

from moe_mheight import m_height
from moe_mheight.brackets.bounds import bounds
from moe_mheight.evaluation.scoring import default_data, evaluate
from moe_mheight.experts.measurement import Measurement

GROUP = (6, 3, 2)


class Wrong:
    """Right predictions, and bounds that fail for the first codes of a batch: as `faults` say, one after another."""

    def __init__(self, faults):
        self.faults = faults

    def predict(self, P, m=None, *, threads=None):
        return m_height(P, m)

    def bounds(self, P, m, *, threads=None):
        return bounds(P, m)

    def measure(self, P, m, *, threads=None):
        h = m_height(P, m)
        finite = np.isfinite(h)
        measured = replace(
            Measurement.unknown(len(P)), height=h, lower=h.copy(), upper=h.copy(), tightest_lower=h.copy(),
            tightest_upper=h.copy(), routed=finite,
        )  # fmt: skip
        for row, (name, factor) in zip(np.flatnonzero(finite), self.faults, strict=False):
            getattr(measured, name)[row] *= factor
        return measured

    def __call__(self, n, k, m, matrices):
        return [float(h) for h in self.predict(np.array(matrices), m)]


FAULTS = [("lower", 1 + 1e-9), ("upper", 1 - 1e-9), ("tightest_lower", 1.5), ("tightest_upper", 0.5)]


@pytest.mark.parametrize("count", range(len(FAULTS) + 1))
def test_bounds_that_fail_are_counted(count):
    data = default_data(20, 1, (GROUP,))
    (score,) = evaluate(Wrong(FAULTS[:count]), data).scores
    assert score.violations == count
    assert score.infinite_false == 0
    assert score.log2_mse < 1e-20
    looser = [("lower", 0.5), ("tightest_upper", 2.0)]  # bounds that are only loose hold
    assert evaluate(Wrong(FAULTS[:count] + looser), data).scores[0].violations == count


def test_the_command_shows_them(monkeypatch):
    monkeypatch.setattr(options.Ensemble, "load", lambda _: Wrong(FAULTS))
    arguments = ["--groups", ",".join(map(str, GROUP)), "--rows", "20", "--show", "0"]
    done = CliRunner().invoke(ensemble_eval.command, [*arguments, "--json"], catch_exceptions=False)
    assert [group["violations"] for group in json.loads(done.stdout)["groups"]] == [len(FAULTS)]
