"""What methods have in common that work on the labels of targets."""

from stages.config.kinds import ANSWERS, LABELLED
from stages.training.methods.method import Fit


def misfit_of_labels(fit: Fit) -> str | None:
    """Why a method of labels does not fit a run; None where every target has labels."""
    others = [task for task, kind in fit.targets.items() if kind not in LABELLED]
    if not others:
        return None
    reason = f"works on labels, and {', '.join(others)} has none"
    if not set(LABELLED) & set(ANSWERS[fit.model]):
        return f"{reason}; those of a {fit.model} model never have: leave it out"
    return f"{reason}; what would fit: targets of the kinds {', '.join(LABELLED)}"
