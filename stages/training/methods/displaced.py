"""What methods have in common that hold the base's weights in place."""

from stages.training.methods.lora import Lora
from stages.training.methods.method import Fit, Method


def misfit_of_displacement(fit: Fit) -> str | None:
    """Why the base's weights cannot be said to have moved in a run; None where they can.

    They do where they train themselves, and where a product is added to them.
    """
    for method in Method.__subclasses__():
        settings = fit.run.methods.get(method.name)
        if settings is None or method.adapt is Method.adapt:
            continue
        if method is not Lora:
            return _refusal(method.name, "it trains weights of its own beside the base's")
        if settings.get("use_dora"):
            return _refusal("lora.use_dora", "DoRA also rescales the base's columns")
    return None


def _refusal(adapter: str, reason: str) -> str:
    return (
        f"needs the distance of each weight from the base, which {adapter} does not give: "
        f"{reason}; what would fit: no adapter, or lora without use_dora"
    )
