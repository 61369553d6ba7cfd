"""Any of PEFT's adapters, by the names of PEFT's own configs."""

from typing import ClassVar, Self

from pydantic import ConfigDict, model_validator

from stages.config.reading import suggestion
from stages.training.methods.method import Fit, Method
from stages.training.methods.peft_wrapper import PROMPTS, check_settings, misfit_of_adapter, wrap
from stages.training.subject import Subject

TYPES = (
    "BOFT",
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "HIRA",
    "HRA",
    "IA3",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "LORA",
    "MISS",
    "OFT",
    "PSOFT",
    "PVERA",
    "RANDLORA",
    "ROAD",
    "SHIRA",
    "TINYLORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
    *PROMPTS,
)
"""Those whose saved adapter gives the trained model again, and that need nothing but a forward
pass: PEFT's others want task ids, rows of their own, or a loop of their own."""


class Adapter(Method):
    """`peft_type`, and any key of PEFT's config of that type."""

    model_config = ConfigDict(extra="allow")
    name: ClassVar[str] = "adapter"
    peft_type: str

    @model_validator(mode="after")
    def _peft_takes_it(self) -> Self:
        if self.peft_type == "ADALORA":
            raise ValueError(f"peft_type = {self.peft_type!r}: is a method of its own: adalora")
        if self.peft_type not in TYPES:
            near = suggestion(self.peft_type, TYPES)
            raise ValueError(
                f"peft_type = {self.peft_type!r}: give one of {', '.join(TYPES)}{near}"
            )
        check_settings(self.peft_type, self.model_extra or {})
        return self

    def misfit(self, fit: Fit) -> str | None:
        if self.peft_type in PROMPTS and fit.model == "seq2seq":
            return "its two sides have no place for virtual tokens here; lora would fit"
        if self.peft_type in PROMPTS and fit.model == "causal":
            return (
                "a causal model is read through caches and trees that know no virtual tokens; "
                "lora, or adapter with peft_type IA3, would fit"
            )
        if self.peft_type in PROMPTS and fit.run.before:
            return (
                "a step of a sequence is kept as whole weights, and virtual tokens are no change "
                "of them; lora, or adapter with peft_type IA3, would fit"
            )
        if self.peft_type == "PREFIX_TUNING" and fit.run.gradient_checkpointing:
            return (
                "a layer that is computed again has no virtual tokens before the text: leave "
                "gradient_checkpointing out"
            )
        return misfit_of_adapter(self.name, fit)

    def grows(self) -> str | None:
        return "virtual tokens are no change of weights" if self.peft_type in PROMPTS else None

    def unmerged(self) -> str | None:
        return self.grows()

    def adapt(self, subject: Subject) -> None:
        """Freeze the body and put the adapter around it."""
        wrap(subject, self.name, self.peft_type, dict(self.model_extra or {}))
