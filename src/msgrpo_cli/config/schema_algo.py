"""The `algo` block: MS-GRPO and its variants, and which keys a variant reads.

Knows credits and samplings by their tables. Knows nothing about Hydra, files, models or games.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from msgrpo_cli.algo.credit import CREDITS, BaselineScope, CreditName, CreditRules
from msgrpo_cli.algo.episode_sampling import EPISODE_SAMPLINGS, EpisodeSampling, SamplingCorrection, SamplingScope

from .section import NonNegative, Positive, Section, Share


class AlgoConfig(Section):
    """MS-GRPO and its variants: credit, advantages, drawing of episodes."""

    credit: CreditName
    gamma: Share | None = None  # these four are not in runs of before they existed
    """Discount of later rewards; this and the next three are null for the credit's own value."""
    baseline_scope: BaselineScope | None = None
    """Steps that `return_to_go` compares: all of a group, or those of a group at the same time."""
    step_weight: NonNegative | None = None
    """How much the comparison of identical states adds in `gigpo`."""
    step_scale: Literal["group", "none"] | None = None
    """Whether that comparison is divided by its standard deviation."""
    scale: Literal["group", "batch", "none"]
    length_normalization: Literal["token", "step", "episode", "constant"]
    episode_sampling: EpisodeSampling
    sample_fraction: Share | None
    """Share of the episodes that is drawn; null: half, where the sampling draws a share."""
    sampling_exponent: NonNegative | None
    """Of the absolute advantage in the weights of a draw; null: 1."""
    sampling_scope: SamplingScope
    sampling_correction: SamplingCorrection
    groups_per_update: Annotated[int, Field(ge=1, le=100_000)]
    most_groups: Annotated[int, Field(ge=1, le=100_000)] | None = None  # not in runs of before it existed
    """How many groups `dynamic` plays at most; null: four times `groups_per_update` [ours]."""
    group_size: Annotated[int, Field(ge=2, le=100_000)]
    format_penalty: NonNegative
    invalid_action: Literal["first", "random", "noop", "end"]
    optimizer_steps: Positive
    share_prompts: bool

    @property
    def credit_rules(self) -> CreditRules:
        """What the credit is told. Raises ValueError for a key that it does not read."""
        given = {key: getattr(self, key) for key in ("gamma", "baseline_scope", "step_weight", "step_scale")}
        try:
            return CREDITS[self.credit].rules(self.scale, **given)
        except ValueError as unread:
            reading = [name for name, credit in CREDITS.items() if str(unread) in credit.own]
            raise ValueError(
                f"{unread}={given[str(unread)]} changes nothing with credit={self.credit}: leave it null, or use "
                f"{' or '.join(reading)}"
            ) from None

    @property
    def fraction(self) -> float:
        """The share that is drawn, by a sampling that draws one."""
        return 0.5 if self.sample_fraction is None else self.sample_fraction

    @property
    def exponent(self) -> float:
        """Of the absolute advantage in the weights of a draw."""
        return 1.0 if self.sampling_exponent is None else self.sampling_exponent

    def ignored(self) -> list[str]:
        """One line for every key that is given and changes nothing; runs of before this was refused may hold some."""
        kind, takes = EPISODE_SAMPLINGS[self.episode_sampling], f"algo.episode_sampling={self.episode_sampling}"
        lines = []
        if self.sample_fraction is not None and not kind.takes_a_share:
            lines.append(f"algo.sample_fraction={self.sample_fraction:g}: {takes} draws no share; leave it null")
        if self.sampling_exponent is not None and self.episode_sampling != "absolute_advantage":
            lines.append(f"algo.sampling_exponent={self.sampling_exponent:g}: {takes} has no weights; leave it null")
        return lines

    @property
    def groups_at_most(self) -> int:
        """How many groups an update plays, those that replace others included."""
        if not EPISODE_SAMPLINGS[self.episode_sampling].replays:
            return self.groups_per_update
        return self.most_groups or 4 * self.groups_per_update

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> AlgoConfig:
        _ = self.credit_rules
        kind = EPISODE_SAMPLINGS[self.episode_sampling]
        if kind.whole_groups and self.sampling_scope != "update":
            raise ValueError(
                f"sampling_scope={self.sampling_scope}: {self.episode_sampling} chooses among groups; use update"
            )
        if kind.whole_groups and self.sampling_correction != "none":
            raise ValueError(
                f"sampling_correction={self.sampling_correction}: {self.episode_sampling} leaves whole groups out, "
                "which no factor undoes; use none"
            )
        if self.most_groups is not None and not kind.replays:
            replaying = [name for name, one in EPISODE_SAMPLINGS.items() if one.replays]
            raise ValueError(
                f"most_groups={self.most_groups}: {self.episode_sampling} plays groups_per_update groups; leave it "
                f"null, or use episode_sampling={' or '.join(replaying)}"
            )
        if self.most_groups is not None and self.most_groups < self.groups_per_update:
            raise ValueError(
                f"most_groups={self.most_groups}: must be at least groups_per_update={self.groups_per_update}"
            )
        return self
