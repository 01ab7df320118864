"""`msgrpo lab credit`: which credit tells the truth, in a table, a plot and one JSON object. `msgrpo lab policy`: the
exact value of a policy. `msgrpo lab nash`: how far one is from an equilibrium.

Knows options and how figures are shown. Knows nothing of how it is measured: `training/bench/credit`,
`evaluation/exact_policy` and `evaluation/exact_profile` do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.common.numbers import estimate, interval, percent
from msgrpo_cli.errors import UsageError

from ..exit import ending
from ..options import AllowModules, AsJson, ConfigDirs, Overrides, Verbose, at_least, is_override, only_overrides

if TYPE_CHECKING:
    from msgrpo_cli.config.schema import RunConfig
    from msgrpo_cli.evaluation.targets import Subject

app = typer.Typer(rich_markup_mode=None, help="Look at credits, and at a policy, exactly.")

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
        from msgrpo_cli.common.files import write_json

        asked = _asked(arguments, every, config_dir, allow_module)
        with talk_on_stderr():
            from msgrpo_cli.evaluation.exact_policy import measure_policies

            found = measure_policies(asked)
            states = [one.pop("of_states") for one in found]
            if out is not None:
                write_json(out, [{**one, "of_states": rows} for one, rows in zip(found, states, strict=True)])
        if as_json:
            print(json.dumps(found if len(found) > 1 else found[0], allow_nan=False))
        else:
            print("\n\n".join(map(_told, found)))
            if out is not None:
                print(f"what it says in every state is written to {out}")


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
        from msgrpo_cli.common.files import write_json

        asked = _asked(arguments, every, config_dir, allow_module)
        with talk_on_stderr():
            from msgrpo_cli.evaluation.exact_profile import measure_profiles

            found = measure_profiles(asked)
            sets = [one.pop("of_information_sets") for one in found]
            if out is not None:
                write_json(out, [{**one, "of_information_sets": rows} for one, rows in zip(found, sets, strict=True)])
        if as_json:
            print(json.dumps(found if len(found) > 1 else found[0], allow_nan=False))
        else:
            print("\n\n".join(map(_of_equilibrium, found)))
            if out is not None:
                print(f"what it says in every information set is written to {out}")


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


def _of_equilibrium(found: Mapping[str, Any]) -> str:
    """A policy's distance from an equilibrium, for people."""
    table = Table(box=None, header_style="", pad_edge=False)
    for name in ("seat", "value", "sampled", "best response", "gains"):
        table.add_column(name, justify="left" if name == "seat" else "right", no_wrap=True)
    for seat, (exact, sampled) in enumerate(zip(found["seats"], found["sampled"]["seats"], strict=True)):
        gain = exact["best_response"] - exact["value"]
        seen = estimate(sampled["mean_total_reward"], sampled["mean_total_reward_ci95"])
        table.add_row(str(seat), f"{exact['value']:.3f}", seen, f"{exact['best_response']:.3f}", f"{gain:.3f}")
    console = Console(highlight=False, width=80)
    with console.capture() as shown:
        console.print(table)
    uncovered, random = found["uncovered"], found["random"]
    return "\n".join(
        [
            f"{found['checkpoint'] or found['model']} on every seat of {found['env']}: {found['information_sets']} "
            f"information sets, {found['nodes']} nodes",
            *(line.rstrip() for line in shown.get().splitlines()),
            f"NashConv {found['nash_conv']:.4f}, exploitability {found['exploitability']:.4f}; of uniform play "
            f"{random['nash_conv']:.4f} and {random['exploitability']:.4f}; 0 in an equilibrium.",
            f"Uncovered, answers other than a bare action: {percent(uncovered['mean'])} on average over information "
            f"sets, {percent(uncovered['worst'])} at worst; they count as invalid, and play {found['invalid_action']}.",
        ]
    )


def _told(found: Mapping[str, Any]) -> str:
    """A policy's worth, for people."""
    sampled, uncovered = found["sampled"], found["uncovered"]
    low, high = found["value"]
    whose = found["checkpoint"] or found["model"]
    rows = {
        "random play, exact": estimate(found["random"]),
        "computed, between": interval((low, high)),
        "  uncovered answers invalid": estimate(found["value_if_invalid"]),
        f"sampled, {sampled['episodes']} episodes": estimate(
            sampled["mean_total_reward"], sampled["mean_total_reward_ci95"]
        ),
        "optimal play, exact": estimate(found["optimal"]),
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            f"{whose} on {found['env']}: {found['distinct_initial_states']} distinct starts ({found['split']}), "
            f"{found['states']} states",
            *(f"{name:<{width}}  {value}" for name, value in rows.items()),
            f"Uncovered, answers other than a bare action: {percent(uncovered['mean'])} of all decisions, "
            f"{percent(uncovered['worst'])} at worst.",
            f"Known to be invalid: {percent(found['invalid'])}. The sample's interval allows for other starts, too.",
        ]
    )
