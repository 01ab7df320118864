"""Files that grow, are cut, and hold half lines."""

from __future__ import annotations

import json
from pathlib import Path

from msgrpo_cli.common.jsonl import FollowedRows, last_rows


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def line(n: int) -> str:
    return json.dumps({"n": n}) + "\n"


def numbers(rows: list[dict[str, int]]) -> list[int]:
    return [row["n"] for row in rows]


def test_what_is_new_is_added_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    followed = FollowedRows(path)
    assert not followed.look() and followed.rows == []
    add(path, line(1) + '{"n": ')
    assert followed.look() and numbers(followed.rows) == [1]
    assert not followed.look()
    add(path, "2}\n")
    assert followed.look() and numbers(followed.rows) == [1, 2]


def test_a_file_that_was_cut_is_read_anew_even_where_it_has_grown_longer_since(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    followed = FollowedRows(path)
    add(path, line(1) + line(2) + line(3))
    followed.look()
    path.write_text(line(1) + line(20) + line(30) + line(40))
    assert followed.look() and numbers(followed.rows) == [1, 20, 30, 40]
    path.write_text(line(1))
    assert followed.look() and numbers(followed.rows) == [1]
    path.unlink()
    assert followed.look() and followed.rows == []


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """Counted by what a changed beginning does: nothing, as it is not read again."""
    path = tmp_path / "rows.jsonl"
    followed = FollowedRows(path)
    add(path, line(1) + line(2))
    followed.look()
    with path.open("r+") as file:
        file.write('{"n": 7}')
    add(path, line(3))
    followed.look()
    assert numbers(followed.rows) == [1, 2, 3]


def test_damaged_lines_and_other_values_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    add(path, line(1) + "nonsense\n[]\n\xff\n" + line(2))
    followed = FollowedRows(path)
    followed.look()
    assert numbers(followed.rows) == [1, 2] == numbers(last_rows(path, 5))


def test_last_rows_need_no_more_than_the_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert last_rows(path, 2) == []
    add(path, "x" * 10_000_000 + "\n" + line(1) + line(2) + line(3) + '{"n": 4')
    assert numbers(last_rows(path, 2)) == [2, 3]
    assert numbers(last_rows(path, 3)) == [1, 2, 3]


def test_rows_longer_than_the_first_chunk(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    add(path, "".join(json.dumps({"n": n, "text": "x" * 50_000}) + "\n" for n in range(6)))
    assert numbers(last_rows(path, 4)) == [2, 3, 4, 5]
