"""Many runs side by side.

import zoo.comparison
found = zoo.comparison.compare(["runs/sweeps"])
found.table("Summary")  # a DataFrame: a line for each model; for each column mean, std, n, …
found.numbers           # every number of every seed, as one long DataFrame
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "compare":  # imports pandas, which the labels of a sweep's jobs do not need
        from zoo.comparison.collect import compare

        return compare
    raise AttributeError(f"module 'zoo.comparison' has no attribute '{name}'")
