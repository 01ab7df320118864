"""Jobs of a sweep that work at the same time on one machine: how they share its cores, and why not its GPUs.

Knows Hydra's launchers by their settings. Knows nothing about what a job does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgrpo_cli.common.cores import cores, threads_asked
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError

from .ranks import processes


def at_once(launcher: Mapping[str, Any], jobs: int | None) -> int | None:
    """How many jobs work at the same time here; None where a scheduler decides, on a cluster.

    `jobs`: of the whole sweep; None where a sweeper chooses them.
    """
    target = str(launcher.get("_target_", ""))
    if "Slurm" in target:
        return None
    if "Basic" in target:
        return 1
    together = launcher.get("n_jobs") or cores()
    together = cores() if together < 0 else together
    if "submitit" in target:  # it starts all jobs at once
        together = jobs or cores()
    return min(together, jobs or together)


def threads_of_a_job(launcher: Mapping[str, Any], jobs: int | None) -> int | None:
    """Its share of this machine's cores, for all its processes; None leaves the number to the libraries: where one job
    works at a time, where a scheduler decides, and where the user has decided."""
    together = at_once(launcher, jobs)
    if threads_asked() or together is None or "Basic" in str(launcher.get("_target_", "")):
        return None
    return max(1, cores() // together)


def check_gpus(launcher: Mapping[str, Any], jobs: int | None, configs: Sequence[RunConfig]) -> None:
    """Raises UsageError where jobs of several processes would work at once on the same GPUs.

    They are not shared out among jobs: no launcher tells a job which of its fellows work beside it. Ray gives each job
    GPUs of its own where it is told how many one takes.
    """
    several = [config for config in configs if config.parallel.name != "none" and not config.trainer.get("use_cpu")]
    together = at_once(launcher, jobs)
    if not several or together is None or together < 2:
        return
    import torch

    target = str(launcher.get("_target_", "")).lower()
    count = max(processes(config) for config in several)
    given = ((launcher.get("ray") or {}).get("remote") or {}).get("num_gpus") or 0
    if torch.cuda.device_count() == 0 or ("ray" in target and given >= count):
        return
    name, one = several[0].parallel.name, _one_at_a_time(target, count)
    raise UsageError(
        f"parallel={name}: {together} jobs at once would each take GPUs 0 to {count - 1} of this machine; run one at a "
        f"time with {one}"
    )


def check_nodes_of_a_job(sizes: Mapping[str, Any], configs: Sequence[RunConfig]) -> None:
    """Raises UsageError where a job of a SLURM launcher has more nodes or processes than the launcher asks for.

    `sizes`: what it asks for, for all jobs alike.
    """
    for config in configs:
        parallel = config.parallel
        if parallel.nodes > sizes["nodes"]:
            raise UsageError(
                f"parallel.nodes={parallel.nodes}: hydra.launcher.nodes={sizes['nodes']} asks for fewer, for every job "
                f"alike; give hydra.launcher.nodes={parallel.nodes}"
            )
        gpus, count = sizes["gpus_per_node"], parallel.processes or 1
        if gpus is not None and count > gpus and not config.trainer.get("use_cpu"):
            raise UsageError(
                f"parallel.processes={count}: hydra.launcher.gpus_per_node={gpus} asks for fewer, for every job alike; "
                f"give hydra.launcher.gpus_per_node={count}, or null without GPUs"
            )


def _one_at_a_time(target: str, count: int) -> str:
    if "joblib" in target:
        return "hydra.launcher.n_jobs=1"
    if "ray" in target:
        return f"hydra/launcher=basic, or give each its own with +hydra.launcher.ray.remote.num_gpus={count}"
    return "hydra/launcher=basic"
