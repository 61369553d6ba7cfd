"""PEFT's adapters, put around the model that a run trains."""

import dataclasses
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from stages.config.reading import suggestion
from stages.errors import UserError
from stages.models.encoder import longest_input
from stages.models.loading import CausalModel, EncoderModel, Seq2SeqModel
from stages.models.tuned import quiet_peft
from stages.training.methods.method import Fit
from stages.training.subject import Subject

METHODS = ("adalora", "adapter", "lora")
"""Those that put an adapter around the model: one of them a run."""
PROMPTS = ("P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING")
"""Virtual tokens before the text. They cannot be merged into the weights."""
SET_HERE = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
    "task_type",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
)
UNMOVED = (True, False, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave the base as it is. The others rewrite its weights, which
an adapter's file does not hold."""


TASK_TYPES: dict[type, str] = {
    EncoderModel: "FEATURE_EXTRACTION",
    CausalModel: "CAUSAL_LM",
    Seq2SeqModel: "SEQ_2_SEQ_LM",
}


def misfit_of_adapter(name: str, fit: Fit) -> str | None:
    """Why a run cannot have this adapter; None where it can."""
    others = [other for other in METHODS if other in fit.run.methods and other != name]
    return f"a run has one adapter: leave out {', '.join(others)} or this" if others else None


def check_settings(peft_type: str, settings: dict[str, Any]) -> None:
    """Raises ValueError, `key = value: reason`, for a key or value that PEFT's config of this type
    does not take. What PEFT can only tell of the model itself is left to `wrap`."""
    config = _config_class(peft_type)
    hints = get_type_hints(config)
    for key, value in settings.items():
        where = f"{key} = {value!r}: "
        if key in SET_HERE:
            raise ValueError(f"{where}is set here: leave it out")
        if key not in hints:
            raise ValueError(f"{where}unknown key of {peft_type}{suggestion(key, sorted(hints))}")
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{where}{reason[0].lower()}{reason[1:]}") from None
        if key in ("r", "num_virtual_tokens", "init_r", "target_r") and value < 1:
            raise ValueError(f"{where}give 1 or more")
        if key.endswith("dropout") and not 0 <= value < 1:
            raise ValueError(f"{where}give 0 to below 1")
        if key == "init_lora_weights" and value not in UNMOVED:
            raise ValueError(
                f"{where}rewrites the base's weights, which are not kept: use gaussian"
            )
    if peft_type in PROMPTS and "num_virtual_tokens" not in settings:
        raise ValueError("num_virtual_tokens = None: give the tokens before the text, such as 16")
    try:
        config(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"peft_type = {peft_type!r}: {error}") from None


def _config_class(peft_type: str) -> Any:
    import peft  # seconds to import, so only where an adapter is wanted

    return peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)]


def wrap(subject: Subject, method: str, peft_type: str, settings: dict[str, Any]) -> None:
    """Freeze the body and put an adapter of this type around it, but not in what is frozen already.

    Raises UserError where it does not go with the model.
    """
    import peft

    where = f"runs.{subject.recipe.name}.methods.{method}"
    kind = _config_class(peft_type)
    known = {field.name for field in dataclasses.fields(kind)}
    made: dict[str, Any] = {"task_type": TASK_TYPES[type(subject.loaded)]}
    if "target_modules" in known:
        made["target_modules"] = _targets(subject.body, peft_type)
        if frozen := _frozen(subject):
            if "exclude_modules" not in known:
                raise UserError(
                    f"{where}: {peft_type} goes into every layer: leave out freeze, or use lora"
                )
            made["exclude_modules"] = frozen
    else:
        _leave_room(subject, where, settings["num_virtual_tokens"])
    try:
        with quiet_peft():
            subject.body = peft.get_peft_model(subject.body, kind(**{**made, **settings}))
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{where}: PEFT cannot put {peft_type} around this model: {reason}"
        ) from None


def _targets(body: Any, peft_type: str) -> str | list[str] | None:
    """Where an adapter goes unless the settings say it: into all linear layers, and of types that
    are not for these, into norms, or where PEFT puts it by itself."""
    if peft_type == "LN_TUNING":
        return [
            name for name, module in body.named_modules() if type(module).__name__.endswith("Norm")
        ]
    return None if peft_type == "IA3" else "all-linear"


def _frozen(subject: Subject) -> list[str]:
    """The modules whose own weights another method has frozen. Those in 4 bits never move, and an
    adapter is what they are for."""
    owned = (
        (name, list(module.parameters(recurse=False)))
        for name, module in subject.body.named_modules()
    )
    return [
        name
        for name, weights in owned
        if weights and not any(w.requires_grad or not w.is_floating_point() for w in weights)
    ]


def _leave_room(subject: Subject, where: str, virtual: int) -> None:
    """Virtual tokens take positions of the model's."""
    assert isinstance(subject.loaded, EncoderModel)
    longest = longest_input(subject.loaded.encoder)
    for examples in subject.recipe.train:
        if examples.task.max_length + virtual > longest:
            raise UserError(
                f"{where}.num_virtual_tokens = {virtual}: the model reads {longest} tokens, and "
                f"{examples.task.name} has up to {examples.task.max_length}: lower one of the two"
            )
