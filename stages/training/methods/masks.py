"""What methods have in common that ask a teacher, before the first step, what it makes of rows."""

from stages.training.methods.method import Fit


def misfit_of_masks(fit: Fit) -> str | None:
    """Why a run's rows cannot be shown to a teacher beforehand; None where they can."""
    masked = [task for task, kind in fit.targets.items() if kind == "masked-lm"]
    if not masked:
        return None
    return f"what is masked of {masked[0]} is drawn at each step anew; l2-sp or replay would fit"
