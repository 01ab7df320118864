"""Which fields of TRL's GRPOConfig the trainer block refuses, who decides about them instead, or why nobody can.

Knows names of fields and reasons. Knows nothing about types and values (`trainer_fields`) or what the fields do.
"""

from __future__ import annotations

from collections.abc import Mapping

_ROWS = "algo.groups_per_update, algo.optimizer_steps and trainer.per_device_train_batch_size"
OWNERS: Mapping[str, str] = {
    "num_generations": "algo.group_size",
    "scale_rewards": "algo.scale",
    "loss_type": "algo.length_normalization",
    "generation_batch_size": _ROWS,
    "steps_per_generation": _ROWS,
    "gradient_accumulation_steps": _ROWS,
    "max_steps": "max_updates",
    "num_train_epochs": "max_updates",
    "output_dir": "hydra.run.dir",
    "logging_steps": "metrics.jsonl, which holds every update",
    "logging_nan_inf_filter": "metrics.jsonl, which hides no NaN",
    "log_completions": "episodes.jsonl, which holds every completion",
    "do_eval": "eval.every",
    "num_generations_eval": "eval.episodes",
    "remove_unused_columns": "the rollout, which needs all its columns",
    "bf16_full_eval": "trainer.bf16: what is trained is what is scored",
    "fp16_full_eval": "trainer.fp16: what is trained is what is scored",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "msgrpo train --resume",
    "temperature": "rollout.temperature",
    "top_p": "rollout.top_p",
    "top_k": "rollout.top_k",
    "min_p": "rollout.min_p",
    "repetition_penalty": "rollout.repetition_penalty",
    "generation_kwargs": "the rollout block",
    "max_completion_length": "rollout.max_new_tokens",
    "chat_template_kwargs": "model.chat_template_kwargs",
    "model_init_kwargs": "the model block",
    "push_to_hub": "you, with the hub's own tools: hf upload ID RUN/checkpoints/...",
    "deepspeed": "the engine block",
    "fsdp": "the engine block",
    "fsdp_config": "the engine block",
}
"""Fields that have another owner here: no value of them is taken."""
_OWNED_PREFIXES = {"save_": "the save block", "eval_": "the eval block"}

_NO_DATASET = "there is no dataset: rows come from playing"
_EVAL = "the eval block scores, and keeps the best"
_LOSS = "it belongs to another loss than the one that is computed (dapo)"
_GAME = "rewards come from the game, and advantages from the algo block"
_METRICS = "metrics.jsonl and episodes.jsonl hold every update and every answer"
_HUB = "nothing is pushed; use the hub's own tools: hf upload ID RUN/checkpoints/..."
_PROCESSES = "the parallel block decides"
_SYNC = (
    "the KL reference is the policy at update 0, which is kept with the run; one that moves would be lost when the run "
    "is resumed"
)
_COMPILED = "passes over shared prompts go around the compiled model"
REASONS: Mapping[str, str] = {
    "accelerator_config": _NO_DATASET,
    "dataloader_drop_last": _NO_DATASET,
    "dataloader_in_order": _NO_DATASET,
    "dataloader_multiprocessing_context": _NO_DATASET,
    "dataloader_num_workers": _NO_DATASET,
    "dataloader_persistent_workers": _NO_DATASET,
    "dataloader_pin_memory": _NO_DATASET,
    "dataloader_prefetch_factor": _NO_DATASET,
    "ignore_data_skip": _NO_DATASET,
    "length_column_name": _NO_DATASET,
    "shuffle_dataset": _NO_DATASET,
    "train_sampling_strategy": _NO_DATASET,
    "batch_eval_metrics": _EVAL,
    "do_predict": _EVAL,
    "do_train": "msgrpo train trains, and nothing else does",
    "greater_is_better": _EVAL,
    "include_for_metrics": _EVAL,
    "include_num_input_tokens_seen": "tokens_read in metrics.jsonl tells them",
    "label_names": _EVAL,
    "load_best_model_at_end": _EVAL,
    "metric_for_best_model": _EVAL,
    "per_device_eval_batch_size": "rollout.max_live_episodes bounds what is played at once",
    "prediction_loss_only": _EVAL,
    "multi_objective_aggregation": _GAME,
    "reward_weights": _GAME,
    "max_tool_calling_iterations": "a game has actions, not tools",
    "label_smoothing_factor": "TRL's GRPO loss does not read it",
    "sapo_temperature_neg": _LOSS,
    "sapo_temperature_pos": _LOSS,
    "vespo_k_neg": _LOSS,
    "vespo_k_pos": _LOSS,
    "vespo_lambda_neg": _LOSS,
    "vespo_lambda_pos": _LOSS,
    "neftune_noise_alpha": "with noise in the embeddings another policy is trained than the one that played",
    "ref_model_mixup_alpha": _SYNC,
    "ref_model_sync_steps": _SYNC,
    "sync_ref_model": _SYNC,
    "auto_find_batch_size": "a failed step would play its update anew; lower trainer.per_device_train_batch_size",
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "torch_compile_mode": _COMPILED,
    "activation_checkpointing": "it is the newer name of trainer.gradient_checkpointing, which is read here",
    "activation_checkpointing_kwargs": "it is the newer name of trainer.gradient_checkpointing_kwargs",
    "cache_implementation": "answers are sampled with the model's own cache",
    "use_cache": "answers are sampled with a cache, and trained on without",
    "trust_remote_code": "code that comes with a model is never run",
    "enable_jit_checkpoint": "a signal saves the last finished update already",
    "restore_callback_states_from_checkpoint": "a resumed run reads its own state",
    "skip_memory_metrics": "perf/memory_bytes in metrics.jsonl tells it",
    "disable_tqdm": "the display is msgrpo's",
    "logging_first_step": _METRICS,
    "logging_strategy": _METRICS,
    "log_completions_hub_repo": _HUB,
    "log_multimodal": _METRICS,
    "log_unique_prompts": _METRICS,
    "num_completions_to_print": _METRICS,
    "hub_always_push": _HUB,
    "hub_model_id": _HUB,
    "hub_private_repo": _HUB,
    "hub_revision": _HUB,
    "hub_strategy": _HUB,
    "hub_token": _HUB,
    "average_tokens_across_devices": _PROCESSES,
    "ddp_backend": _PROCESSES,
    "ddp_broadcast_buffers": _PROCESSES,
    "ddp_bucket_cap_mb": _PROCESSES,
    "ddp_find_unused_parameters": _PROCESSES,
    "ddp_static_graph": _PROCESSES,
    "ddp_timeout": _PROCESSES,
    "ds3_gather_for_generation": _PROCESSES,
    "local_rank": _PROCESSES,
    "log_level_replica": _PROCESSES,
    "log_on_each_node": _PROCESSES,
    "parallelism_config": _PROCESSES,
}
"""Fields that nothing here could honour, and why: only TRL's own default is taken."""


def owner(name: str) -> str | None:
    """Who decides about this field instead of the trainer block; None where the block does, or nobody."""
    return OWNERS.get(name) or next((who for prefix, who in _OWNED_PREFIXES.items() if name.startswith(prefix)), None)
