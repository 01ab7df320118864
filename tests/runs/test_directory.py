"""The run directory: strict JSON, files replaced in one stroke, torn lines dropped, runs found by name."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from msgrpo_cli.common.files import read_json, strict, whole_directory, write_json, write_text
from msgrpo_cli.common.jsonl import append_lines, cut_lines, length_of_lines, read_lines
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import Run, _commit, find_run, is_run

ODD: dict[Any, Any] = {
    "nan": math.nan,
    "inf": [math.inf, -math.inf, 1.5],
    "deep": {"a": ({"b": math.nan},)},
    1: "key",
    "kept": [0, True, None, "NaN", 1e308],
}
SOUND = {
    "nan": None,
    "inf": [None, None, 1.5],
    "deep": {"a": [{"b": None}]},
    "1": "key",
    "kept": [0, True, None, "NaN", 1e308],
}


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def rows(path: Path) -> list[Any]:
    return [json.loads(line, parse_constant=refuse_constants) for line in path.read_text().splitlines()]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    assert strict(ODD) == SOUND
    write_json(tmp_path / "a.json", ODD)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse_constants) == SOUND
    append_lines(tmp_path / "a.jsonl", [ODD, {"x": math.nan}])
    append_lines(tmp_path / "a.jsonl", [{"y": 1}])
    assert rows(tmp_path / "a.jsonl") == [SOUND, {"x": None}, {"y": 1}]


def test_nothing_to_append_leaves_an_empty_file(tmp_path: Path) -> None:
    append_lines(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_a_file_is_replaced_in_one_stroke(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old " * 10_000)
    with path.open() as reader:
        write_text(path, "new é")
        assert reader.read() == "old " * 10_000, "whoever reads it still has the whole old file"
    assert path.read_text(encoding="utf-8") == "new é"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}


def test_what_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")
    for broken in (b'{"a": ', b"\xff\xfe\x00", b""):
        (tmp_path / "broken.json").write_bytes(broken)
        with pytest.raises(UsageError, match=r"broken\.json: not readable as JSON"):
            read_json(tmp_path / "broken.json")


LINES: list[dict[str, Any]] = [
    {"update": None, "n": 0},
    {"update": 0, "n": 1},
    {"update": 1, "n": 2},
    {"update": 2, "n": 3},
    {"update": 3, "n": 4},
]


def until(update: int) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: (row["update"] or 0) <= update


def test_rows_of_later_updates_and_a_torn_last_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_lines(path, LINES)
    with path.open("a") as file:
        file.write('{"update": 1, "n": 5, "loss": 0.')
    cut_lines(path, length_of_lines(path, until(2)))
    assert rows(path) == LINES[:4]
    assert path.read_text().endswith("}\n"), "the next row starts on a line of its own"
    append_lines(path, [{"update": 3, "n": 6}])
    assert [row["n"] for row in rows(path)] == [0, 1, 2, 3, 6]


def test_a_whole_last_line_without_its_line_break_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n{"update": 2}')
    cut_lines(path, length_of_lines(path, until(2)))
    assert path.read_text() == '{"update": 1}\n{"update": 2}\n'


def test_everything_is_dropped_and_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    cut_lines(path, length_of_lines(path, until(5)))
    assert not path.exists()
    append_lines(path, LINES[2:])
    cut_lines(path, length_of_lines(path, until(0)))
    assert path.read_text() == ""


def test_rows_end_at_the_first_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_lines(path)) == []
    path.write_text('{"n": 0}\n{"n": 1\n{"n": 2}\n')
    assert list(read_lines(path)) == [{"n": 0}]


def test_a_damaged_row_with_others_after_it_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n{"upd\n{"update": 2}\n')
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"metrics\.jsonl: line 2 is damaged; put back a copy of the file"):
        cut_lines(path, length_of_lines(path, until(2)))
    assert path.read_bytes() == before


def test_of_a_directory_whose_writing_fails_nothing_is_put_in_place_and_nothing_comes_with_the_next(
    tmp_path: Path,
) -> None:
    with pytest.raises(OSError, match="full"), whole_directory(tmp_path / "a") as folder:
        (folder / "first").write_text("new")
        raise OSError("full")
    assert not (tmp_path / "a").exists()
    with whole_directory(tmp_path / "a") as folder:
        (folder / "second").write_text("new")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["second"]


DIES = """
import os, shutil, sys
from pathlib import Path
from msgrpo_cli.common.files import remove_directory, whole_directory

final, work, calls = Path(sys.argv[1]) / "a", sys.argv[2], 0
CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")


def replace(content):
    with whole_directory(final) as folder:
        for name in "123":
            (folder / name).write_text(content)


def dying(event, arguments):
    global calls
    calls -= event in CHANGES
    if event in CHANGES and calls == 0:
        os._exit(9)


for number in range(1, 1000):
    shutil.rmtree(final.parent, ignore_errors=True)
    final.parent.mkdir()
    replace("old")
    child = os.fork()
    if not child:
        calls = number
        sys.addaudithook(dying)
        remove_directory(final) if work == "remove" else replace("new")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("-".join(sorted(file.read_text() for file in final.glob("*"))) if final.exists() else "absent")
    if code == 0:
        break
    replace("again")
    assert [file.read_text() for file in final.glob("*")] == ["again"] * 3
    remove_directory(final)
    assert not final.exists()
"""


@pytest.mark.parametrize(("work", "end"), [("remove", "absent"), ("replace", "new-new-new")])
def test_a_process_that_dies_before_any_of_its_calls_leaves_a_directory_whole_or_absent(
    tmp_path: Path, work: str, end: str
) -> None:
    """Killed before its first change of the file system, before its second, ...; each time another goes on."""
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "place"), work], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = done.stdout.split()
    assert len(found) > 5 and found[0] == "old-old-old" and found[-1] == end
    assert set(found) <= {"old-old-old", "absent", end}


def run_in(root: Path, day: str, name: str, start: str = "2025-01-01T00:00:00+00:00") -> Path:
    path = root / day / name
    path.mkdir(parents=True)
    Run(path).update_record(status="done", start=start)
    return path


def test_run_is_found_by_directory_last_and_beginning(tmp_path: Path) -> None:
    later = run_in(tmp_path / "outputs", "2025-08-01", "120000-frozenlake-tiny-ab12", start="2025-08-01T12:00:00+00:00")
    older = run_in(tmp_path / "outputs", "2025-08-01", "130000-frozenlake-tiny-cd34", start="2025-08-01T11:00:00+00:00")
    oldest = run_in(tmp_path / "outputs", "2025-07-31", "235900-snake-tiny-ef56", start="2025-07-31T23:59:00+00:00")
    assert find_run(str(older), tmp_path) == older
    assert find_run("last", tmp_path) == later, "by its start, not by its name"
    assert find_run("1200", tmp_path) == later
    assert find_run("130000-frozenlake-tiny-cd34", tmp_path) == older
    assert find_run("2", tmp_path) == oldest
    again = run_in(tmp_path / "outputs", "2025-08-04", "130000-frozenlake-tiny-cd34-again-f277", start="2025-08-01")
    assert find_run("130000-frozenlake-tiny-cd34", tmp_path) == older, "a whole name is that run's"
    assert find_run("130000-frozenlake-tiny-cd34-a", tmp_path) == again
    job = run_in(tmp_path / "multirun" / "2025-08-03", "140000-ab12", "0f3c", start="2025-08-03T14:00:00+00:00")
    assert find_run("last", tmp_path) == find_run("0f3c", tmp_path) == job, "a sweep's jobs are runs too"


def test_run_that_is_not_found_says_what_to_give(tmp_path: Path) -> None:
    advice = "give a run directory, `last`, or the beginning of one name under "
    with pytest.raises(UsageError, match=f"last: no such run; {advice}"):
        find_run("last", tmp_path)
    run_in(tmp_path / "outputs", "2025-08-01", "120000-a-b-ab12")
    run_in(tmp_path / "outputs", "2025-08-02", "120000-a-b-cd34")
    with pytest.raises(UsageError, match=f"12: 2 runs begin so: 120000-a-b-ab12, 120000-a-b-cd34; {advice}"):
        find_run("12", tmp_path)
    with pytest.raises(UsageError, match=f"13: no such run; {advice}"):
        find_run("13", tmp_path)
    with pytest.raises(UsageError, match=r"not a run directory \(it has no run\.json\)"):
        find_run(str(tmp_path), tmp_path)


def test_a_name_that_begins_another_is_ambiguous_unless_it_is_a_path(tmp_path: Path) -> None:
    run = run_in(tmp_path / "outputs", "2025-08-01", "120000-a")
    run_in(tmp_path / "outputs", "2025-08-01", "120000-ab")
    assert find_run(str(run), tmp_path) == run


def test_record_is_updated_field_by_field(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert not is_run(run.path)
    with pytest.raises(UsageError, match="no such file"):
        run.record()
    run.update_record(status="running", summary={"best": math.nan})
    assert is_run(run.path)
    with (run.path / "run.json").open() as reader:
        run.update_record(status="done")
        assert json.load(reader)["status"] == "running", "a reader never sees half a file"
    assert run.record() == {"status": "done", "summary": {"best": None}}
    assert [file.name for file in run.path.iterdir()] == ["run.json"]


def begin(run: Run) -> None:
    run.begin(command=["msgrpo", "train"], overrides=["seed=1"], config_hash="abc", device="cpu", threads=2)


def test_record_of_a_run_from_begin_to_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    begin(run)
    record = run.record()
    assert record["status"] == "running"
    assert record["end"] is None
    assert record["error"] is None
    assert (record["command"], record["overrides"], record["config_hash"]) == (["msgrpo", "train"], ["seed=1"], "abc")
    assert (record["device"], record["threads"]) == ("cpu", 2)
    assert record["versions"]["numpy"] and record["versions"]["python"]
    assert {"torch", "transformers", "trl"} <= set(record["versions"])
    assert {"commit", "start", "summary"} <= set(record)
    run.finish("failed", "no memory")
    ended = run.record()
    assert (ended["status"], ended["error"], ended["start"]) == ("failed", "no memory", record["start"])
    assert ended["end"] >= record["start"]


def test_the_first_start_and_the_summary_stay_when_a_run_is_resumed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    begin(run)
    run.update_record(start="2001-01-01T00:00:00+00:00", status="failed", error="x", end="later", summary={"best": 0.9})
    begin(run)
    assert run.record()["summary"] == {"best": 0.9}
    record = run.record()
    assert (record["start"], record["status"], record["error"], record["end"]) == (
        "2001-01-01T00:00:00+00:00", "running", None, None,
    )  # fmt: skip


def test_files_of_a_run_by_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    names = [run.metrics, run.episodes, run.checkpoints, run.evaluations, run.curve, run.config]
    expected = ["metrics.jsonl", "episodes.jsonl", "checkpoints", "eval", "curve.png", "config.yaml"]
    assert [path.relative_to(tmp_path).as_posix() for path in names] == expected


def test_the_commit_is_that_of_the_program_and_records_beside_it_do_not_spoil_it(
    tmp_path: Path,
) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    program, record = tmp_path / "src" / "runs.py", tmp_path / "results.csv"
    folder = program.parent
    folder.mkdir()
    program.write_text("")
    record.write_text("")
    git("init")
    assert _commit(folder) is None, "not under version control"
    git("add", ".")
    git("commit", "-m", "first")
    commit = _commit(folder)
    assert commit is not None
    assert len(commit) == 40
    record.write_text("one more line")
    assert _commit(folder) == commit
    program.write_text("changed")
    assert _commit(folder) == f"{commit}-dirty"
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "runs.py").write_text("")
    assert _commit(installed) is None, "installed below a checkout of something else"
