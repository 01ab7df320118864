"""Hydra's sweeper `optuna`, on the Optuna that is installed.

Knows the interface of Hydra's sweepers. Knows nothing about Optuna or runs: `msgrpo_cli.launch.search` does. Hydra
imports every module of this namespace whenever it starts, so this one imports nothing else before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptunaSweeper(Sweeper):
    """Asks a study for jobs, `n_jobs` at a time, lets the launcher run them, and tells the study what they reached."""

    def __init__(self, n_trials: int, n_jobs: int, params: dict[str, str], **settings: Any) -> None:
        self._n_trials, self._n_jobs, self._params, self._settings = n_trials, n_jobs, params, settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run until the study holds `n_trials` trials that ended."""
        from msgrpo_cli.launch.search import Search

        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        directory = Path(self.config.hydra.sweep.dir)
        directory.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, directory / "multirun.yaml")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        chosen = [f"{key}={value}" for key, value in self._params.items()]
        search = Search(directory, self._settings, parser.parse_overrides([*chosen, *arguments]))
        started = 0
        while batch := search.ask(min(self._n_jobs, self._n_trials - search.ended)):
            with search.pruning():
                self._launch(batch, started)
            search.tell()
            started += len(batch)

    def _launch(self, batch: Sequence[Sequence[str]], first: int) -> None:
        assert self.launcher is not None
        self.validate_batch_is_legal(batch)
        for returned in self.launcher.launch(batch, initial_job_idx=first):
            _ = returned.return_value  # raises what left a job
