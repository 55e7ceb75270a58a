"""Means over images or steps, summed on the device in float64."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.hardware import distributed


class Means:
    """Weighted sums of named scalars. Nothing waits for the device until `take`; ranks must have the same names."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None  # (names + 1,) float64; the last is the weight

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Adds scalars that are means over `weight` images, or over one step."""
        scalars = [value.detach().double() * weight for value in values.values()]
        found = torch.stack([*scalars, torch.full_like(scalars[0], weight)])
        self.names, self.sums = list(values), found if self.sums is None else self.sums.to(found.device) + found

    def take(self) -> tuple[dict[str, float], float]:
        """The means over all ranks, and the weight of what they are over; begins anew."""
        *totals, weight = self._over_ranks()
        self.sums = None
        return ({name: total / weight for name, total in zip(self.names, totals, strict=True)} if weight else {}), weight

    def _over_ranks(self) -> list[float]:
        if self.sums is None:
            return [0.0]
        sums = self.sums.clone()
        if distributed():
            dist.all_reduce(sums)
        return sums.tolist()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; called on all ranks, and the same on them."""
        ranks = dist.get_world_size() if distributed() else 1
        return {"names": self.names, "sums": [total / ranks for total in self._over_ranks()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.names, sums = state["names"], state["sums"]
        self.sums = torch.tensor(sums, dtype=torch.float64) if len(sums) > 1 else None
