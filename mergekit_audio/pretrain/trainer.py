"""transformers' Trainer for one stage: normalised over the window, resumed exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer

from mergekit_audio.files import explain_os_errors
from mergekit_audio.pretrain.groups import clip_factor, gradient_norms
from mergekit_audio.pretrain.guard import Guard
from mergekit_audio.pretrain.job import StageJob
from mergekit_audio.pretrain.objective import PretrainModel
from mergekit_audio.pretrain.processes import clips_per_step
from mergekit_audio.pretrain.rollback import Rollbacks, follow_peak
from mergekit_audio.pretrain.sampling import DROPOUT, seed_of
from mergekit_audio.pretrain.saving import read_progress, read_state, write_checkpoint
from mergekit_audio.pretrain.settings import training_arguments
from mergekit_audio.pretrain.sharding import (
    LayersInStep,
    gathered_states,
    gradients_kept,
    load_optimizer,
    load_weights,
    make_whole,
    shard,
)
from mergekit_audio.progress import ProgressEvent


class StageTrainer(Trainer):  # type: ignore[misc]
    """Trains one stage; the same job gives the same weights, however often it was killed.

    Data, noise, masks and dropout are functions of (seed, stage, position), so that a checkpoint
    holds weights, optimiser, schedule and the log's sums, and no random state. The micro-batches of
    a window are dealt out to the processes in turn: N processes train on the clips, masks and noise
    that one would with N times the accumulation.

    Parameters
    ----------
    model
        The model with the stage's parameters set to train.
    job
        The rest.
    """

    def __init__(self, model: PretrainModel, job: StageJob) -> None:
        self.job = job
        self._learning_rate = 0.0
        self._loss = 0.0
        self._tracks: list[str] = []
        log = job.log if job.processes.is_main else None
        self.guard = Guard(job.stage, job.arguments, job.folder, log)
        self._steps_told = 0
        self._layers: LayersInStep | None = None
        super().__init__(
            model=model,
            args=training_arguments(job),
            data_collator=job.collate,
            train_dataset=job.clips,
        )
        self.remove_callback(PrinterCallback)

    def train_or_resume(self) -> None:
        """Train the stage from its last checkpoint, or from its beginning.

        Raises
        ------
        InputError
            The loss or the gradient is not finite, a checkpoint is damaged, or the disk is full.
        """
        checkpoints = self.job.processes.on_main(self.job.folder.checkpoints)
        last = checkpoints[-1] if checkpoints else None
        state = self.job.processes.on_main(lambda: None if last is None else read_progress(last))
        self.guard.restore(state)
        self.job.processes.on_main(lambda: self._begin_log(state))
        if self.job.arguments.parallel == "fsdp":
            self._layers = LayersInStep(self.model)
            shard(self.model, self.job.processes.count)
            # Trainer then takes the model as it is: it wraps nothing, clips and casts as ever.
            self.is_distributed_loading_by_transformers = True
        with explain_os_errors(self.job.folder.folder):
            self.train(resume_from_checkpoint=None if last is None else str(last))
        if self._is_sharded:
            make_whole(self.model, keeps=self.job.processes.is_main)

    @property
    def _is_sharded(self) -> bool:
        return self._layers is not None

    def _defer_fsdp_gradient_reduction(self) -> contextlib.AbstractContextManager[None]:
        return gradients_kept(self.model)

    def _begin_log(self, state: Mapping[str, Any] | None) -> None:
        """Bring the log to where the training begins; a stage's own beginning is probed too."""
        self.job.log.restore(state)
        step = 0 if state is None else int(state["step"])
        Rollbacks(self.job.folder).log_again(self.job.log, step)
        if step == 0:
            self._probe(step)
        self.job.log.start_clock(step)

    def _probe(self, step: int) -> None:
        if self.job.probe is not None and self.job.processes.is_main:
            self.job.log.event(step, "forgetting", self.job.probe.measure(self.model))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._is_sharded:
            load_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self._is_sharded:
            load_optimizer(self.model, self.optimizer.optimizer, Path(checkpoint))
            self.lr_scheduler.load_state_dict(read_state(Path(checkpoint), "scheduler"))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            follow_peak(self.optimizer, self.lr_scheduler, self.job.stage.peak_lr)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the micro-batches of this process: of N processes each takes every N-th."""
        every = DataLoader(
            self.job.clips,
            batch_size=self.job.arguments.batch_size,
            shuffle=False,
            collate_fn=self.job.collate,
            pin_memory=self.args.device.type == "cuda",
        )
        own: DataLoader[Any] = self.accelerator.prepare_data_loader(every)
        return own

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW over the parameters that train; as in fairseq, all of them decay."""
        if self.optimizer is None:
            arguments = self.job.arguments
            self.optimizer: Any = torch.optim.AdamW(
                [parameter for parameter in self.model.parameters() if parameter.requires_grad],
                lr=self.job.stage.peak_lr,
                betas=(arguments.adam_beta1, arguments.adam_beta2),
                eps=arguments.adam_epsilon,
                weight_decay=arguments.weight_decay,
                fused=True,
            )
        made: torch.optim.Optimizer = self.optimizer
        return made

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> float:
        """Return the masked frames of an accumulation window, of all processes."""
        return self._total(float(sum(int(batch["mask"].sum()) for batch in batch_samples)))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return a micro-batch's part of the window's loss, times the processes.

        Gradients are averaged over the processes, and those of a window are to be added up.
        """
        job = self.job
        self._learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self._tracks += inputs["tracks"]
        targets = self._targets(inputs)
        torch.manual_seed(seed_of(DROPOUT, job.seed, job.index, inputs["first_position"]))
        objective = model(inputs["wave"], inputs["mask"], targets)
        loss = objective.loss(job.weights, job.arguments.feature_penalty, num_items_in_batch)
        loss = loss * job.processes.count
        job.log.add(objective)
        return (loss, objective) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """Do a micro-batch forward and backward; a loss that is not finite ends the training."""
        loss = super().training_step(model, inputs, *rest, **named)
        self._loss += float(loss) / self.job.processes.count
        if self.job.processes.count == 1:
            self._require_finite_loss()
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.job.processes.count > 1:
            self._loss = self._total(self._loss)
            self._tracks = self._tracks_of_all()
            self._require_finite_loss()
        if self._layers is not None:
            self._layers.forget_dropped(self._sum)
        norm = super()._clip_grad_norm(model)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        step = self.state.global_step + 1
        # fp16's loss scaling skips steps whose gradient overflows; elsewhere it is the end.
        if self.job.arguments.precision != "fp16":
            self.guard.require_finite(step, "norm of the gradient", float(norm), self._tracks)
        if self.job.log.ends_line(step):
            clip = clip_factor(float(norm), self.job.arguments.max_grad_norm)
            named = self.model.named_parameters()
            norms = gradient_norms(named, self.job.groups, clip)
            if self._is_sharded:
                norms = {name: self._total(norm**2) ** 0.5 for name, norm in norms.items()}
            self.job.log.add_group_norms(norms)
        return norm

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, *rest: Any, **named: Any
    ) -> None:
        step = self.state.global_step
        if step > self._steps_told:
            self._steps_told = step
            norm = None if grad_norm is None else float(grad_norm)
            if self.job.processes.count > 1:
                self.job.log.gather(self._sum, keeps=self.job.processes.is_main)
            self.job.log.end_step(step, self._learning_rate, norm)
            loss, self._loss = self._loss, 0.0
            tracks, self._tracks = self._tracks, []
            self.guard.end_step(step, loss, tracks)
            self._probe_if_due(step)
            note = f"loss {loss:.3f}, learning rate {self._learning_rate:.2e}"
            if self.job.log.audio_per_second is not None:
                note += f", {self.job.log.audio_per_second:.3g} s of audio/s"
            task = f"stage {self.job.stage.name}"
            self.job.progress(ProgressEvent(task, step, self.job.stage.steps, note))
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *rest, **named)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # After the last step the stage's result follows at once.
        if self.state.global_step < self.job.stage.steps and self.guard.is_in_order:
            if self._is_sharded:
                states = gathered_states(self.model, self.optimizer.optimizer)
            else:
                states = self.model.state_dict(), self.optimizer.state_dict()
            self.job.processes.on_main(partial(self._write_checkpoint, *states))

    def _probe_if_due(self, step: int) -> None:
        forgetting, last = self.job.forgetting, self.job.stage.steps
        if forgetting is not None and (step % forgetting.every_steps == 0 or step == last):
            if self._is_sharded:
                self._probe_together(step)
            else:
                self.job.processes.on_main(lambda: self._probe(step))

    def _probe_together(self, step: int) -> None:
        """Probe in all processes, which gather the weights for it; all get the same scores."""
        assert self.job.probe is not None
        scores = self.job.probe.measure(self.model)
        self.model.reshard()
        self.job.processes.on_main(lambda: self.job.log.event(step, "forgetting", scores))

    def _write_checkpoint(
        self, weights: Mapping[str, torch.Tensor], optimizer: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint under a temporary name and rename it; keep the last two."""
        step, scaler = self.state.global_step, self.accelerator.scaler
        progress = {"step": step, **self.job.log.state(), "guard": self.guard.state()}
        states = {"optimizer": optimizer, "scheduler": self.lr_scheduler.state_dict()}
        if scaler is not None:
            states["scaler"] = scaler.state_dict()
        target = self.job.folder.checkpoint(step)
        write_checkpoint(target, weights, states, progress, self.state)
        self.job.folder.drop_old_checkpoints()

    @torch.no_grad()
    def _targets(self, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return each teacher's targets: cached codes, or made from the clean crop."""
        codes: dict[str, torch.Tensor] = dict(inputs["codes"])
        with torch.autocast(self.args.device.type, enabled=False):
            made = {
                name: teacher.targets(inputs["clean"])
                for name, teacher in self.model.teachers.items()
                if name not in codes
            }
        return codes | made

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return a tensor added up over the processes."""
        total: torch.Tensor = self.accelerator.reduce(values, reduction="sum")
        return total

    def _total(self, value: float) -> float:
        """Return a number added up over the processes."""
        if self.job.processes.count == 1:
            return value
        own = torch.tensor(value, dtype=torch.float64, device=self.args.device)
        return float(self._sum(own))

    def _tracks_of_all(self) -> list[str]:
        """Return the clips that all processes have in the step in hand."""
        size = clips_per_step(self.job.arguments)
        first = self.state.global_step * size
        return [self.job.clips.track(position) for position in range(first, first + size)]

    def _require_finite_loss(self) -> None:
        step = self.state.global_step + 1
        self.guard.require_finite(step, "loss", self._loss, self._tracks)
