"""What TRL's auxiliary loss of a mixture of experts wants to know about the model.

Knows how configs of transformers count experts. Knows nothing about losses.
"""

from __future__ import annotations

from transformers import PreTrainedModel
from trl import GRPOConfig


def tell_experts(model: PreTrainedModel, args: GRPOConfig) -> None:
    """Some architectures count their experts in `num_local_experts`, where TRL reads `num_experts` alone.

    An architecture that could have experts and has none here has no auxiliary loss either.
    """
    config = model.config.get_text_config()
    if not hasattr(config, "output_router_logits") or getattr(config, "num_experts", None):
        return
    experts = getattr(config, "num_local_experts", 0)
    if experts:
        config.num_experts = experts
    elif args.router_aux_loss_coef is None:
        args.router_aux_loss_coef = 0.0
