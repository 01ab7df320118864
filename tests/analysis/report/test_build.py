"""What runs say together: groups, scores, rankings, what is missing; from copies of a run that was really trained."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from msgrpo_cli.analysis.report.build import report_on
from msgrpo_cli.analysis.report.figures import figures_of
from msgrpo_cli.analysis.report.findings import ranking
from msgrpo_cli.analysis.report.records import Report
from msgrpo_cli.analysis.report.text import show
from msgrpo_cli.cli.app import main
from msgrpo_cli.errors import UsageError
from support.run_copies import change_json, copy_of, seeds_of, sweep_json

LOW, HIGH = [0.10, 0.15, 0.20, 0.12], [0.80, 0.85, 0.90, 0.82]


def two_groups(run: Path, to: Path, low: list[float] = LOW, high: list[float] = HIGH) -> list[Path]:
    return [
        *seeds_of(run, to, "low", low, algo__sample_fraction=0.25),
        *seeds_of(run, to, "high", high, algo__sample_fraction=0.75),
    ]


def test_groups_are_equal_in_everything_but_the_seed(finished_run: Path, tmp_path: Path) -> None:
    report = report_on(two_groups(finished_run, tmp_path))
    assert [(group.letter, group.label, group.seeds) for group in report.groups] == [
        ("A", "algo.sample_fraction=0.25", (0, 1, 2, 3)),
        ("B", "algo.sample_fraction=0.75", (0, 1, 2, 3)),
    ]
    assert dict(report.differences) == {"algo.sample_fraction": ("0.25", "0.75")}
    score = report.groups[0].scores["total_reward"]
    assert score is not None
    assert score.mean == pytest.approx(0.1425)
    assert score.interquartile_mean == pytest.approx(0.135)
    assert score.ci95 is not None
    assert 0.10 <= score.ci95[0] < 0.1425 < score.ci95[1] <= 0.20


def test_a_note_makes_no_group(finished_run: Path, tmp_path: Path) -> None:
    runs = [copy_of(finished_run, tmp_path / str(seed), config={"seed": seed, "note": str(seed)}) for seed in (0, 1)]
    assert [group.seeds for group in report_on(runs).groups] == [(0, 1)]


def test_apart_intervals_are_ranked(finished_run: Path, tmp_path: Path) -> None:
    report = report_on(two_groups(finished_run, tmp_path))
    assert ranking(report) == ["B is above A in total reward: the intervals do not overlap."]
    [pair] = report.comparisons
    assert (pair.probability_of_improvement, pair.verdict) == (0.0, "below")


def test_few_seeds_are_told(finished_run: Path, tmp_path: Path) -> None:
    lines = ranking(report_on(two_groups(finished_run, tmp_path, LOW[:3], HIGH[:3])))
    assert "with 3 and 3 seeds even complete separation has p = 0.10" in lines[0]


@pytest.mark.parametrize(
    ("high", "reason"),
    [
        ([0.11, 0.3, 0.2, 0.1], "the intervals overlap"),
        ([0.9], "B has one seed, so no interval over seeds exists"),
        ([0.9, 0.9], "B scores alike with every seed, so no interval over seeds exists"),
    ],
)
def test_no_ranking_says_so(finished_run: Path, tmp_path: Path, high: list[float], reason: str) -> None:
    report = report_on(two_groups(finished_run, tmp_path, high=high))
    assert ranking(report) == ["No ranking.", f"Not ranked: A and B ({reason})."]


def test_other_games_are_compared_by_normalised_score_or_not_at_all(finished_run: Path, tmp_path: Path) -> None:
    runs = [
        *seeds_of(finished_run, tmp_path, "one", LOW),
        *seeds_of(finished_run, tmp_path, "other", HIGH, env__name="lake", env__p=0.9),
    ]
    report = report_on(runs)
    assert [group.label for group in report.groups] == ["env=frozenlake", "env=lake"]
    assert report.comparisons[0].measure == "normalized_score"
    assert "different games" in report.comparisons[0].reason
    for run in runs[4:]:
        change_json(run / "eval" / "best.json", normalized_score=None, normalized_reason="none is known")
    [pair] = report_on(runs).comparisons
    assert (pair.verdict, pair.measure) == ("not compared", None)
    assert "B has no normalised score: none is known" in pair.reason


def test_a_game_of_the_same_name_with_other_keys_is_another_game(finished_run: Path, tmp_path: Path) -> None:
    runs = [*seeds_of(finished_run, tmp_path, "a", LOW), *seeds_of(finished_run, tmp_path, "b", HIGH, env__p=0.9)]
    assert [group.game for group in report_on(runs).groups] == ["frozenlake (env.p=0.8)", "frozenlake (env.p=0.9)"]


def mixed(run: Path, to: Path, *games: str, weights: list[int] | None = None, size: int = 4) -> Path:
    """A copy that played a mixture, and each game by its whole block."""
    blocks = [{"name": name, "id": f"msgrpo/{name}", "max_steps": 8, "size": size} for name in games]
    env = {"name": "mix", "id": "msgrpo/Mix-v0", "max_steps": 8, "games": blocks, "weights": weights}
    return copy_of(run, to, config={"env": env}, record={"overrides": ["env=mix", f"env.games=[{','.join(games)}]"]})


def test_a_mixture_is_told_by_the_names_of_its_games(finished_run: Path, tmp_path: Path) -> None:
    report = report_on(
        [
            mixed(finished_run, tmp_path / "a", "frozenlake", "taxi"),
            mixed(finished_run, tmp_path / "b", "frozenlake", "snake_8", weights=[1, 3]),
        ]
    )
    assert [group.game for group in report.groups] == [
        "mix (env.games=[frozenlake,taxi], env.weights=null)",
        "mix (env.games=[frozenlake,snake_8], env.weights=[1,3])",
    ]
    assert report.groups[1].label == "env.games=[frozenlake,snake_8]"
    assert dict(report.differences) == {
        "env.games": ("[frozenlake,taxi]", "[frozenlake,snake_8]"),
        "env.weights": ("null", "[1,3]"),
    }


def test_mixtures_of_the_same_names_differ_in_the_keys_of_their_games(finished_run: Path, tmp_path: Path) -> None:
    runs = [mixed(finished_run, tmp_path / str(size), "frozenlake", "taxi", size=size) for size in (4, 5)]
    report = report_on(runs)
    assert len({group.game for group in report.groups}) == 2
    assert set(report.differences) == {"env.games.frozenlake.size", "env.games.taxi.size"}


def test_long_values_are_cut_where_they_are_shown(finished_run: Path, tmp_path: Path) -> None:
    runs = [
        copy_of(finished_run, tmp_path / name, config={"prompt.system": f"{name}\n" + "word " * 100}) for name in "ab"
    ]
    report, out = report_on(runs), io.StringIO()
    show(report, Console(file=out, width=200))
    assert "A: a word word" in out.getvalue() and "word ..." in out.getvalue()
    assert out.getvalue().count("word") < 80
    assert report.differences["prompt.system"][0].count("word") == 100


def test_one_seed_on_a_side_has_no_probability(finished_run: Path, tmp_path: Path) -> None:
    report = report_on(two_groups(finished_run, tmp_path, LOW, [0.9]))
    assert [pair.probability_of_improvement for pair in report.comparisons] == [None]
    assert not [figure for figure in figures_of(report) if figure.id.startswith("improvement")]


def test_what_a_choice_brings_along_is_not_in_the_label(finished_run: Path, tmp_path: Path) -> None:
    runs = [
        *seeds_of(finished_run, tmp_path, "a", LOW),
        *seeds_of(finished_run, tmp_path, "b", HIGH, model__name="large", model__path="far", rollout__temperature=0.7),
    ]
    report = report_on(runs)
    assert [group.label for group in report.groups] == ["model=tiny", "model=large"]
    assert set(report.differences) == {"model.name", "model.path", "rollout.temperature"}
    for run in runs:  # but what was typed is
        change_json(run / "run.json", overrides=["rollout.temperature=0.7"])
    assert report_on(runs).groups[1].label == "model=large, rollout.temperature=0.7"


def test_a_seed_that_was_run_again_counts_once(finished_run: Path, tmp_path: Path) -> None:
    runs = seeds_of(finished_run, tmp_path, "first", [0.1, 0.2])
    later = {"start": "2999-01-01T00:00:00+00:00"}
    again = copy_of(runs[0], tmp_path / "again", record=later, final={"mean_total_reward": 0.7})
    report = report_on([*runs, again])
    score = report.groups[0].scores["total_reward"]
    assert score is not None
    assert score.values == (0.7, 0.2)
    assert any("left out: first-0" in note for note in report.notes)


def test_what_is_not_done_is_named_and_not_counted(finished_run: Path, tmp_path: Path) -> None:
    seeds_of(finished_run, tmp_path, "done", [0.1, 0.3])
    record = {"status": "failed", "error": "RunError: no\nroom"}
    copy_of(finished_run, tmp_path / "lost", config={"seed": 2}, record=record)
    gone = {"status": "running", "pid": 2**22 + 1}
    copy_of(finished_run, tmp_path / "gone", config={"seed": 3}, record=gone)
    (copy_of(finished_run, tmp_path / "torn") / "run.json").write_text('{"status"')
    (copy_of(finished_run, tmp_path / "bare", config={"seed": 4}) / "eval" / "best.json").unlink()
    names = ["done-0", "done-1", "lost", "gone", "torn", "bare", "never"]
    sweep_json(tmp_path, [{"overrides": [f"seed={n}"], "run": name} for n, name in enumerate(names)])
    report = report_on([tmp_path])
    assert report.groups[0].seeds == (0, 1)
    told = {Path(run.run).name: (run.status, run.reason) for run in report.unfinished}
    assert told["lost"] == ("failed", "RunError: no room")
    assert told["gone"][0] == "running, process gone"
    assert told["torn"][0] == "broken"
    assert told["bare"] == ("done", "eval/best.json or config.yaml is missing or broken")
    assert told["never"] == ("not started", "its directory has no run.json")
    assert {Path(run.run).name: run.overrides for run in report.unfinished}["never"] == ("seed=6",)


@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_rows_that_are_cut_off_are_told(finished_run: Path, tmp_path: Path, kept: float) -> None:
    run = copy_of(finished_run, tmp_path / "run")
    assert not [note for note in report_on([run]).notes if "metrics.jsonl" in note]
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text[: int(kept * len(text))])
    [note] = [note for note in report_on([run]).notes if "metrics.jsonl" in note]
    assert note.startswith("The metrics.jsonl of run is damaged or cut off")


def test_final_episodes_that_are_cut_off_are_told(finished_run: Path, tmp_path: Path) -> None:
    run = copy_of(finished_run, tmp_path / "run")
    assert not [note for note in report_on([run]).notes if "best.episodes" in note]
    file = run / "eval" / "best.episodes.jsonl"
    file.write_text(file.read_text()[:-9])
    [note] = [note for note in report_on([run]).notes if "best.episodes" in note]
    assert note.startswith("The eval/best.episodes.jsonl of run is damaged or cut off")
    file.unlink()
    assert [note for note in report_on([run]).notes if "best.episodes" in note]


def test_a_config_that_the_sweep_did_not_plan_is_told(finished_run: Path, tmp_path: Path) -> None:
    run = copy_of(finished_run, tmp_path / "run")
    planned = json.loads((run / "run.json").read_text())["config_hash"]
    for hashed, notes in ((planned, 0), ("another", 1)):
        sweep_json(tmp_path, [{"overrides": [], "run": "run", "config_hash": hashed}])
        assert sum("not the one that the sweep planned" in note for note in report_on([tmp_path]).notes) == notes


def test_a_folder_of_runs_is_no_sweep(finished_run: Path, tmp_path: Path) -> None:
    seeds_of(finished_run, tmp_path, "run", [0.1, 0.3])
    assert report_on([tmp_path]).title == f"runs in {tmp_path.parent.name}/{tmp_path.name}, 2 runs"
    (tmp_path / "multirun.yaml").touch()
    assert report_on([tmp_path]).title.startswith("sweep ")


def test_many_groups_are_ranked_in_few_sentences(finished_run: Path, tmp_path: Path) -> None:
    runs = [*two_groups(finished_run, tmp_path), *seeds_of(finished_run, tmp_path, "mid", [0.4, 0.5, 0.45, 0.5])]
    assert ranking(report_on(runs)) == [
        "B is above A, C in total reward: the intervals do not overlap.",
        "C is above A in total reward: the intervals do not overlap.",
    ]


def test_a_job_whose_directory_has_no_name_is_told(tmp_path: Path) -> None:
    sweep_json(tmp_path, [{"overrides": ["seed=0"], "run": None}, {"overrides": ["seed=1"], "run": None}])
    report = report_on([tmp_path])
    assert [run.overrides for run in report.unfinished] == [("seed=0",), ("seed=1",)]


def test_episodes_are_the_extremes_and_the_middle(finished_run: Path) -> None:
    [group] = report_on([finished_run]).groups
    rows = [json.loads(line) for line in (finished_run / "eval" / "best.episodes.jsonl").read_text().splitlines()]
    rewards = sorted(row["total_reward"] for row in rows)
    found = {episode.kind: episode for episode in group.episodes}
    assert list(found) == ["best", "median", "worst"]
    assert (found["best"].total_reward, found["worst"].total_reward) == (rewards[-1], rewards[0])
    assert found["median"].total_reward == rewards[(len(rewards) - 1) // 2]
    for episode in found.values():
        stored = rows[episode.line - 1]
        assert [step["action"] for step in episode.steps] == [step["action"] for step in stored["steps"]]


def test_costs_are_those_of_the_rows(finished_run: Path) -> None:
    rows = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    cost = report_on([finished_run]).groups[0].cost
    assert cost.decisions == sum(row.get("steps_played", 0) for row in rows)
    assert cost.tokens == sum(row.get("tokens_prompt", 0) + row.get("tokens_completion", 0) for row in rows)
    assert cost.seconds_training == pytest.approx(sum(row.get("perf/seconds_total", 0) for row in rows))


def test_curves_have_the_updates_that_all_seeds_have(finished_run: Path, tmp_path: Path) -> None:
    runs = seeds_of(finished_run, tmp_path, "run", [0.1, 0.3])
    rows = (runs[1] / "metrics.jsonl").read_text().splitlines()
    (runs[1] / "metrics.jsonl").write_text("\n".join(rows[:4]) + "\n")  # validation at 0 and 2, not at 3
    curve = report_on(runs).groups[0].curve
    assert (curve.source, [point.update for point in curve.points]) == ("validation", [0.0, 2.0])
    assert [len(seed.line) for seed in curve.seeds] == [3, 2]


def test_other_commits_are_told(finished_run: Path, tmp_path: Path) -> None:
    runs = seeds_of(finished_run, tmp_path, "run", [0.1, 0.3])
    change_json(runs[0] / "run.json", commit="a" * 40, device="cuda")
    change_json(runs[1] / "run.json", commit="b" * 40 + "-dirty")
    notes = " ".join(report_on(runs).notes)
    assert "commit of msgrpo: aaaaaaaaaa, bbbbbbbbbb-dirty" in notes
    assert "device: cuda, cpu" in notes


def test_a_report_of_nothing_that_is_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a sweep nor a run"):
        report_on([tmp_path])
    (tmp_path / "sweep.json").write_text('{"jobs": 3}')
    with pytest.raises(UsageError, match="no list of jobs"):
        report_on([tmp_path])


def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["msgrpo", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_command(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    runs = two_groups(finished_run, sweep)
    sweep_json(sweep, [{"overrides": [], "run": run.name} for run in runs] + [{"overrides": ["seed=9"], "run": "x"}])
    monkeypatch.chdir(tmp_path)
    code, out, err = run_main(capsys, monkeypatch, "report", str(sweep))
    assert code == 0
    assert "B is above A" in out
    assert "not started" in out
    assert "algo.sample_fraction" in out
    assert "best.episodes.jsonl" in out
    assert "sweep/report.html" in err
    assert (sweep / "report.html").is_file()
    code, out, _ = run_main(capsys, monkeypatch, "report", *map(str, runs), "--json")
    found: dict[str, Any] = json.loads(out)
    assert (code, found["html"]) == (0, str(tmp_path / "report.html"))
    assert [group["seeds"] for group in found["groups"]] == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_a_file_that_is_no_report_stays(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "mine.html"
    page.write_text("mine")
    code, out, err = run_main(capsys, monkeypatch, "report", str(finished_run), "--html", str(page))
    assert (code, out, page.read_text()) == (2, "", "mine")
    assert "no report" in err
    page.unlink()
    for _ in range(2):  # its own page is written again
        assert run_main(capsys, monkeypatch, "report", str(finished_run), "--html", str(page))[0] == 0
    assert "<h1>" in page.read_text()


def test_json_is_strict(finished_run: Path, tmp_path: Path) -> None:
    report: Report = report_on([*two_groups(finished_run, tmp_path), tmp_path / "low-0"])
    assert len(report.groups[0].runs) == 4
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["schema"] == 1
