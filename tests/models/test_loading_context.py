"""How many tokens prompt and answer may have together."""

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedConfig, Qwen2Config

from msgrpo_cli.models.loading import context_of

SIZES = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "max_position_embeddings": 64,
    "initializer_range": 0.3,
}  # fmt: skip
LONG = {"rope_type": "longrope", "long_factor": [9.0] * 8, "short_factor": [1.0] * 8, "rope_theta": 10000.0}


def longrope(original: int = 16) -> Phi3Config:
    return Phi3Config(
        **SIZES,
        original_max_position_embeddings=original,
        rope_parameters=LONG | {"original_max_position_embeddings": original},
    )


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (Qwen2Config(**SIZES), 64),
        (Qwen2Config(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}), 64),
        (longrope(), 16),
        (longrope(64), 64),
        (PreTrainedConfig(), None),
    ],
)
def test_the_context_is_the_length_within_which_a_row_depends_on_itself_alone(
    config: PreTrainedConfig, most: int | None
) -> None:
    assert context_of(config) == most


@torch.no_grad()
def test_beyond_that_length_a_row_reads_its_longest_neighbour() -> None:
    """What the limit is for: the same four tokens beside a row that fits, and beside one that does not."""
    torch.manual_seed(0)
    model = Phi3ForCausalLM(longrope()).eval()
    most = context_of(model.config)
    assert most is not None

    def beside(length: int) -> torch.Tensor:
        ids = torch.randint(3, 32, (2, length), generator=torch.Generator().manual_seed(1))
        ids[0, :4] = torch.arange(3, 7)
        return model(ids).logits[0, :4]

    within, also, beyond = beside(most), beside(most - 4), beside(most + 1)
    assert torch.allclose(within, also, atol=1e-6)
    assert not torch.allclose(within, beyond, atol=1e-3)
