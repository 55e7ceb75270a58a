"""Learning-rate schedules: functions of the share of max_images that is spent, so they know no steps and need no saved state."""

import math


class Constant:
    """The learning rate grows linearly over `warmup` (a share of max_images), then stays."""

    def __init__(self, warmup: float = 0.0) -> None:
        self.warmup = warmup

    def __call__(self, spent: float) -> float:
        return min(1.0, (spent + 1e-9) / self.warmup) if self.warmup else 1.0


class Cosine(Constant):
    """Warm-up, then half a cosine down to the factor `final` at the end of max_images."""

    def __init__(self, warmup: float = 0.1, final: float = 0.0) -> None:
        super().__init__(warmup)
        self.final = final

    def __call__(self, spent: float) -> float:
        rest = min(1.0, max(0.0, (spent - self.warmup) / (1 - self.warmup)))
        return super().__call__(spent) * (self.final + (1 - self.final) * (1 + math.cos(math.pi * rest)) / 2)
