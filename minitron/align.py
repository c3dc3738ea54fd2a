"""Alignment of a student: supervised fine-tuning on chats, then direct preference optimisation, through TRL.

The papers align their students with NeMo-Aligner: supervised fine-tuning, then RPO, reward-aware preference
optimisation, which draws the student's implied difference of rewards to one that a reward model states. What is here
is its special case without a reward model: DPO (arXiv 2305.18290), in which all that is known of a pair is which
answer is better. The data are the user's own; the papers' came from Nemotron-4 340B.

Knows neither searches nor teachers. The only module that speaks TRL, the extra ``[align]``.
"""

import copy
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from minitron.conversations import Chat, Pair
from minitron.device import effective_precision, inference, pick_device
from minitron.errors import DivergedTraining, InvalidRecipe
from minitron.progress import Progress, Report, silent
from minitron.quiet import quiet
from minitron.stage_recipes import AlignmentRecipe

# T tokens of a prompt and its answer, V vocabulary


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Chat],
    recipe: AlignmentRecipe,
    report: Report = silent,
) -> None:
    """Train ``model``, in place, to give the last answer of each chat; what comes before is only read.

    Raises:
        DivergedTraining: The loss is not finite.
    """
    rows = [{"prompt": list(chat.prompt), "completion": [chat.answer]} for chat in chats]
    with tempfile.TemporaryDirectory() as scratch, quiet("trl"), _only_weights(model):
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**_arguments(recipe, scratch)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[_Told("supervised fine-tuning", report)],
        )
        _train(trainer, model)


def optimize_preferences(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    recipe: AlignmentRecipe,
    report: Report = silent,
) -> None:
    """Train ``model``, in place, to find the chosen answers likelier; a copy of it, as it is, is what it is held near.

    Raises:
        DivergedTraining: The loss is not finite.
    """
    rows = [
        {"prompt": list(pair.prompt), "chosen": [pair.chosen], "rejected": [pair.rejected]} for pair in pairs
    ]
    with tempfile.TemporaryDirectory() as scratch, quiet("trl"), _only_weights(model):
        trainer = DPOTrainer(
            model=model,
            ref_model=copy.deepcopy(model),
            args=DPOConfig(**_arguments(recipe, scratch), beta=recipe.beta),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[_Told("preference optimisation", report)],
        )
        _train(trainer, model)


def require_fit(
    tokenizer: PreTrainedTokenizerBase,
    training: Sequence[Chat],
    held: Sequence[Chat],
    recipe: AlignmentRecipe,
    *,
    positions: int | None,
) -> None:
    """Refuse rows of which nothing is learnt, because their questions fill them, and rows beyond a model's positions.

    Args:
        tokenizer: Of the model.
        training: Cut to ``max_length`` at their end.
        held: Never cut.
        recipe: With the length that rows are cut to.
        positions: Of the model; None: it does not say.

    Raises:
        InvalidRecipe: No answer is left, or a row is too long for the model.
    """
    prompts = [len(_token_ids(tokenizer, chat.prompt, add_generation_prompt=True)) for chat in training]
    if min(prompts) >= recipe.max_length:
        raise InvalidRecipe(
            "alignment.max_length",
            f"found {recipe.max_length}, allowed for rows whose shortest question has {min(prompts)} tokens: more",
        )
    if positions is None:
        return
    longest, longest_held = (
        max(
            len(_token_ids(tokenizer, (*chat.prompt, chat.answer), add_generation_prompt=False))
            for chat in chats
        )
        for chats in (training, held)
    )
    found = max(min(longest, recipe.max_length), longest_held)
    if found > positions:
        what = "held-out row, which is not cut" if found == longest_held else "row"
        raise InvalidRecipe(
            "alignment.max_length",
            f"found a {what}, of {found} tokens, allowed by the model's positions: at most {positions}",
        )


def answer_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat]) -> float:
    """Return the mean cross entropy of the last answers of chats, in nats per token of an answer."""
    found = [_answered(model, tokenizer, chat) for chat in chats]
    return -sum(total for total, _ in found) / sum(number for _, number in found)


def preference_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair]
) -> float:
    """Return the share of pairs whose chosen answer the model finds likelier, as a whole."""

    def likelier(pair: Pair) -> bool:
        chosen, rejected = (
            _answered(model, tokenizer, Chat(prompt=pair.prompt, answer=answer))[0]
            for answer in (pair.chosen, pair.rejected)
        )
        return chosen > rejected

    return sum(map(likelier, pairs)) / len(pairs)


def _answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chat: Chat) -> tuple[float, int]:
    """Return the log-probability of an answer, and how many tokens it has, the end of the turn included."""
    prompt = _token_ids(tokenizer, chat.prompt, add_generation_prompt=True)
    whole = _token_ids(tokenizer, (*chat.prompt, chat.answer), add_generation_prompt=False)
    token_ids_T = torch.tensor(whole, device=model.device)
    with inference(model):
        logits_TV = model(input_ids=token_ids_T[None], use_cache=False).logits[0].float()
    log_probs_TV = logits_TV[:-1].log_softmax(dim=-1)
    answered = log_probs_TV.gather(1, token_ids_T[1:, None])[len(prompt) - 1 :]
    return float(answered.double().sum()), len(answered)


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any], *, add_generation_prompt: bool
) -> list[int]:
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    token_ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return token_ids


def _arguments(recipe: AlignmentRecipe, scratch: str) -> dict[str, Any]:
    device = pick_device()
    return {
        "output_dir": scratch,
        "num_train_epochs": recipe.num_epochs,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "per_device_train_batch_size": recipe.batch_size,
        "max_length": recipe.max_length,
        "seed": recipe.seed,
        "bf16": effective_precision(device, "auto") == "bfloat16",
        "use_cpu": device.type == "cpu",
        "activation_checkpointing": False,
        "dataloader_pin_memory": device.type == "cuda",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }


@contextmanager
def _only_weights(model: PreTrainedModel) -> Iterator[None]:
    """Leave the config as it was: which token pads, and whether keys are cached, is a trainer's business."""
    config, generation = copy.deepcopy(model.config), copy.deepcopy(model.generation_config)
    try:
        yield
    finally:
        model.eval()  # type: ignore[no-untyped-call]
        model.config.__dict__, model.generation_config = config.__dict__, generation


def _train(trainer: Any, model: PreTrainedModel) -> None:
    trainer.remove_callback(PrinterCallback)  # prints where results go
    loss = trainer.train().training_loss
    # Else its forward pass stays wrapped in autocast.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if not math.isfinite(loss):
        raise DivergedTraining(
            f"alignment: found loss {loss}, allowed: finite; a lower learning rate may help"
        )


class _Told(TrainerCallback):
    """Passes on how far a trainer is."""

    def __init__(self, stage: str, report: Report) -> None:
        self._stage = stage
        self._report = report

    def on_step_end(self, args: object, state: TrainerState, control: object, **_: object) -> None:  # noqa: ARG002
        self._report(Progress(stage=self._stage, done=state.global_step, total=state.max_steps, unit="steps"))
