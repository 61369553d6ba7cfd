"""Records of the untouched model with a few-shot prompt, which no run is asked with."""

import pandas as pd

PROMPTED = "shots-"
"""What their condition begins with; the number of shots follows."""


def apart(base: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of a base without those, and those alone."""
    prompted = base["condition"].str.startswith(PROMPTED)
    asked, shown = (base[one].reset_index(drop=True) for one in (~prompted, prompted))
    return asked, shown
