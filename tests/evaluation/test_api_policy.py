"""Playing through a server: against a real one, `transformers serve` on the embedded model, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from msgrpo_cli import RunError, UsageError, evaluate
from msgrpo_cli.cli.app import app, main
from msgrpo_cli.config.compose import compose
from msgrpo_cli.evaluation.api_answers import Answer, kept_answers, request_hash
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.models.factory import at_temperature, language_agent
from msgrpo_cli.models.loading import load_model
from msgrpo_cli.rollout.play import Decision
from support.model_server import Gate, refusal, served
from support.places import ROOT
from support.two_player_games import write_games

TINY = ROOT / "src" / "msgrpo_cli" / "assets" / "tiny"
KEY = "a-secret-that-nobody-may-see"
GREEDY = "eval.temperature=0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("torch")
    with served(TINY, tmp_path_factory.mktemp("server") / "log.txt") as url:
        yield url


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def score(url: str, *overrides: str, episodes: int = 6) -> dict[str, Any]:
    chosen = ["policy=api", "model=tiny", f"model.path={TINY}", f"api.base_url={url}", f"eval.episodes={episodes}"]
    (found,) = evaluate(None, *chosen, *overrides)
    return found


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


def file_of_answers() -> Path:
    return Path("outputs/api/tiny-frozenlake/answers.jsonl")


def test_a_served_model_plays_as_it_does_here(server: str) -> None:
    asked = score(server, GREEDY, episodes=12)
    (here,) = evaluate(None, "model=tiny", "eval.episodes=12")
    assert asked["mean_total_reward"] == here["greedy_mean_total_reward"]
    assert asked["success_rate"] == here["greedy_success_rate"] and 0 < asked["success_rate"] < 1
    assert asked["valid_action_rate"] == 1.0 and asked["policy"] == "api"
    assert asked["sampling"]["temperature"] == 0.0 and asked["greedy_success_rate"] is None
    assert (asked["random_score"], asked["optimal_score"]) == (here["random_score"], here["optimal_score"])


def test_a_served_model_on_another_seat_plays_as_it_does_here(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_games(tmp_path / "games")
    monkeypatch.setenv("MSGRPO_CONFIG_DIR", str(tmp_path / "games"))
    chosen = ["model=tiny", "env=meeting", GREEDY, "eval.episodes=4"]
    (here,) = evaluate(None, *chosen, "eval.seats=[self,self]")
    seats = f"eval.seats=[self,'api:{TINY}']"
    (asked,) = evaluate(None, *chosen, seats, f"api.base_url={server}")
    assert asked["seats"] == ["self", f"api:{TINY}"] and asked["mean_total_reward"] == here["mean_total_reward"] > 0
    assert f"api:{TINY}: " in (told := capfd.readouterr().err) and " prompt tokens, " in told
    typed = ["play", "meeting", f"--config-dir={tmp_path / 'games'}", seats, f"api.base_url={server}"]
    said = CliRunner().invoke(app, typed, input="left\nleft\n").stdout
    assert f"player 1, api:{TINY}: total reward" in said and "mean of 100" not in said, "it would be asked for all"
    for refused in (["eval.seats=[self,'api:']"], ["api.retries=1"]):
        with pytest.raises(UsageError, match=r"names no model of the server|changes nothing without policy=api"):
            compose("eval", [*chosen, *refused])
    with pytest.raises(UsageError, match="training asks no server, whose answers cost"):
        compose("train", ["env=meeting", seats])


def test_every_answer_is_that_of_the_model(server: str) -> None:
    """Word for word, in the states that were met: prompt and parser are those of every other policy."""
    score(server, GREEDY)
    config = compose("eval", ["model=tiny"])
    policy = at_temperature(language_agent(config, *load_model(config.model, 0)), 0.0)
    lines = [json.loads(line) for line in file_of_answers().read_text().splitlines()]
    assert len(lines) > 10
    for line in lines:
        (said,) = policy.act([Decision(FrozenLake(), line["observation"], (0,))])
        assert line["answer"]["text"] == said.text
        assert line["answer"]["prompt_tokens"] == len(said.prompt_ids)
        assert line["answer"]["completion_tokens"] == len(said.token_ids)


@pytest.mark.slow
def test_equal_requests_are_sent_once_where_decoding_is_greedy(server: str) -> None:
    with Gate(server).open() as gate:
        greedy = score(gate.url, GREEDY, episodes=40)
    assert greedy["distinct_initial_states"] < 40
    assert len(gate.bodies) == greedy["usage"]["requests"] < greedy["mean_length"] * 40
    assert all(body["temperature"] == 0.0 and body["max_completion_tokens"] == 8 for body in gate.bodies)
    states = [json.dumps(body["messages"]) for body in gate.bodies]
    assert len(set(states)) == len(states)
    with Gate(server).open() as gate:
        sampled = score(gate.url, episodes=40)
    assert len(gate.bodies) == sampled["usage"]["requests"] == round(sampled["mean_length"] * 40)


def test_what_was_answered_is_not_asked_again(server: str) -> None:
    with Gate(server).open() as gate:
        prices = ("api.input_price=1", "api.output_price=2")
        first, again = score(gate.url, *prices), score(gate.url, *prices)
        assert len(gate.bodies) == first["usage"]["requests"] == again["usage"]["kept"] > 0
        assert first["usage"]["kept"] == 0 == score(gate.url, "eval.seed=1")["usage"]["kept"]
    other = {"wall_seconds", "usage"}
    assert {k: v for k, v in first.items() if k not in other} == {k: v for k, v in again.items() if k not in other}
    assert again["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert again["usage"]["cost_usd"] == first["usage"]["cost_usd"] == first["usage"]["cost_usd_now"] > 0
    assert again["usage"]["cost_usd_now"] == 0.0
    assert score(server)["usage"]["kept"] == 0, "another server has not answered yet"


def test_an_evaluation_that_broke_goes_on_where_it_was(server: str) -> None:
    whole = score(server, "api.answers=whole")
    said = r"answers 503: .*no room.*; 9 answers are kept in outputs"
    with Gate(server, lambda number, _: refusal(503, "no room") if number > 9 else None).open() as gate:
        with pytest.raises(RunError, match=said):
            score(gate.url, "api.retries=0", "api.concurrency=1")
        assert len(file_of_answers().read_text().splitlines()) == 9
        with file_of_answers().open("a") as file:
            file.write('{"request": "12')  # as a killed process leaves it
        gate.before, before = lambda *_: None, len(gate.bodies)
        later = score(gate.url)
    assert later["usage"]["kept"] == 9
    assert len(gate.bodies) - before == later["usage"]["requests"] - 9
    assert later["mean_total_reward"] == whole["mean_total_reward"] and later["ends"] == whole["ends"]


def test_what_is_under_way_when_another_fails_is_kept(server: str) -> None:
    def before(number: int, _: Any) -> Any:
        if number == 1:
            wait_for(lambda: gate.at_once == 3)
            return refusal(500, "broken")
        return None

    gate = Gate(server, before)
    with gate.open(), pytest.raises(RunError, match="broken"):
        score(gate.url, "api.retries=0", "api.concurrency=3")
    answered = len(gate.bodies) - 1
    assert answered == len(file_of_answers().read_text().splitlines()) >= 2


def test_a_request_that_is_refused_for_now_is_sent_again(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    limit = refusal(429, "slow down", retry_after_ms="5")
    with Gate(server, lambda number, _: limit if number in (2, 5, 6) else None).open() as gate:
        found = score(gate.url, "api.concurrency=1", GREEDY)
    assert found["usage"]["retries"] == 3
    assert capfd.readouterr().err.count("no usable answer yet; Retrying request") == 1, "told, but not every time"
    assert len(gate.bodies) == found["usage"]["requests"] + 3
    with (
        Gate(server, lambda number, _: limit).open() as gate,
        pytest.raises(RunError, match=r"answers 429 after 2 retries: .*slow down"),
    ):
        score(gate.url, "api.concurrency=1", "api.retries=2", "eval.seed=5")
    assert len(gate.bodies) == 3


@pytest.mark.parametrize(
    ("status", "retries", "said"),
    [(402, 8, "answers 402: "), (429, 1, "answers 429 after 1 retry: "), (429, 0, "answers 429: ")],
)
def test_only_retries_that_were_made_are_told(status: int, retries: int, said: str) -> None:
    soon = refusal(status, "pay first", retry_after="0")
    with Gate("", lambda *_: soon).open() as gate, pytest.raises(RunError, match=f"{said}.*pay first"):
        score(gate.url, "api.concurrency=1", f"api.retries={retries}", episodes=1)


def test_a_lost_connection_is_tried_again(server: str) -> None:
    def before(number: int, _: Any) -> Any:
        if number == 3:
            raise ConnectionResetError("the connection breaks in the middle of a request")
        return None

    with Gate(server, before).open() as gate:
        assert score(gate.url, "api.concurrency=1")["usage"]["retries"] == 1


def test_no_more_requests_are_under_way_than_allowed(server: str) -> None:
    def before(number: int, _: Any) -> Any:
        if number <= 3:
            wait_for(lambda: gate.at_once >= 3)
            time.sleep(0.2)  # a fourth would come now

    gate = Gate(server, before)
    with gate.open():
        score(gate.url, "api.concurrency=3", episodes=6)
    assert gate.at_once == 3
    with Gate(server).open() as gate:
        score(gate.url, "api.concurrency=1", "eval.seed=2")
    assert gate.at_once == 1


def wants_a_key(_: int, headers: Any) -> Any:
    said = headers["Authorization"] or ""
    return None if said == f"Bearer {KEY}" else refusal(401, f"Incorrect API key provided: {said}")


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "MY_OWN_API_KEY"])
def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    variable: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, KEY)
    with Gate(server, wants_a_key).open() as gate:
        assert score(gate.url, f"api.key_variable={variable}", GREEDY)["usage"]["requests"] > 0
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY not in path.read_text(encoding="utf-8")
    assert KEY not in "".join(capfd.readouterr())


def test_a_refused_key_is_not_repeated(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", wrong := "another-secret-of-somebody")
    with Gate(server, wants_a_key).open() as gate:
        with pytest.raises(UsageError, match="refuses the key in the variable OPENAI_API_KEY") as refused:
            score(gate.url)
        assert wrong not in str(refused.value)
        monkeypatch.delenv("OPENAI_API_KEY")
        with pytest.raises(UsageError, match="wants a key, and none is in the variable OPENAI_API_KEY"):
            score(gate.url)
    assert not file_of_answers().exists()


def test_what_a_server_does_not_have(server: str) -> None:
    with pytest.raises(UsageError, match=r"refuses the request \(400\)"):
        score(server, "model.path=another")
    with pytest.raises(UsageError, match=r"does not know it .*api\.base_url usually ends in /v1$"):
        score(server.removesuffix("/v1"))
    with (
        Gate(server, lambda *_: (200, {"Content-Type": "application/json"}, b'{"hello": 1}')).open() as gate,
        pytest.raises(RunError, match="speaks another protocol"),
    ):
        score(gate.url, "api.retries=0")
    with (
        Gate(server, lambda *_: (200, {"Content-Type": "text/html"}, b"<html>")).open() as gate,
        pytest.raises(RunError, match="speaks another protocol"),
    ):
        score(gate.url, "api.retries=0")


def answering(content: Any, usage: Any, **choice: Any) -> Any:
    """A reply of the right form around what may be odd."""
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", **choice}]
    said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return lambda *_: (200, {"Content-Type": "application/json"}, json.dumps(said).encode())


@pytest.mark.parametrize(
    ("content", "usage", "choice"),
    [
        ([{"type": "text", "text": "up"}], None, {}),
        (12, None, {}),
        ("up", {"prompt_tokens": "many", "completion_tokens": 1, "total_tokens": 8}, {}),
        ("up", {"prompt_tokens": -7, "completion_tokens": 1, "total_tokens": 8}, {}),
        ("up", {"prompt_tokens": float("nan"), "completion_tokens": 1, "total_tokens": 8}, {}),
        ("up", None, {"message": None}),
    ],
)
def test_an_odd_answer_is_not_kept(content: Any, usage: Any, choice: dict[str, Any]) -> None:
    odd = Gate("", answering(content, usage, **choice))
    with odd.open() as gate, pytest.raises(RunError, match="speaks another protocol"):
        score(gate.url, "api.retries=0", episodes=2)
    assert not file_of_answers().exists()


def broken(**fields: Any) -> Any:
    """A reply with status 200 that is no answer."""
    return lambda *_: (200, {"Content-Type": "application/json"}, json.dumps(fields).encode())


def as_json(body: bytes) -> Any:
    """A reply with status 200 that calls itself JSON."""
    return lambda *_: (200, {"Content-Type": "application/json"}, body)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answering(None, None, finish_reason="error"), "finish_reason error"),
        (answering("<action>up</action>", None, finish_reason="abort"), "finish_reason abort"),
        (answering(None, None, finish_reason=None), "finish_reason None"),
        (broken(error={"message": "the engine is out of memory"}), "the engine is out of memory"),
        (broken(error="overloaded", choices=[]), "overloaded"),
        (broken(object="error", message="CUDA OOM"), "CUDA OOM"),
        (broken(detail="engine overloaded"), "engine overloaded"),
        (broken(code=50001, msg="no worker is ready"), "no worker is ready"),
        (broken(id="7", model="m", choices=[]), r"'?\{\"id\": \"7\".*\"choices\": \[\]"),
        (broken(id="7", model="m", choices=None), r"\"choices\": null"),
        (broken(id="7", model="m", choices=[None]), r"\"choices\": \[null\]"),
        (as_json(b""), "not whole"),
        (as_json(b'{"id": "7", "choices": [{"message": {"content": "<action>up'), "not whole.*<action>up"),
        (as_json(b'{"id": "7"} upstream closed'), "not whole.*upstream closed"),
        (answering("<action>up</action>", None, finish_reason=None, error={"message": "died"}), "died"),
        (answering("", None, error={"code": 502, "message": "provider gone"}), "provider gone"),
        (answering("<action>up</action>", None, finish_reason="length", error="shed"), "shed"),
        (answering("", None, message={"content": "", "error": "worker lost"}), "worker lost"),
        (answering("<action>up</action>", None, finish_reason="insufficient_system_resource"), "insufficient_system"),
        (answering("<action>up</action>", None, finish_reason=["stop"]), "finish_reason"),
        (answering("<action>up</action>", None, message=None), "without a message.*finish_reason"),
        (lambda *_: (200, {"Content-Type": "text/html"}, b"<h1>back in a minute</h1>"), "back in a minute"),
    ],
)
def test_a_failure_of_the_server_is_never_scored_nor_kept(
    reply: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgrpo_cli.evaluation.api_server._FIRST_WAIT", 0.0)
    with Gate("", reply).open() as gate:
        with pytest.raises(RunError, match=f"{said}.*after 1 retry$"):
            score(gate.url, "api.retries=1", "api.concurrency=1", episodes=1)
        assert len(gate.bodies) == 2
    assert not file_of_answers().exists()


def test_choices_are_told_apart_by_their_index_and_not_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        for index, said in ((1, "nothing"), (0, "<action>up</action>"))
    ]
    with Gate("", broken(id="1", object="chat.completion", created=1, model="m", choices=choices)).open() as gate:
        assert score(gate.url, "api.concurrency=1", episodes=1)["valid_action_rate"] == 1.0


def test_only_retries_that_a_failure_had_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgrpo_cli.evaluation.api_server._FIRST_WAIT", 0.0)
    with Gate("", broken(error={"message": "no memory"})).open() as gate:
        with pytest.raises(RunError, match=r"no memory.*after 2 retries$"):
            score(gate.url, "api.retries=2", "api.concurrency=1", episodes=1)
        assert len(gate.bodies) == 3
        with pytest.raises(RunError, match=r"no memory(?!.*retr)"):
            score(gate.url, "api.retries=0", "api.concurrency=1", episodes=1)


def test_a_failure_that_passes_is_asked_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgrpo_cli.evaluation.api_server._FIRST_WAIT", 0.0)
    fine, failing = answering("<action>up</action>", None), answering(None, None, finish_reason="error")
    with Gate("", lambda number, headers: (failing if number == 1 else fine)(number, headers)).open() as gate:
        found = score(gate.url, "api.concurrency=1", episodes=1)
    assert found["valid_action_rate"] == 1.0 and found["usage"]["retries"] == 1


def test_another_protocol_is_shown_in_its_own_words_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msgrpo_cli.evaluation.api_server._FIRST_WAIT", 0.0)
    hello = Gate("", broken(hello="I am a web page"))
    with hello.open() as gate:
        with pytest.raises(RunError, match=r"I am a web page.*without choices after"):
            score(gate.url, episodes=1)
        with pytest.raises(RunError, match=r"I am a web page.*usually ends in /v1 after"):
            score(gate.url.removesuffix("/v1"), episodes=1)


@pytest.mark.parametrize(
    ("tokens", "reason", "said"),
    [
        (505, "stop", "of more tokens, up to 505"),
        (3, "length", "was cut at fewer tokens"),
        (8, "length", None),
        (3, "stop", None),
    ],
)
def test_a_limit_that_the_server_does_not_heed_is_told(
    tokens: int, reason: str, said: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    with Gate("", answering("<action>up</action>", usage, finish_reason=reason)).open() as gate:
        found = score(gate.url, episodes=1)
    told = " ".join("".join(capfd.readouterr()).split())
    assert ("does not heed rollout.max_new_tokens=8" in told) == (said is not None)
    assert said is None or said in told
    assert found["usage"]["longest"] == tokens and found["usage"]["answered_by"] == ["m"]
    assert "answered by m" in told


def test_a_server_that_does_not_count_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    counted = {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 3}
    for usage in (None, counted):
        with Gate("", answering(None, usage)).open() as gate:
            found = score(gate.url, "api.input_price=1", "api.output_price=1", episodes=2)
        assert found["usage"]["cost_usd"] is None and found["usage"]["completion_tokens"] is None
        assert found["usage"]["empty"] == found["usage"]["requests"] > 0 == found["valid_action_rate"]
        told = " ".join("".join(capfd.readouterr()).split())
        assert "tokens unknown, cost unknown" in told and "said nothing in" in told


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter"},
        {"message": {"role": "assistant", "content": None, "refusal": "I cannot help with that."}},
    ],
)
def test_what_a_content_filter_withheld_is_told_as_its_refusal(
    choice: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with Gate("", answering(None, None, **choice)).open() as gate:
        for _ in range(2):  # asked, and kept
            usage = score(gate.url, episodes=2)["usage"]
            assert usage["filtered"] == usage["requests"] > 0 == usage["empty"]
            told = " ".join("".join(capfd.readouterr()).split())
            assert f"content filter refused {usage['requests']} of {usage['requests']} answers" in told
            assert "said nothing" not in told and "named no action" not in told
    assert usage["kept"] == usage["requests"]


@pytest.mark.parametrize("key", ["sk-SECRETabc\nX: y", "sk-SECRETäöü"])
def test_a_key_that_is_none_is_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="what the variable OPENAI_API_KEY holds is no key") as refused:
        score("http://127.0.0.1:9/v1")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("length", True),
        ("max_tokens", True),
        ("model_length", True),
        ("MAX_TOKENS", True),
        ("stop", False),
        ("STOP", False),
    ],
)
def test_an_answer_that_the_limit_ended_is_marked(reason: str, cut: bool) -> None:
    with Gate("", answering("<action>up</action>", None, finish_reason=reason)).open() as gate:
        score(gate.url, episodes=1)
    lines = [json.loads(line)["answer"] for line in file_of_answers().read_text().splitlines()]
    assert {line["truncated"] for line in lines} == {cut}


def test_answers_that_name_no_action_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with Gate("", answering("hmm", None)).open() as gate:
        assert score(gate.url, episodes=2)["valid_action_rate"] == 0.0
    assert "named no action in any answer" in " ".join("".join(capfd.readouterr()).split())


@pytest.mark.slow
def test_an_interruption_says_what_is_kept(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in a process of its own, in the middle of its requests."""
    asked = threading.Event()

    def before(number: int, _: Any) -> Any:
        assert number <= 10 or asked.wait(600)

    with Gate(server, before).open() as gate:
        command = [sys.executable, "-m", "msgrpo_cli", "eval", "policy=api", "model=tiny", f"model.path={TINY}"]
        more = [f"api.base_url={gate.url}", "eval.episodes=20", "api.concurrency=2"]
        process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(gate.bodies) > 10 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        asked.set()
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    kept = len(file_of_answers().read_text().splitlines())
    assert kept > 0 and f"{kept} answers are kept in {file_of_answers()}: the same command goes on" in said


def test_a_dry_run_asks_nobody(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["msgrpo", "eval", *arguments, "--dry-run"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capfd.readouterr().out

    prices = ["api.input_price=1", "api.output_price=2"]
    (found,) = [json.loads(said("m", "policy=api", "env=snake_8", "eval.episodes=10", *prices, "--json"))]
    numbers = found["derived"]
    assert (numbers["requests_at_most"], numbers["answer_tokens_at_most"]) == (80, 80 * 256)
    cost = (numbers["prompt_tokens_about"] + 2 * numbers["answer_tokens_at_most"]) / 1e6
    assert numbers["cost_usd_about"] == pytest.approx(cost, abs=1e-4)
    in_all = said("experiment=paper_baselines", "policy=api")
    assert "# in all, requests_at_most: 2 550" in in_all and in_all.count("# cost_usd_about: give api.") == 4
    here = said("model=tiny", "eval.episodes=10")
    assert "# decisions_at_most: 160" in here and not Path("outputs").exists()


def test_a_run_is_no_name_at_a_server(finished_run: Path) -> None:
    for target in ("last", finished_run, finished_run / "checkpoints" / "checkpoint-3"):
        with pytest.raises(UsageError, match="a run or checkpoint of this machine"):
            evaluate(target, "policy=api", "api.base_url=http://127.0.0.1:9/v1")


def test_a_server_that_is_not_there_or_too_slow(server: str) -> None:
    with pytest.raises(RunError, match=r"api\.base_url=http://127\.0\.0\.1:9/v1: cannot be reached"):
        score("http://127.0.0.1:9/v1", "api.retries=0")

    def before(number: int, _: Any) -> Any:
        time.sleep(1.0)

    with Gate(server, before).open() as gate, pytest.raises(RunError, match=r"api\.timeout=0\.2: no answer from"):
        score(gate.url, "api.retries=0", "api.timeout=0.2")


def test_tokens_and_cost(server: str) -> None:
    assert score(server, GREEDY)["usage"]["cost_usd"] is None
    usage = score(server, GREEDY, "api.input_price=2", "api.output_price=10")["usage"]
    lines = [json.loads(line)["answer"] for line in file_of_answers().read_text().splitlines()]
    prompts, answers = (sum(line[f"{kind}_tokens"] for line in lines) for kind in ("prompt", "completion"))
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompts, answers)
    assert usage["cost_usd"] == pytest.approx((prompts * 2 + answers * 10) / 1e6, rel=1e-12)


def test_further_fields_and_an_older_name_of_the_limit(server: str) -> None:
    with Gate(server).open() as gate:
        score(
            gate.url, "api.max_tokens_key=max_tokens", "+api.extra_body.seed=3", "rollout.top_p=0.9",
            "rollout.allow_truncated_sampling=true", episodes=2,
        )  # fmt: skip
        body = gate.bodies[0]
        assert body["max_tokens"] == 8 and "max_completion_tokens" not in body
        assert (body["seed"], body["top_p"]) == (3, 0.9) and "top_k" not in body
        with pytest.raises(UsageError, match=r"refuses the request \(422\): .*top_k"):  # this server does not know it
            score(gate.url, "rollout.top_k=4", "rollout.allow_truncated_sampling=true", episodes=2)
        assert gate.bodies[-1]["top_k"] == 4


def test_a_history_is_asked_as_turns(server: str) -> None:
    with Gate(server).open() as gate:
        score(gate.url, "prompt.history=1", GREEDY, episodes=4)
    lengths = {len(body["messages"]) for body in gate.bodies}
    assert lengths == {1, 3}
    said = next(body["messages"] for body in gate.bodies if len(body["messages"]) == 3)
    assert [turn["role"] for turn in said] == ["user", "assistant", "user"]
    assert said[1]["content"] in {f"<action>{name}</action>" for name in FrozenLake().actions}


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    good = {"request": "x", "observation": "P", "answer": {"text": "up", "truncated": False}}
    odd = {**good, "answer": {**good["answer"], "prompt_tokens": None, "completion_tokens": "7"}}
    for text in ("my notes", '{"a": 1}\n', json.dumps(good) + '\n{"request": "y"}\n', json.dumps(odd) + "\n"):
        path.write_text(text)
        said = r"(move it away|damaged).*or name another folder with api\.answers"
        with pytest.raises(UsageError, match=said), kept_answers(tmp_path):
            pass
        assert path.read_text() == text
    with pytest.raises(UsageError, match=r"api\.answers=.*: cannot be used"), kept_answers(path):
        pass


def test_one_evaluation_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with kept_answers(tmp_path), pytest.raises(UsageError, match=r"in use by process \d+"), kept_answers(tmp_path):
        pass
    with kept_answers(tmp_path) as free:
        assert len(free) == 0


def test_answers_are_there_after_a_process(tmp_path: Path) -> None:
    folder, answer = tmp_path / "not" / "there", Answer("<action>up</action>", False, 22, None)
    with kept_answers(folder) as kept:
        assert kept.get("a") is None and not kept.path.exists()
        kept.keep("a", answer, "P .")
    with kept_answers(folder) as again:
        assert again.get("a") == answer and len(again) == 1
    assert request_hash({"a": 1, "b": 2}) == request_hash({"b": 2, "a": 1}) != request_hash({"a": 1, "b": 3})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["policy=api"], "no server has model=tiny"),
        (["policy=api", "model=qwen7b"], "no server is named and OPENAI_API_KEY holds no key"),
        (["policy=api", "model=qwen7b", "api.base_url=ftp://x"], "api.base_url=ftp://x: must be an address"),
        (["policy=api", "model=qwen7b", "api.base_url='http://x/v1?key=1'"], "without a query"),
        (["policy=api", "model=qwen7b", "api.base_url=http://a:b@x/v1"], "^api.base_url: a token on the command line"),
        (["policy=api", "model=qwen7b", "api.key_variable=sk-123"], "^api.key_variable: a token on the command line"),
        (["policy=api", "model=qwen7b", "+api.extra_body={temperature: 0}"], "temperature belongs to eval.temperature"),
        (["policy=api", "model=qwen7b", "+api.extra_body={stream: true}"], "stream belongs to nobody"),
        (["policy=api", "model=qwen7b", "api.concurrency=0"], "api.concurrency=0"),
        (["policy=api", "model=qwen7b", "api.input_price=1"], "belong together: give both, or none"),
    ],
)
def test_what_cannot_be_meant(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate(None, *overrides)


def test_a_name_at_the_server_is_any_model(server: str) -> None:
    """Without model=, the prompt is that of any large model; here tiny reads a text of which it knows few words."""
    (found,) = evaluate(
        str(TINY), "policy=api", f"api.base_url={server}", "eval.episodes=2", "rollout.max_new_tokens=8"
    )
    assert found["usage"]["model"] == str(TINY)
    assert Path("outputs/api/tiny-frozenlake/answers.jsonl").exists()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match=r"pip install 'msgrpo\[api\]'"):
        score("http://127.0.0.1:9/v1")


def test_nothing_is_asked_of_a_server_that_the_variable_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(RunError, match=r"api\.base_url=http://127\.0\.0\.1:9/v1: cannot be reached"):
        evaluate(None, "policy=api", "model=tiny", f"model.path={TINY}", "eval.episodes=2", "api.retries=0")
    assert os.environ["OPENAI_BASE_URL"]
