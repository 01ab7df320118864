"""The laboratory on the embedded model: the same from the same seed, exact where the dynamics are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from msgrpo_cli.algo.credit import CREDITS
from msgrpo_cli.cli.app import app
from msgrpo_cli.config.compose import compose
from msgrpo_cli.training.bench.credit import _aim, _gradient_figures, measure_credit

SMALL = ["algo.groups_per_update=4", "algo.group_size=8", "trainer.use_cpu=true"]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return measure_credit(compose("train", SMALL), batches=2, samples=4)


def test_every_credit_is_measured_beside_what_is_exact(found: dict[str, Any]) -> None:
    assert list(found["credits"]) == [*CREDITS, "optimal", "policy"]
    assert found["unknown"] == {}
    assert found["episodes"] == 2 * 4 * 8
    for exact in ("optimal", "policy"):
        assert found["credits"][exact][f"correlation_{exact}"] == pytest.approx(1.0)
    assert found["credits"]["policy"]["towards_policy_gradient"] == pytest.approx(1.0)
    assert found["credits"]["episode"]["correlation_policy"] > 0.1
    assert found["credits"]["step"]["correlation_policy"] < found["credits"]["episode"]["correlation_policy"]
    assert found["credits"]["optimal"]["zero_steps"] > 0.3, "most choices of a base that plays half well are right"


@pytest.mark.slow
def test_the_same_seed_finds_the_same_and_another_seed_does_not() -> None:
    def without_clock(one: dict[str, Any]) -> str:
        credits = {name: {**figures, "seconds": None} for name, figures in one["credits"].items()}
        return json.dumps({**one, "credits": credits, "seed": None})

    few = [*SMALL, "algo.groups_per_update=2"]
    one, again, other = (
        without_clock(measure_credit(compose("train", [*few, f"seed={seed}"]), batches=2, samples=2))
        for seed in (0, 0, 1)
    )
    assert one == again != other


def test_what_is_unknown_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["lab", "credit", "env=snake_8", *SMALL, "--batches", "2", "--samples", "2", "--out", str(out), "--json"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told == json.loads((out / "lab-credit.json").read_text())
    assert (out / "lab-credit.png").stat().st_size > 10_000
    assert list(told["credits"]) == list(CREDITS)
    assert set(told["unknown"]) == {"optimal", "policy"}
    assert told["credits"]["episode"]["correlation_policy"] is None
    assert told["samples_per_state"] is None


def test_a_table_for_people_fits_eighty_columns(tmp_path: Path) -> None:
    words = ["lab", "credit", *SMALL, "--batches", "2", "--samples", "2", "--out", str(tmp_path)]
    ended = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
    assert ended.exit_code == 0, ended.stderr
    assert "return_to_go" in ended.stdout
    assert "…" not in ended.stdout
    assert max(len(line) for line in ended.stdout.splitlines()[1:-1]) <= 88
    assert "(Qpi-Vpi)" in ended.stdout


def test_aim_by_hand() -> None:
    """Means (1, 0) and (1, 1): the cosine is 1 / sqrt 2; without an exact gradient there is none."""
    first = [np.array([1.0, 1.0]), np.array([1.0, -1.0])]
    exact = [np.array([2.0, 0.0]), np.array([0.0, 2.0])]
    assert _aim(first, exact)["towards_policy_gradient"] == pytest.approx(0.5**0.5)
    assert _aim(first, None)["towards_policy_gradient"] is None
    alike = _aim([np.array([1.0, 0.1 * i]) for i in range(4)], [np.array([1.0, 0.0])] * 4)
    low, high = alike["towards_policy_gradient_ci95"]
    assert low < alike["towards_policy_gradient"] < high < 1.0


def test_the_chosen_credit_is_measured_with_the_keys_that_are_given(found: dict[str, Any]) -> None:
    heavy = measure_credit(compose("train", [*SMALL, "algo.credit=gigpo", "algo.step_weight=9.0"]), 2, 4)
    for name in CREDITS:
        figures = [one["credits"][name]["correlation_policy"] for one in (found, heavy)]
        assert (figures[0] == figures[1]) == (name != "gigpo")


def test_gradients_by_hand() -> None:
    """Mean (1, 0); the spread is (0, 1) and (0, -1), so tr Var = 2, |E g|^2 = 1 - 2 / 2 = 0."""
    figures = _gradient_figures([np.array([1.0, 1.0]), np.array([1.0, -1.0])])
    assert figures["signal_to_noise"] == 0.0
    assert figures["cosine"] == pytest.approx(0.0)
    alike = _gradient_figures([np.array([2.0, 0.1]), np.array([2.0, -0.1]), np.array([2.0, 0.0])])
    assert alike["signal_to_noise"] == pytest.approx((4.0 - 0.01 / 3) / 0.01)
    assert alike["cosine"] > 0.99
