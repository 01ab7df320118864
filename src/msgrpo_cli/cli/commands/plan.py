"""The command `msgrpo plan`: arguments in, one page or one JSON object out.

Knows options and how a plan is shown. The work is in `planning`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgrpo_cli.common.console import talk_on_stderr
from msgrpo_cli.common.numbers import count

from ..exit import ending
from ..options import AsJson, ConfigDirs, Overrides, Verbose, only_overrides

if TYPE_CHECKING:
    from msgrpo_cli.planning.advice import Change
    from msgrpo_cli.planning.plan import Plan

HardwareName = Annotated[
    str | None,
    typer.Option("--hardware", metavar="NAME", help="A device of the table, such as h100, 8xh100; else what is found."),
]
Probe = Annotated[bool, typer.Option("--probe", help="Measure two updates with random weights here, too.")]

_WHAT = {
    "weights": "of the model that is trained",
    "gathered": "all weights, while answers are sampled",
    "gathered_in_training": "of two layers and what lies around them, with gradients",
    "half_precision_copies": "made anew in every pass",
    "gradients": "and that of the output layer beside them",
    "buckets": "in which processes sum their gradients",
    "optimizer": "after the first step",
    "activations": "of the largest micro-batch",
    "logits": "of the output layer, or while tokens are drawn",
    "kv_cache": "of the answers that grow at once",
    "reference": "second model, for the KL term",
    "best_checkpoint": "read back at the end, in place of what was trained",
    "seated": "earlier checkpoints and others that sit on seats",
    "saved_weights": "gathered by the first process, which saves",
    "engine": "vLLM's share of the device",
    "malloc": "lost between blocks of the activations",
    "process": "whatever the model: buffers, tables, figures",
}


def plan(
    overrides: Overrides = None,
    hardware: HardwareName = None,
    probe: Probe = False,
    config_dir: ConfigDirs = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Foresee memory, decisions and hours of a run.

    Before it is launched, without loading a weight; and what to change where it does not fit.
    """
    with ending(verbose):
        texts = only_overrides(overrides)
        from msgrpo_cli.errors import UsageError

        if hardware is not None and probe:
            raise UsageError("--hardware and --probe: only one of them; a probe measures this machine")
        from msgrpo_cli.config.compose import compose
        from msgrpo_cli.launch.engine_checks import refusal
        from msgrpo_cli.planning.advice import advice
        from msgrpo_cli.planning.hardware import found_or_refused, named
        from msgrpo_cli.planning.plan import plan as planned

        config = compose("train", texts, config_dir or [])
        with talk_on_stderr():
            device = named(hardware) if hardware else found_or_refused(use_cpu=bool(config.trainer.get("use_cpu")))
            found = planned(config, device, here=hardware in (None, "cpu"))
            changes = advice(found)
            measured = _probed(found, changes) if probe else None
        refused = refusal(config, device.gpus)
        if as_json:
            print(json.dumps({**as_data(found, changes, measured), "refused": refused}, allow_nan=False))
        else:
            _show(found, changes, measured, refused)


def _probed(found: Plan, changes: list[Change]) -> dict[str, Any]:
    from msgrpo_cli.errors import UsageError
    from msgrpo_cli.models.precision import check_precision
    from msgrpo_cli.planning.plan import plan as planned
    from msgrpo_cli.training.bench.probe import probe, probed

    same = planned(probed(found.config), found.hardware, here=True)
    if not (found.fits and same.fits):
        needed = _memory(max(found.memory.total, same.memory.total))
        fitting = [change.text for change in changes if change.fits]
        raise UsageError(
            f"--probe: two updates would take {needed}, and {_memory(found.available)} are free; "
            f"{f'try {fitting[0]}' if fitting else 'choose a smaller model'}, or plan without --probe"
        )
    check_precision(found.config)
    print("probing: two updates with random weights", file=sys.stderr, flush=True)
    told = {"planned_memory_total": same.memory.total, "planned_seconds_per_update": same.time.update}
    return {**probe(found.config), **told}


def as_data(found: Plan, changes: Iterable[Change], measured: dict[str, Any] | None) -> dict[str, Any]:
    """What `--json` prints."""
    play, time = found.play, found.time
    return {
        "hardware": found.hardware.name,
        "processes": found.processes,
        "parameters": found.shape.parameters,
        "trainable_parameters": found.trainable,
        "memory": dict(found.memory.parts),
        "memory_phases": dict(found.memory.phases),
        "memory_total": found.memory.total,
        "memory_available": found.available,
        "fits": found.fits,
        "updates": found.config.max_updates,
        "decisions_per_update": round(play.decisions),
        "decisions_per_update_at_most": play.decisions_at_most,
        "rows_per_update": round(play.rows),
        "rows_per_update_at_most": play.rows_at_most,
        "tokens_per_update": found.tokens,
        "prompt_tokens": play.prompt_tokens,
        "longest_prompt": play.longest_prompt,
        "prompts_measured": play.measured,
        "answer_tokens": play.answer_tokens,
        "seconds_per_update": time.update,
        "seconds_rollout": time.rollout,
        "seconds_training": time.training,
        "seconds_per_evaluation": time.evaluation,
        "hours": time.hours,
        "bytes_sent_per_update": asdict(found.sent),
        "assumptions": found.assumptions,
        "advice": [
            {"change": change.text, "memory_total": change.total, "fits": change.fits, "note": change.note}
            for change in changes
        ],
        "probe": measured,
    }


def _show(found: Plan, changes: list[Change], measured: dict[str, Any] | None, refused: str | None) -> None:
    console = Console(highlight=False)
    play, time, config = found.play, found.time, found.config
    trained = f"{found.trainable:_} of {found.shape.parameters:_} parameters trained".replace("_", " ")
    console.print(f"{config.model.name} on {config.env.name}, {config.max_updates} updates: {trained}", markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, size in found.memory.parts.items():
        if size:
            table.add_row(Text(name.replace("_", " ")), Text(_memory(size)), Text(_WHAT[name]))
    console.print(Text("\nmemory", style="bold"))
    console.print(table)
    phases = "; ".join(f"{name} {_memory(size)}" for name, size in found.memory.phases.items())
    console.print(f"held at once, by phase: {phases}", markup=False)
    verdict = "fits" if found.fits else "DOES NOT FIT"
    each = f", each of {found.processes} processes" if found.processes > 1 else ""
    console.print(
        Text(
            f"most at once {_memory(found.memory.total)} of {_memory(found.available)} on {found.hardware.name}{each}: "
            f"{verdict}",
            style="bold" if found.fits else "bold red",
        )
    )
    if refused is not None:
        console.print(Text(f"msgrpo train refuses it: {refused}", style="bold red"))
    console.print(Text("\nwork", style="bold"))
    console.print(
        f"an update: {count(play.decisions)} decisions (at most {count(play.decisions_at_most)}), "
        f"{count(found.tokens)} tokens, {count(play.rows)} training rows (at most {count(play.rows_at_most)})\n"
        f"seconds: {time.rollout:.3g} rollout + {time.training:.3g} training = {time.update:.3g} an update; "
        f"an evaluation {time.evaluation:.3g}\n"
        f"the run: {_duration(time.hours)}, an estimate",
        markup=False,
    )
    if found.processes > 1:
        console.print(
            f"each process sends {_memory(found.sent.total)} an update: "
            + ", ".join(f"{name} {_memory(size)}" for name, size in asdict(found.sent).items() if size),
            markup=False,
        )
    if measured:
        console.print(Text("\nprobe", style="bold"))
        console.print(
            f"measured: {measured['seconds_per_update']:.3g} s an update ({measured['seconds_rollout']:.3g} + "
            f"{measured['seconds_training']:.3g}), {_memory(measured['memory_total'])} at once, "
            f"{count(measured['decisions_per_update'])} decisions, {count(measured['rows_per_update'])} rows, with "
            f"random weights, whose answers never end early\n"
            f"planned for just that: {measured['planned_seconds_per_update']:.3g} s an update, "
            f"{_memory(measured['planned_memory_total'])} at once",
            markup=False,
        )
    _bullets(console, "assumed", found.assumptions)
    title = "what would take less" if found.fits else "what to change"
    _bullets(console, title, [_told(change) for change in changes])


def _bullets(console: Console, title: str, lines: Iterable[str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    if table.row_count:
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)


def _told(change: Change) -> str:
    verdict = "" if change.fits else ", not enough"
    return f"{change.text}: {_memory(change.total)}{verdict}{f' ({change.note})' if change.note else ''}"


def _memory(size: float) -> str:
    """Decimal, three digits of what is less than a gigabyte: estimates are no more exact."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.3g} MB"


def _duration(hours: float) -> str:
    if hours < 1 / 30:
        return f"{hours * 3600:.0f} seconds"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:,.1f} hours"
