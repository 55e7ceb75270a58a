""""""

import json
import shlex
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.context import EvalContext
from zoo.evaluation.protocol import GROUPS
from zoo.files import sha256_of, write_json
from zoo.runs.load import Run
from zoo.runs.provenance import versions

FORMAT = 1


class Book:
    """evaluation.json (for other splits than test evaluation-SPLIT.json): the same command on the same machine writes the same bytes.

    Numbers that an earlier command measured stay beside new ones if the weights, the images, the seed, the features and the zoo's commit
    are the same: a name says what was measured, so one name never stands for two things. Otherwise the book begins anew.

    Raises ZooError for a file that is there but cannot be read.
    """

    def __init__(self, out: Path, run: Run, context: EvalContext, overrides: list[str]) -> None:
        self.path = out / ("evaluation.json" if context.split == "test" else f"evaluation-{context.split}.json")
        features = {} if context.features is None else {context.features.name: context.features.identity()}
        self.notes = context.notes
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "model": run.config.model.name,
            "data": run.config.data.name,
            "command": run.command,
            "evaluation": shlex.join(["python", "-m", "zoo.evaluate", *overrides]),
            "seed": run.config.seed,
            "images_seen": run.spent["images_seen"],
            "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
            "latent_dim": run.model.latent_dim,
            "measured": {
                "checkpoint_sha256": sha256_of(run.checkpoint),
                "images_sha256": context.store.sha256,
                "split": context.split,
                "seed": context.seed,
                "device": context.device.type,
            },
            "features": features,
            "metrics": {},
            "notes": [],
            "trained_with": run.versions,
            "versions": versions(),
        }
        old = read_json(self.path) if self.path.is_file() else {}
        same = all(old.get(key) == self.content[key] for key in ("format", "measured", "versions"))
        if same and all(features.get(name, known) == known for name, known in old["features"].items()):
            self.content |= {"features": old["features"] | features, "metrics": old["metrics"]}

    def add(self, numbers: dict[str, float]) -> None:
        """Enters numbers and writes the file."""
        metrics = self.content["metrics"] | numbers
        self.content["metrics"] = dict(sorted(metrics.items(), key=lambda item: list(GROUPS).index(item[0].split("/")[0])))
        self.content["notes"] = self.notes
        write_json(self.path, self.content)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises ZooError if it is damaged."""
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    except (ValueError, OSError):
        pass
    raise ZooError(f"{path} is damaged; remove it, and it is written anew.")
