"""evaluation.json of a run while it is measured: what stays of earlier measurements, and what is written."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.files import sha256_of
from zoo.runs import records
from zoo.runs.layout import EVALUATION, RESULTS_FORMAT
from zoo.runs.measurements import Measurement, measurements_of
from zoo.runs.provenance import versions

if TYPE_CHECKING:
    from zoo.runs.load import Run


class ResultsFile:
    """evaluation.json (for other splits than test evaluation-SPLIT.json): the same command on the same machine writes the same bytes.

    Measurements of an earlier command stay beside new ones if the weights, the images, the seed, the features and the zoo's commit are
    the same. Otherwise, or if they are of another format, the file begins anew.

    Args:
        out: The folder it goes to.
        run: What was measured.
        measured: On what: images_sha256, split, seed, device.
        features: The features network by its name: what tells it from others, {} if there was none.
        overrides: Of the command that measures.

    Raises ZooError for a file that is there but damaged.
    """

    def __init__(self, out: Path, run: "Run", measured: dict[str, Any], features: dict[str, Any], overrides: list[str]) -> None:
        split = measured["split"]
        self.path = out / (EVALUATION if split == "test" else f"evaluation-{split}.json")
        self.measurements: list[Measurement] = []
        self.content: dict[str, Any] = {
            "format": RESULTS_FORMAT,
            "model": run.settings.model["name"],
            "data": run.settings.data.name,
            "command": run.command,
            "evaluation": shlex.join(["python", "-m", "zoo.evaluate", *overrides]),
            "seed": run.settings.seed,
            "images_seen": run.spent["images_seen"],
            "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
            "latent_dim": run.model.latent_dim,
            "measured": {"checkpoint_sha256": sha256_of(run.checkpoint), **measured},
            "features": features,
            "measurements": [],
            "notes": [],
            "trained_with": run.versions,
            "versions": versions(),
        }
        old, fault = records.read(self.path)
        if fault == records.DAMAGED:
            raise ZooError(f"{self.path} is damaged; remove it, and it is written anew.")
        same = all(old.get(key) == self.content[key] for key in ("measured", "versions"))
        if same and all(features.get(name, known) == known for name, known in old["features"].items()):
            self.content["features"] = old["features"] | features
            self.measurements = measurements_of(old)

    def add(self, measurements: list[Measurement], notes: list[str]) -> None:
        """Enters measurements, in the place of those of the same quantity and N, and writes the file with these notes."""
        known = {(one.quantity, one.n): one for one in [*self.measurements, *measurements]}
        self.measurements = list(known.values())
        self.content |= {"measurements": [one.to_dict() for one in self.measurements], "notes": notes}
        records.write(self.path, self.content)
