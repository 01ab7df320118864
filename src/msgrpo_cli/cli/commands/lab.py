"""`msgrpo lab credit`: which credit tells the truth, in a table, a plot and one JSON object. `msgrpo lab policy`: the
exact value of a policy. `msgrpo lab nash`: how far one is from an equilibrium. `msgrpo lab crossplay`: who beats whom.

Knows options and how figures are shown. Knows nothing of how it is measured: `training/bench/credit`,
`evaluation/exact_policy`, `evaluation/exact_profile` and `evaluation/crossplay` do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AllowModules, AsJson, ConfigDirs, Overrides, Verbose, at_least, is_override, only_overrides
from ..policies import equilibrium_told, policy_told

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig
    from msgrpo_cli.evaluation.targets import Subject

app = typer.Typer(rich_markup_mode=None, help="Look at credits and policies, exactly or against each other.")

Batches = Annotated[
    int,
    typer.Option(
        "--batches", metavar="N", callback=at_least(2), help="Updates that are played, each with starts of its own."
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples", metavar="N", callback=at_least(1), help="Answers in every state, to estimate the policy."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where lab-credit.json and lab-credit.png go.")]

_COLUMNS = {
    "correlation_optimal": "Q*-V*",
    "correlation_policy": "Qpi-Vpi",
    "towards_policy_gradient": "aim",
    "cosine": "steady",
    "signal_to_noise": "S/N",
    "effective_sample_size": "effective",
    "zero_steps": "silent",
    "seconds": "ms",
}
_LEGEND = {
    "correlation_optimal": "correlation over steps with the exact advantage of optimal play",
    "correlation_policy": "the same with the exact advantage of the model's own policy",
    "towards_policy_gradient": "cosine of the mean gradient to that of Qpi-Vpi",
    "cosine": "cosine of one update's gradient to the mean of all others",
    "signal_to_noise": "signal to noise of it",
    "effective_sample_size": "sample size of an update, in episodes",
    "zero_steps": "share of steps without any advantage",
    "seconds": "milliseconds of an update for its advantages",
}
_EXACT = {"optimal": "(Q*-V*)", "policy": "(Qpi-Vpi)"}


@app.command()
def credit(
    overrides: Overrides = None,
    batches: Batches = 8,
    samples: Samples = 32,
    out: Out = Path(),
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare every credit with what choices were worth.

    Advantages and gradients on one set of episodes, beside exact values where the game tells its transitions.
    """
    with ending(verbose):
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.config.seats import refuse_several

        config = compose("train", only_overrides(overrides), config_dir or [])
        refuse_several(config, "msgrpo lab credit")
        with talk_on_stderr():
            from msgrpo_cli.common.files import write_json
            from msgrpo_cli.training.bench.credit import measure_credit

            out.mkdir(parents=True, exist_ok=True)
            found = measure_credit(config, batches, samples)
            write_json(out / "lab-credit.json", found)
            _draw(found, out / "lab-credit.png")
        if as_json:
            print(json.dumps(found, allow_nan=False))
        else:
            _show(found, out)


def _show(found: Mapping[str, Any], out: Path) -> None:
    shown = [name for name in _COLUMNS if any(figures[name] is not None for figures in found["credits"].values())]
    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("credit", no_wrap=True)
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    for name, figures in found["credits"].items():
        table.add_row(_EXACT.get(name, name), *(_cell(figures, column) for column in shown))
    console = Console(highlight=False)
    console.print(
        f"{found['model']} on {found['env']}, seed {found['seed']}: {found['batches']} updates, {found['episodes']} "
        f"episodes, {found['steps']} steps, mean reward {found['mean_total_reward']:.3f}"
    )
    console.print(table)
    for what, why in found["unknown"].items():
        console.print(f"{_EXACT[what]} is unknown: {why}", markup=False)
    console.print(". ".join(f"{_COLUMNS[name]}: {_LEGEND[name]}" for name in shown) + ".", markup=False)
    console.print(f"written to {out / 'lab-credit.json'} and {out / 'lab-credit.png'}", soft_wrap=True)


def _cell(figures: Mapping[str, Any], column: str) -> str:
    value = figures[column]
    if value is None:
        return "-"
    if column == "seconds":
        return f"{1000 * value:.1f}"
    return f"{value:.0f}" if column == "effective_sample_size" else f"{value:.3g}" if value >= 10 else f"{value:.3f}"


def _draw(found: Mapping[str, Any], path: Path) -> None:
    """Bars, as far as they are known: agreement with the exact advantages, and of gradients with each other."""
    from matplotlib.figure import Figure

    shown = ("correlation_optimal", "correlation_policy", "towards_policy_gradient", "cosine")
    known = [one for one in shown if any(figures[one] is not None for figures in found["credits"].values())]
    names = [name for name in found["credits"] if name not in _EXACT]
    axes = (figure := Figure(figsize=(8, 4), dpi=120, layout="constrained")).subplots()
    width = 0.8 / len(known)
    looks = zip(known, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), ("", "//", "..", "xx"), strict=False)
    for number, (one, colour, hatch) in enumerate(looks):
        heights = [found["credits"][name][one] or 0.0 for name in names]
        places = [place + (number - (len(known) - 1) / 2) * width for place in range(len(names))]
        axes.bar(places, heights, width, color=colour, hatch=hatch, edgecolor="white", label=_COLUMNS[one])
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="correlation, or cosine", title=f"{found['model']} on {found['env']}", ylim=(None, 1.25))
    axes.legend(fontsize=8, ncols=4, loc="upper center")
    figure.savefig(path)


Target = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|CHECKPOINT|HUB_ID|KEY=VALUE",
        help="A run (`last`), checkpoint, model folder or hub id; else the config's model.",
    ),
]
Every = Annotated[bool, typer.Option("--all", help="Of every checkpoint of the run.")]
StatesFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Also write what it says in every state there, as JSON.")
]

SetsFile = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Also write what it says in every information set, as JSON."),
]


@app.command()
def policy(
    arguments: Target = None,
    every: Every = False,
    out: StatesFile = None,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compute what a model's policy is worth, beside a sample.

    From the probability of every action in every state that can be reached, where a game can be put into its states;
    bounds where answers are left over. The starts are those of msgrpo eval: eval.episodes, eval.split, eval.seed.
    """
    with ending(verbose):
        asked = _asked(arguments, every, config_dir, allow_module)
        with talk_on_stderr():
            from msgrpo_cli.evaluation.exact_policy import measure_policies

            found = measure_policies(asked)
        _show_measured(found, "state", policy_told, out, as_json)


@app.command()
def nash(
    arguments: Target = None,
    every: Every = False,
    out: SetsFile = None,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compute how far a policy is from an equilibrium.

    Of a game of several players that is a tree, such as env=openspiel_seats: NashConv and exploitability of the policy
    on every seat, from the probability of every action in every information set.
    """
    with ending(verbose):
        asked = _asked(arguments, every, config_dir, allow_module)
        with talk_on_stderr():
            from msgrpo_cli.evaluation.exact_profile import measure_profiles

            found = measure_profiles(asked)
        _show_measured(found, "information set", equilibrium_told, out, as_json)


def _show_measured(
    found: Sequence[Mapping[str, Any]],
    place: str,
    told: Callable[[Mapping[str, Any]], str],
    out: Path | None,
    as_json: bool,
) -> None:
    """What was measured; what is said in every `place` goes to the file `out` alone."""
    from msgrpo_cli.common.files import write_json

    if out is not None:
        write_json(out, found)
    long = f"of_{place.replace(' ', '_')}s"
    short = [{key: value for key, value in one.items() if key != long} for one in found]
    if as_json:
        print(json.dumps(short if len(short) > 1 else short[0], allow_nan=False))
    else:
        print("\n\n".join(map(told, short)))
        if out is not None:
            print(f"what it says in every {place} is written to {out}")


Players = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PLAYER...|KEY=VALUE",
        help="Runs, checkpoints, random, greedy, search, or api:NAME of a server's model.",
    ),
]
GamesFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write every game there, as JSON.")]


@app.command()
def crossplay(
    arguments: Players = None,
    out: GamesFile = None,
    config_dir: ConfigDirs = None,
    allow_module: AllowModules = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Let everybody play everybody, and rate them.

    In a game of two players, on the same starts, both ways round: mean rewards of every pair, and Bradley-Terry ratings
    with their uncertainty. Such as: msgrpo lab crossplay RUN RUN/checkpoints/checkpoint-60 random
    """
    with ending(verbose):
        from msgrpo_cli.common.files import write_json

        players = [text for text in arguments or [] if not is_override(text)]
        overrides = [text for text in arguments or [] if is_override(text)]
        with talk_on_stderr():
            from msgrpo_cli.evaluation.crossplay import contest, measure_crossplay

            asked = contest(players, overrides, config_dirs=config_dir or [], allow_modules=allow_module or [])
            found = measure_crossplay(asked)
            games = found.pop("of_games")
            if out is not None:
                write_json(out, {**found, "of_games": games})
        if as_json:
            print(json.dumps(found, allow_nan=False))
        else:
            from ..crossplay import show_crossplay

            show_crossplay(found)
            if out is not None:
                print(f"every game is written to {out}")


def _asked(
    arguments: Sequence[str] | None,
    every: bool,
    config_dirs: Sequence[Path] | None,
    allow_modules: Sequence[str] | None,
) -> list[tuple[Subject, RunConfig]]:
    """The policies that are meant, each with its config."""
    others = [text for text in arguments or [] if not is_override(text)]
    if len(others) > 1:
        raise UsageError(f"{others[1]}: a second policy, after {others[0]}; overrides look like KEY=VALUE")
    from msgrpo_cli.evaluation.targets import asked_for

    overrides = [text for text in arguments or [] if is_override(text)]
    return asked_for(
        others[0] if others else None,
        overrides,
        all_checkpoints=every,
        config_dirs=config_dirs or [],
        allow_modules=allow_modules or [],
    )
