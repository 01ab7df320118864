"""Playing many games at once: order, refill, groups, what is played for an invalid answer, and who is told what."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from msgrpo_cli.common.seeding import Key
from msgrpo_cli.episode import Completion, Episode, Start
from msgrpo_cli.games.frozenlake import FrozenLake
from msgrpo_cli.games.guard import GameError
from msgrpo_cli.rollout.play import Decision, InvalidAction, PlayRules, Policy, play_episodes
from msgrpo_cli.rollout.players import ExactPlayer, RandomPlayer
from support.chance import fits
from support.planted_games import Fenced, Stuck

WALK = ["down", "down", "down", "right", "right", "right"]


class Script:
    """Answers step t of every episode with text t (the last one repeats); keeps what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.asked: list[list[Decision]] = []

    def act(self, decisions: Sequence[Decision]) -> list[Completion]:
        self.asked.append(list(decisions))
        return [self._answer(decision) for decision in decisions]

    def _answer(self, decision: Decision) -> Completion:
        step = decision.key[-1]
        assert isinstance(step, int)
        text = self.texts[min(step, len(self.texts) - 1)]
        return Completion(text, decision.game.parse(text))


def says(*actions: str) -> Script:
    return Script(*(f"<action>{action}</action>" for action in actions))


def meadow() -> FrozenLake:
    """A lake without holes and without slipping."""
    return FrozenLake(p=1.0, max_steps=8)


def ice() -> FrozenLake:
    return FrozenLake(p=0.9, slippery=True, max_steps=15)


def alone(policy: Policy, rules: PlayRules, key: Key = (0, 1, 0, 0), max_steps: int = 8) -> Episode:
    (episode,) = play_episodes([Start(5, 0, 0, key)], lambda: FrozenLake(p=1.0, max_steps=max_steps), policy, rules)
    return episode


def many(count: int) -> list[Start]:
    return [Start(31 * number % 17, number, 0, (0, 1, number, 0)) for number in range(count)]


def test_a_walk_to_the_goal() -> None:
    episode = alone(says(*WALK), PlayRules(env="meadow", observation="compact"))
    assert [step.action for step in episode.steps] == WALK
    assert [step.reward for step in episode.steps] == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert (episode.env, episode.ended_by, episode.success) == ("meadow", "goal", True)
    assert (episode.terminated, episode.truncated, episode.total_reward) == (True, False, 1.0)
    assert episode.start == Start(5, 0, 0, (0, 1, 0, 0))
    assert episode.steps[1].observation == ". . . .\nP . . .\n. . . .\n. . . G"
    assert [step.state_key for step in episode.steps[:2]] == [b"SFFFFFFFFFFFFFFG@0", b"SFFFFFFFFFFFFFFG@4"]
    assert episode.state_key == b"SFFFFFFFFFFFFFFG@0"
    assert episode.steps[0].completion == Completion("<action>down</action>", "down")
    assert all(step.valid for step in episode.steps)


@pytest.mark.parametrize("length", [0, 1, 3, 20])
def test_a_policy_sees_as_much_history_as_the_rules_say(length: int) -> None:
    script = says(*WALK)
    episode = alone(script, PlayRules(observation="compact", history=length))
    for number, (decision,) in enumerate(script.asked):
        before = episode.steps[max(0, number - length) : number]
        assert decision.history == tuple((step.observation, step.action) for step in before)
    assert len(script.asked[-1][0].history) == min(length, len(WALK) - 1)


def test_history_holds_what_was_played_and_not_what_was_said() -> None:
    script = Script("nonsense")
    alone(script, PlayRules(invalid_action="first", history=1))
    assert script.asked[1][0].history[0][1] == "left"
    alone(quiet := Script("nonsense"), PlayRules(invalid_action="noop", history=1))
    assert quiet.asked[1][0].history[0][1] is None


def test_a_walk_that_takes_too_long() -> None:
    episode = alone(says("up"), PlayRules())
    assert (episode.ended_by, episode.success, len(episode.steps)) == ("step limit", False, 8)
    assert (episode.terminated, episode.truncated, episode.total_reward) == (False, True, 0.0)


def test_a_walk_into_a_hole() -> None:
    lake = FrozenLake(max_steps=8)
    lake.reset(seed=1)
    assert lake.board == ("SFFF", "FHHH", "FFFF", "FFFG")
    (episode,) = play_episodes([Start(1, 0, 0, (0,))], FrozenLake, says("right", "down"), PlayRules())
    assert (episode.ended_by, episode.success, len(episode.steps)) == ("hole", False, 2)
    assert (episode.terminated, episode.truncated, episode.total_reward) == (True, False, 0.0)


def test_full_observation_is_the_default() -> None:
    assert alone(says("up"), PlayRules()).steps[0].observation.startswith("Board: 4 rows and 4 columns.")


def test_a_policy_is_asked_with_the_key_of_its_episode_and_step() -> None:
    script = says(*WALK)
    alone(script, PlayRules(observation="compact"), key=(3, "eval", 9, 0))
    assert [asked[0].key for asked in script.asked] == [(3, "eval", 9, 0, step) for step in range(6)]
    assert script.asked[2][0].observation == ". . . .\n. . . .\nP . . .\n. . . G"


def test_results_stand_in_the_order_of_the_starts() -> None:
    starts = many(40)
    episodes = play_episodes(starts, ice, RandomPlayer(), PlayRules(max_live_episodes=7))
    assert [episode.start for episode in episodes] == starts
    assert len({len(episode.steps) for episode in episodes}) > 5, "they must not all end at once"
    for episode, start in zip(episodes, starts, strict=True):
        game = ice()
        game.reset(seed=start.seed)
        assert episode.state_key == game.state_key()


def test_episodes_do_not_depend_on_how_many_are_live() -> None:
    plays = [
        play_episodes(many(64), ice, RandomPlayer(), PlayRules(max_live_episodes=live), ExactPlayer())
        for live in (1, 7, 64)
    ]
    assert plays[0] == plays[1] == plays[2]
    assert len({episode.steps for episode in plays[0]}) > 50


def test_an_episode_does_not_depend_on_its_neighbours() -> None:
    starts = many(20)
    together = play_episodes(starts, ice, RandomPlayer(), PlayRules())
    assert play_episodes(starts[13:14], ice, RandomPlayer(), PlayRules()) == together[13:14]
    assert play_episodes(starts[::-1], ice, RandomPlayer(), PlayRules()) == together[::-1]


def test_finished_episodes_make_room_so_that_the_batch_stays_full() -> None:
    script = says("right")
    built = []

    def build() -> FrozenLake:
        built.append(ice())
        return built[-1]

    progress: list[tuple[int, int]] = []
    rules = PlayRules(max_live_episodes=6)
    play_episodes(many(30), build, script, rules, on_progress=lambda done, total: progress.append((done, total)))
    finished = [done for done, _ in progress]
    assert [len(asked) for asked in script.asked] == [min(6, 30 - done) for done in finished[:-1]]
    assert len(built) == 6
    assert finished == sorted(finished)
    assert progress[-1] == (30, 30)


def test_no_more_games_are_built_than_are_played() -> None:
    built = []

    def build() -> FrozenLake:
        built.append(meadow())
        return built[-1]

    play_episodes(many(3), build, says("up"), PlayRules(max_live_episodes=64))
    assert len(built) == 3
    assert play_episodes([], build, says("up"), PlayRules()) == []


def test_members_of_a_group_share_the_start_and_differ_in_what_comes_later() -> None:
    starts = [Start(11, 0, member, (0, 1, 0, member)) for member in range(16)]
    members = play_episodes(starts, ice, says("right"), PlayRules())
    assert len({episode.state_key for episode in members}) == 1
    paths = [tuple(step.state_key for step in episode.steps) for episode in members]
    assert len(set(paths)) > 5
    assert play_episodes(starts, ice, says("right"), PlayRules()) == members
    again = [Start(11, 0, 0, (0, 1, 0, 0))] * 3
    assert len({episode.steps for episode in play_episodes(again, ice, says("right"), PlayRules())}) == 1


@pytest.mark.parametrize(
    ("invalid_action", "first_action", "ended_by", "steps", "total_reward"),
    [
        ("first", "left", "goal", 7, 0.75),
        ("noop", None, "goal", 7, 0.75),
        ("end", None, "invalid", 1, -0.25),
    ],
)
def test_invalid_answer(
    invalid_action: InvalidAction, first_action: str | None, ended_by: str, steps: int, total_reward: float
) -> None:
    rules = PlayRules(invalid_action=invalid_action, format_penalty=0.25)
    episode = alone(Script("I go down.", *(f"<action>{action}</action>" for action in WALK)), rules)
    first = episode.steps[0]
    assert (first.action, first.reward, first.valid) == (first_action, -0.25, False)
    assert first.completion == Completion("I go down.", None)
    assert (episode.ended_by, len(episode.steps), episode.total_reward) == (ended_by, steps, total_reward)
    assert (episode.terminated, episode.truncated) == (True, False)
    assert episode.success is (ended_by == "goal")
    assert all(step.valid and step.reward >= 0.0 for step in episode.steps[1:])


@pytest.mark.parametrize(
    ("invalid_action", "ends"), [("first", "step limit"), ("noop", "step limit"), ("end", "invalid")]
)
def test_nothing_but_invalid_answers(invalid_action: InvalidAction, ends: str) -> None:
    rules = PlayRules(invalid_action=invalid_action, format_penalty=1.0)
    episode = alone(Script(""), rules, max_steps=3)
    steps = 1 if ends == "invalid" else 3
    assert (episode.ended_by, len(episode.steps), episode.total_reward) == (ends, steps, -float(steps))
    assert (episode.terminated, episode.truncated) == (ends == "invalid", ends == "step limit")
    assert {step.state_key for step in episode.steps} == {b"SFFFFFFFFFFFFFFG@0"}


def test_random_fallback_is_uniform_and_comes_from_the_key() -> None:
    rules = PlayRules(invalid_action="random", format_penalty=0.5)
    starts = [Start(5, number, 0, (0, 1, number, 0)) for number in range(500)]
    episodes = play_episodes(starts, meadow, Script("what?"), rules)
    actions = [step.action for episode in episodes for step in episode.steps[:4]]
    assert fits([actions.count(action) for action in FrozenLake.actions], [1 / 4] * 4)
    assert {tuple(step.action for step in episode.steps) for episode in episodes[:1]} == {
        tuple(step.action for step in alone(Script("what?"), rules).steps)
    }
    assert all(step.reward in (-0.5, 0.5) for episode in episodes for step in episode.steps)
    assert any(episode.steps[-1].reward == 0.5 for episode in episodes), "a lucky fallback keeps the goal's reward"


def test_without_a_penalty_an_invalid_answer_costs_nothing() -> None:
    assert alone(Script("?"), PlayRules()).total_reward == 0.0


def test_a_valid_answer_is_never_penalised() -> None:
    assert alone(says(*WALK), PlayRules(format_penalty=5.0)).total_reward == 1.0


def test_a_judge_marks_every_step() -> None:
    (episode,) = play_episodes(
        [Start(5, 0, 0, (0,))], meadow, says("up", "up", "up", *WALK), PlayRules(), ExactPlayer()
    )
    marks = [(step.optimal_action, step.regret) for step in episode.steps]
    # 8 steps for a way of 6: two may be wasted, the third loses everything
    assert marks == [("left", 0.0), ("left", 0.0), ("down", 1.0), *[("left", 0.0)] * 5]


def test_a_judge_has_nothing_to_say_about_a_step_that_was_not_played() -> None:
    rules = PlayRules(invalid_action="noop")
    (episode,) = play_episodes([Start(5, 0, 0, (0,))], meadow, Script("?"), rules, ExactPlayer())
    assert {step.regret for step in episode.steps} == {None}
    assert episode.steps[2].optimal_action == "down"


def test_without_a_judge_nothing_is_known() -> None:
    assert {(step.optimal_action, step.regret) for step in alone(says(*WALK), PlayRules()).steps} == {(None, None)}


def test_a_policy_that_answers_too_little_is_an_error() -> None:
    class Lazy:
        def act(self, decisions: Sequence[Decision]) -> list[Completion]:
            return [Completion("", None)]

    with pytest.raises(ValueError, match="Lazy gave 1 answers to 2 decisions"):
        play_episodes(many(2), meadow, Lazy(), PlayRules())


def fenced(*texts: str, rules: PlayRules) -> Episode:
    """Played on a board without holes, whose moves off the board are not legal (and raise)."""
    script = Script(*(f"<action>{text}</action>" if text.isalpha() else text for text in texts))
    (episode,) = play_episodes([Start(5, 0, 0, (0, 1, 0, 0))], lambda: Fenced(p=1.0, max_steps=8), script, rules)
    return episode


def test_an_illegal_answer_is_invalid_and_told_apart() -> None:
    rules = PlayRules(format_penalty=0.25, observation="compact")
    first, second, third, *_ = fenced("up", "what?", "right", rules=rules).steps
    assert (first.completion, first.action) == (Completion("<action>up</action>", None), "down"), "the first legal move"
    assert (first.valid, first.illegal, first.reward) == (False, True, -0.25)
    assert (second.valid, second.illegal, second.reward, second.action) == (False, False, -0.25, "down")
    assert (third.valid, third.illegal, third.reward, third.action) == (True, False, 0.0, "right")


@pytest.mark.parametrize(("invalid_action", "ended_by"), [("noop", "step limit"), ("end", "invalid")])
def test_an_illegal_answer_need_not_be_replaced(invalid_action: InvalidAction, ended_by: str) -> None:
    episode = fenced("up", rules=PlayRules(invalid_action=invalid_action))
    assert (episode.ended_by, {step.action for step in episode.steps}) == (ended_by, {None})
    assert {step.illegal for step in episode.steps} == {True}


def test_a_random_fallback_is_drawn_from_the_legal_moves() -> None:
    starts = [Start(5, number, 0, (0, 1, number, 0)) for number in range(300)]
    rules = PlayRules(invalid_action="random")
    episodes = play_episodes(starts, lambda: Fenced(p=1.0), says("left"), rules)
    first = [episode.steps[0].action for episode in episodes]
    assert fits([first.count(name) for name in ("down", "right")], [1 / 2] * 2) and len(set(first)) == 2


def test_where_all_actions_are_moves_nothing_is_told_apart() -> None:
    assert {step.illegal for step in alone(says("up"), PlayRules()).steps} == {None}


def test_an_empty_list_ends_the_run_with_the_game_to_blame() -> None:
    with pytest.raises(GameError, match=r"game lake: legal\(\) is empty .*, at step 3 of the episode with seed 5"):
        play_episodes([Start(5, 0, 0, (0,))], lambda: Stuck(p=1.0), says("right", "down"), PlayRules(env="lake"))
