"""LoRA through PEFT (Hu et al. 2021, arXiv 2106.09685): low-rank additions to all linear layers;
DoRA (arXiv 2402.09353) and rsLoRA (arXiv 2312.03732) are settings of it."""

from typing import Annotated, ClassVar

from pydantic import Field

from stages.training.methods.method import Fit, Method
from stages.training.methods.peft_wrapper import misfit_of_adapter, wrap
from stages.training.subject import Subject


class Lora(Method):
    """The names are those of PEFT's LoraConfig."""

    name: ClassVar[str] = "lora"
    r: Annotated[int, Field(ge=1, le=1024)]
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    use_dora: bool = False
    use_rslora: bool = False

    def misfit(self, fit: Fit) -> str | None:
        if fit.run.quantise and fit.model != "causal":
            return f"an {fit.model} is not loaded in 4 bits: leave quantise out"
        return misfit_of_adapter(self.name, fit)

    def adapt(self, subject: Subject) -> None:
        """Freeze the body and add adapters; alpha is 2r unless given."""
        settings = self.model_dump() | {"lora_alpha": self.lora_alpha or 2 * self.r}
        wrap(subject, self.name, "LORA", settings)
