"""A search over configs with Optuna: the space from Hydra's overrides, trials as jobs, scores from their records.

Knows Optuna, overrides and run directories. Knows nothing about launchers or models. Trials are kept in a study that
survives its process; a trial and its job are tied by the job's overrides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgrpo_cli.common.files import read_json
from msgrpo_cli.common.jsonl import last_rows
from msgrpo_cli.config.hydra_app import IntervalSweep, Override, RangeSweep, hash_of_overrides
from msgrpo_cli.errors import UsageError
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.sweep import LAST_ROWS, Job, Sweep, prune_file, state_of

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

METRICS = ("mean_total_reward", "success_rate", "normalized_score")
_EVERY = 1.0  # seconds between looks at running jobs
_OVERRIDES = "overrides"
"""The user attribute of a trial that names its job."""


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError("hydra/sweeper=optuna: Optuna is missing; pip install 'msgrpo[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _samplers(seed: int) -> dict[str, Any]:
    samplers = _optuna().samplers
    return {
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed),
        "gp": lambda: samplers.GPSampler(seed=seed),
        "qmc": lambda: samplers.QMCSampler(seed=seed),
    }


def _pruners() -> dict[str, Any]:
    pruners = _optuna().pruners
    return {
        "median": pruners.MedianPruner,
        "hyperband": pruners.HyperbandPruner,
        "percentile": lambda: pruners.PercentilePruner(25.0),
    }


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for those that Optuna has not, and where it is missing."""
    samplers, pruners = _samplers(0), _pruners()
    for key, known in (("sampler", samplers), ("pruner", pruners), ("maximize", METRICS)):
        value = settings.get(key)
        if value not in known and not (key == "pruner" and value is None):
            raise UsageError(f"hydra.sweeper.{key}={value}: must be one of {', '.join(known)}")


def open_study(directory: Path, settings: Mapping[str, Any]) -> Study:
    """The study of a sweep, made where there is none. Raises UsageError for settings that Optuna has not."""
    check_settings(settings)
    optuna = _optuna()
    samplers, pruners = _samplers(int(settings.get("seed") or 0)), _pruners()
    storage = settings.get("storage")
    if storage is None:
        journal = optuna.storages.journal
        storage = journal.JournalStorage(journal.JournalFileBackend(str(directory / "optuna.journal")))
    pruner = settings.get("pruner")
    study: Study = optuna.create_study(
        storage=storage,
        study_name=str(settings.get("study_name") or "msgrpo"),
        sampler=samplers[settings["sampler"]](),
        pruner=pruners[pruner]() if pruner else optuna.pruners.NopPruner(),
        direction="maximize",
        load_if_exists=True,
    )
    return study


class Search:
    """One search: which jobs come next, and what became of them."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], overrides: Sequence[Override]) -> None:
        self._sweep, self._metric = Sweep(directory), str(settings.get("maximize"))
        self._space = {o.get_key_element(): _distribution(o) for o in overrides if o.is_sweep_override()}
        self._fixed = [
            f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if not o.is_sweep_override()
        ]
        self._study = open_study(directory, settings)
        self._asked: list[Trial] = self._left_by_another()
        self._failed = 0

    @property
    def ended(self) -> int:
        """Trials that count: scored, pruned, or failed since this process began; failed ones of before come again."""
        states = [trial.state.name for trial in self._trials()]
        return states.count("COMPLETE") + states.count("PRUNED") + self._failed

    def ask(self, most: int) -> list[list[str]]:
        """The overrides of the next jobs, all different; none where the sweep is being ended."""
        if self._sweep.stop_file.exists():
            return []
        while len(self._asked) < most:
            trial = self._study.ask(self._space)
            texts = [*self._fixed, *(f"{key}={value}" for key, value in trial.params.items())]
            trial.set_user_attr(_OVERRIDES, texts)
            self._asked.append(trial)
        return [list(texts) for texts in dict.fromkeys(tuple(_overrides(trial)) for trial in self._asked)]

    def tell(self) -> None:
        """Tell the study what the asked jobs reached. A job that was interrupted stays open, for `--resume`."""
        optuna = _optuna()
        for trial in self._asked:
            state = state_of(self._job(trial))
            value = self._score(trial) if state.status == "done" else None
            if value is not None:
                self._study.tell(trial, value)
            elif state.status == "pruned":
                self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            elif state.status in ("failed", "lost", "done"):  # the last: without the score that is searched for
                self._failed += 1
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self._asked = []

    @contextmanager
    def pruning(self) -> Iterator[None]:
        """Meanwhile, report the evaluations of running jobs, and mark those that the pruner gives up."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_EVERY):
                for trial in self._asked:
                    self._report(trial)

        thread = threading.Thread(target=look, name="pruner", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _report(self, trial: Trial) -> None:
        run = Run(self._job(trial).directory)
        if state_of(self._job(trial)).status != "running" or prune_file(run.path).exists():
            return
        known = self._trials()[trial.number].intermediate_values
        for row in last_rows(run.metrics, LAST_ROWS):
            value = row.get(self._metric)
            if row.get("kind") == "eval" and value is not None and row["update"] and row["update"] not in known:
                trial.report(value, row["update"])
        if trial.should_prune():
            prune_file(run.path).write_text("pruned: its evaluations fall behind", encoding="utf-8")

    def _left_by_another(self) -> list[Trial]:
        """Trials that a process left open; those that failed are put in the queue once more."""
        optuna = _optuna()
        trials = self._trials()
        done = [_overrides(trial) for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
        for trial in trials:
            if trial.state.name == "FAIL" and _overrides(trial) not in done:
                self._study.enqueue_trial(trial.params, skip_if_exists=False)
                done.append(_overrides(trial))
        return [
            optuna.trial.Trial(self._study, trial._trial_id)
            for trial in trials
            if trial.state.name == "RUNNING" and _overrides(trial)
        ]

    def _trials(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))

    def _job(self, trial: Trial) -> Job:
        texts = _overrides(trial)
        return Job(tuple(texts), self._sweep.path / hash_of_overrides(texts))

    def _score(self, trial: Trial) -> float | None:
        best = read_json(self._job(trial).directory / "run.json")["summary"]["best"]
        value = best.get(self._metric)
        return None if value is None else float(value)


def _overrides(trial: Any) -> list[str]:
    return list(trial.user_attrs.get(_OVERRIDES, ()))


def _distribution(override: Override) -> BaseDistribution:
    """What the values of an override are drawn from. Raises UsageError for an interval that is none."""
    distributions = _optuna().distributions
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            log = "log" in value.tags
            whole = isinstance(value.start, int) and isinstance(value.end, int)
            kind = distributions.IntDistribution if whole else distributions.FloatDistribution
            return kind(value.start, value.end, log=log)  # type: ignore[no-any-return]
        if isinstance(value, RangeSweep) and not value.shuffle and value.step and value.step > 0:
            values = list(value.range())
            whole = all(isinstance(one, int) for one in values)
            kind = distributions.IntDistribution if whole else distributions.FloatDistribution
            return kind(values[0], values[-1], step=value.step)  # type: ignore[no-any-return]
    except (ValueError, IndexError) as problem:
        raise UsageError(f"{override.input_line}: {problem}") from problem
    return distributions.CategoricalDistribution(list(override.sweep_string_iterator()))  # type: ignore[no-any-return]
