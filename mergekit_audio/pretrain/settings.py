"""transformers' settings of a stage, from the recipe's."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from mergekit_audio.pretrain.job import StageJob
from mergekit_audio.pretrain.objective import device_name
from mergekit_audio.pretrain.processes import backend_name
from mergekit_audio.recipe.train import Stage


def training_arguments(job: StageJob) -> TrainingArguments:
    """Return transformers' settings of a stage, from the recipe's."""
    arguments, stage = job.arguments, job.stage
    settings = TrainingArguments(
        output_dir=str(job.folder.folder),
        max_steps=stage.steps,
        per_device_train_batch_size=arguments.batch_size,
        gradient_accumulation_steps=arguments.accumulation,
        learning_rate=stage.peak_lr,
        **_schedule(stage),
        warmup_steps=stage.warmup_steps,
        max_grad_norm=arguments.max_grad_norm,
        bf16=arguments.precision == "bf16",
        fp16=arguments.precision == "fp16",
        use_cpu=device_name() == "cpu",
        seed=job.seed % (1 << 32),
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=arguments.save_steps,
        average_tokens_across_devices=False,
        ddp_backend=backend_name(device_name()) if job.processes.count > 1 else None,
        # Layer drop leaves out other layers in each process; and gradients then travel in the same
        # buckets from the first step on, so that a resumed run adds them up in the same order.
        ddp_find_unused_parameters=True,
        remove_unused_columns=False,
        label_names=[],
        report_to=[],
        disable_tqdm=True,
    )
    if settings.n_gpu > 1:
        settings._n_gpu = 1  # one process drives one GPU; no DataParallel
    return settings


def _schedule(stage: Stage) -> dict[str, Any]:
    """Return transformers' names for the way down from ``peak_lr`` to ``min_lr``."""
    if stage.decay == "cosine":
        return {
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr": stage.min_lr},
        }
    if stage.min_lr == stage.peak_lr:
        return {"lr_scheduler_type": "constant_with_warmup"}
    return {
        "lr_scheduler_type": "polynomial",
        "lr_scheduler_kwargs": {"lr_end": stage.min_lr, "power": 1.0},
    }
