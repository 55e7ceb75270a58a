"""The comparison on Weights & Biases: a workspace and a report of its runs, made from code by wandb-workspaces (extra `dashboard`).

Both show what the runs logged while they trained, so the validation split (`zoo.comparison.panels`); the report's tables are those of
the comparison.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from zoo.comparison.exports import LEGEND, grid, markdown_of
from zoo.comparison.panels import grouping, logged, qualities, sections
from zoo.comparison.parts import Comparison, Entry
from zoo.errors import ZooError
from zoo.files import read_json, write_json
from zoo.runs.wandb_files import shown_path, upload_command, wandb_node


def dashboard(comparison: Comparison, out: Path) -> str:
    """Creates the workspace and the report, or updates those that an earlier call has made; without an account only describes them.

    `out`/dashboard.json holds both as W&B stores them, and remembers which ones they are: the next call with the same `out` overwrites
    them, also what was changed by hand. Without an account (or with WANDB_MODE=offline) no server is asked.

    Returns:
        What was made and what is left to do, for the terminal.

    Raises:
        ZooError: wandb-workspaces is not installed, no run was logged to W&B, the runs lie in several projects, the file is damaged,
            or the server refused.
    """
    try:
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError:
        raise ZooError("dashboard=wandb needs the package wandb-workspaces; install it with pip install 'zoo[dashboard]'.") from None
    from zoo.training.loggers import has_wandb_account  # imports Lightning

    entries = on_wandb(comparison)
    entity, project = home(entries)
    path = out / "dashboard.json"
    record, remembered = described(comparison, entries, entity, project), read(path)
    if all(remembered.get(key) == record[key] for key in ("entity", "project")):
        for part in ("workspace", "report"):
            record[part] = remembered[part] | record[part]

    sync, mode = upload_command([entry.folder for entry in entries if entry.folder]), os.environ.get("WANDB_MODE", "online")
    if not has_wandb_account() or mode != "online":
        write_json(path, record)
        why, first = (
            (f"WANDB_MODE is {mode}", "unset WANDB_MODE") if has_wandb_account() else ("No W&B account is set up here", "wandb login")
        )
        steps = f"{first} && {sync}" if sync else first
        return f"{why}, so the dashboard was only described, in {shown_path(path)}; run {steps} and give the same command again."
    try:
        save(record, comparison, entries, entity, project)
    except Exception as error:  # the library raises plain Exception, too
        reason, first = " ".join(str(error).split()).rstrip("."), f"upload the runs by {sync}" if sync else "look at wandb login"
        raise ZooError(
            f"W&B did not take the dashboard ({reason}); {first}, and give the command again; its description is {shown_path(path)}."
        ) from error
    finally:
        write_json(path, record)
    made = f"W&B workspace {record['workspace']['url']} and report {record['report']['url']}"
    return f"{made} show {len(entries)} runs" + (f"; some were logged offline and appear after {sync}." if sync else ".")


def on_wandb(comparison: Comparison) -> list[Entry]:
    """The runs that the dashboard shows: finished ones and those still training, if they log to W&B. Raises ZooError if there is none."""
    entries = [entry for row in comparison.rows for entry in row.entries]
    entries += [entry for entry in comparison.others if entry.status == "training"]
    found = [entry for entry in entries if logger_of(entry).get("id")]
    if not found:
        raise ZooError("None of these runs was logged to W&B, so there is nothing for a dashboard to show; train with logger=wandb.")
    return found


def logger_of(entry: Entry) -> dict[str, Any]:
    """The settings of W&B in a run's configuration; empty if it does not log there."""
    return wandb_node(entry.config.get("logger") or {})


def home(entries: list[Entry]) -> tuple[str, str]:
    """Entity ("" for the account's own) and project of the runs. Raises ZooError if they differ."""
    homes: dict[tuple[str, str], str] = {}  # and one run there
    for entry in entries:
        homes.setdefault((logger_of(entry).get("entity") or "", logger_of(entry).get("project") or "zoo"), entry.name)
    if len(homes) > 1:
        where = ", ".join(f"{'/'.join(filter(None, project))} ({name})" for project, name in homes.items())
        raise ZooError(f"A W&B dashboard shows the runs of one project, but these lie in {where}; compare the runs of one project.")
    return next(iter(homes))


def described(comparison: Comparison, entries: list[Entry], entity: str, project: str) -> dict[str, Any]:
    """Workspace and report as W&B stores them, but for what only an account has; the same comparison gives the same."""
    parts = {"workspace": build_workspace(comparison, entries, "", ""), "report": build_report(comparison, entries, "", "")}
    specs = {
        name: {"spec": part._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)} for name, part in parts.items()
    }
    about = {"title": comparison.title, "runs": [logger_of(entry)["id"] for entry in entries]}
    return about | specs | {"entity": entity or None, "project": project}


def build_workspace(comparison: Comparison, entries: list[Entry], entity: str, project: str) -> Any:
    """A `Workspace` of these runs only, grouped by row and sorted by the first metric."""
    import wandb_workspaces.workspaces as ws

    best = qualities(comparison, logged(entries))
    shown = sections(comparison, entries)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=comparison.title,
        sections=[ws.Section(name=title, panels=fixed(panels, f"workspace {title}"), is_open=True) for title, panels in shown],
        settings=ws.WorkspaceSettings(x_axis="images_seen", max_runs=len(entries)),
        runset_settings=ws.RunsetSettings(
            filters=chosen(entries),
            groupby=[ws.Config(key) for key in grouping(comparison)],
            order=[ws.Ordering(ws.Summary(metric), ascending=column.better == "low") for metric, column in best[:1]],
            pinned_columns=["run:displayName", *(f"summary:{metric}" for metric, _ in best)],
        ),
    )


def build_report(comparison: Comparison, entries: list[Entry], entity: str, project: str) -> Any:
    """A `Report`: the comparison's tables as text, then the panels. With an entity and a project its spec asks W&B for their numbers."""
    import wandb_workspaces.reports.v2 as wr

    best = qualities(comparison, logged(entries))
    blocks: list[Any] = [
        wr.P("The tables are those of zoo.compare. The panels show what the runs logged while they trained, so the validation split.")
    ]
    for table in comparison.tables:
        blocks += [wr.H2(table.title), wr.MarkdownBlock(markdown_of(table))]
    blocks.append(wr.MarkdownBlock(LEGEND))
    lists = {
        "The same for all": [f"{fact}: {value}" for fact, value in comparison.protocol.items()],
        "Not finished": [f"{entry.name}: {entry.status} ({entry.reason})" for entry in comparison.others],
        "Notes": comparison.notes,
    }
    for title, items in lists.items():
        blocks += [wr.H3(title), wr.UnorderedList(items=list(items))] if items else []
    if len(comparison.differing.columns):
        blocks += [wr.H3("Settings that differ"), wr.MarkdownBlock(grid(comparison.differing.T.rename_axis("setting"), "---"))]
    for title, panels in sections(comparison, entries):
        for index, panel in enumerate(panels):  # three to a line of 24 units
            large = isinstance(panel, wr.MediaBrowser | wr.RunComparer)
            row = 6 * (index // 3)
            panel.layout = wr.Layout(x=0, y=row + 6, w=24, h=12) if large else wr.Layout(x=8 * (index % 3), y=row, w=8, h=6)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name="compared runs",
            filters=chosen(entries),
            groupby=[f"config.{key}" for key in grouping(comparison)],
            order=[wr.OrderBy(wr.SummaryMetric(metric), ascending=column.better == "low") for metric, column in best[:1]],
        )
        blocks += [wr.H2(title), wr.PanelGrid(runsets=fixed([runs], f"runs {title}"), panels=fixed(panels, f"report {title}"))]
    blocks += [wr.H3("Command"), wr.CodeBlock(comparison.command, language=None)]
    return wr.Report(entity=entity, project=project, title=comparison.title[:128], blocks=blocks, width="fluid")


def chosen(entries: list[Entry]) -> str:
    """The filter that leaves these runs."""
    return f"Metric('ID') in {[logger_of(entry)['id'] for entry in entries]}"


def fixed(parts: list[Any], where: str) -> list[Any]:
    """Gives panels or run sets names that are the same every time: the library draws them at random."""
    for position, part in enumerate(parts):
        part._id = hashlib.sha256(f"{where} {position}".encode()).hexdigest()[:12]
    return parts


def save(record: dict[str, Any], comparison: Comparison, entries: list[Entry], entity: str, project: str) -> None:
    """Creates both in W&B, or overwrites the remembered ones; what they are called goes into the record."""
    import wandb

    entity = entity or wandb.Api().default_entity or ""
    report = build_report(comparison, entries, entity, project)
    report.id = record["report"].get("id", "")
    report.save()  # first, as it says when W&B does not know the project yet
    record["report"] |= {"id": report.id, "url": report.url}
    workspace = build_workspace(comparison, entries, entity, project)
    workspace._internal_name, workspace._internal_id = (record["workspace"].get(key, "") for key in ("name", "id"))
    workspace.save()
    record["workspace"] |= {"name": workspace._internal_name, "id": workspace._internal_id, "url": workspace.url}


def read(path: Path) -> dict[str, Any]:
    """What an earlier call has written, {} if there was none. Raises ZooError if the file is damaged."""
    record = read_json(path)
    if path.is_file() and not all(isinstance(record.get(part), dict) for part in ("workspace", "report")):
        raise ZooError(f"{path} is damaged; remove it, and a new dashboard is made (an old one stays in W&B).")
    return record
