"""The saved view of a study in W&B: leaderboard, best so far, parallel coordinates, importance, and panels per symbol."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from results.tracking.wandb_tables import BOARD, TRIALS, X_AXIS

_SYMBOL: Final = re.compile(r"(.+?)(?:[./@]([A-Z][A-Z0-9.-]*)|\[([A-Z][A-Z0-9.-]*)\])")
_MOST_COLUMNS: Final = 12


def per_symbol(metrics: Sequence[str]) -> Mapping[str, list[str]]:
    """Return metrics that are given for each symbol (`return.AAPL`, `return/AAPL`, `return[AAPL]`), by what they measure."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in metrics:
        if match := _SYMBOL.fullmatch(name):
            found[match[1]].append(name)
    return {what: names for what, names in found.items() if len(names) > 1}


def workspace(
    entity: str, project: str, run: str, study: str, objective: str, parameters: Sequence[str], metrics: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    """Return the view and its definition in JSON: name, project, spec.

    Args:
        entity: Whose project it is; "" offline.
        project: Its name.
        run: Id of the study's run; the view's name follows from it.
        study: Name of the study, the runs' group.
        objective: Metric that ranks.
        parameters: Of the space.
        metrics: All that trials have.
    """
    import wandb_workspaces.reports.v2 as parts
    import wandb_workspaces.workspaces as views
    from wandb_workspaces import expr

    axes = [parts.ParallelCoordinatesPlotColumn(metric=parts.Config(name), display_name=name) for name in parameters[:_MOST_COLUMNS]]
    axes.append(parts.ParallelCoordinatesPlotColumn(metric=parts.SummaryMetric(objective), display_name=objective))
    sections = [
        views.Section(name="Leaderboard", panels=[parts.WeavePanelSummaryTable(table_name=BOARD)], is_open=True),
        views.Section(
            name="Progress",
            panels=[
                parts.LinePlot(title="Best so far", x=X_AXIS, y=[f"best/{objective}"]),
                parts.LinePlot(title="Trials", x=X_AXIS, y=["trials/completed", "trials/stopped", "trials/failed"]),
                parts.LinePlot(title="Trials per second", x=X_AXIS, y=["speed/trials_per_second"]),
                parts.LinePlot(title="Workers busy", x=X_AXIS, y=["workers/busy"]),
            ],
            is_open=True,
        ),
        views.Section(
            name="Parameters",
            panels=[parts.ParallelCoordinatesPlot(columns=axes), parts.ParameterImportancePlot(with_respect_to=objective)],
            is_open=True,
        ),
        views.Section(name="All trials", panels=[parts.WeavePanelSummaryTable(table_name=TRIALS)], is_open=False),
    ]
    if symbols := per_symbol(metrics):
        panels: list[Any] = [parts.BarPlot(title=f"{what} per symbol", metrics=list(names)) for what, names in symbols.items()]
        sections.append(views.Section(name="Per symbol", panels=panels, is_open=True))
    made = views.Workspace(
        entity=entity or "entity",
        project=project,
        name=f"alphasweep {study}",
        sections=sections,
        runset_settings=views.RunsetSettings(filters=[expr.Metric("Group") == study]),
    )
    made._internal_name = f"nw-{run}-v"
    spec = made._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return made, {"name": made.name, "project": project, "spec": spec}


def saved(made: Any) -> str:
    """Saves a view on the server and returns its address; its name follows from the study, so saved again it is the same one."""
    made.save()
    return str(made.url)
