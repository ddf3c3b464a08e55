"""What a notebook shows: a cluster with its controls, and the form of the options. Needs ipywidgets, else nothing.

Each widget is made once for its object. What goes wrong when a button is pressed is said beside the button: the
notebook would hide it in its log.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate.client.errors import GatewayError, GatewayWarning
from tidegate.client.keeping import ClusterEnding
from tidegate.client.live import LiveView
from tidegate.client.options import Options, declarations, watch
from tidegate.model.errors import Invalid
from tidegate.model.mappings import from_lines, to_lines
from tidegate.model.options import Kind, Option

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster
    from tidegate.client.display import ClusterDisplay


def cluster_widget(cluster: GatewayCluster) -> Any:
    """Return tabs with the cluster's status and its size, kept up to date; None without ipywidgets."""
    try:
        import ipywidgets as widgets
    except ImportError:
        return None
    status, scaling = widgets.HTML(cluster._repr_html_()), widgets.HTML(scaling_table(cluster))
    message = widgets.HTML()
    if cluster._report is not None and not cluster._report.may("scale"):
        _keep_fresh(cluster, lambda: setattr(status, "value", cluster._repr_html_()))
        return status
    keep, kept = widgets.Button(description="Keep", tooltip="Call the end off"), widgets.HTML()
    keep.layout.display = _display(can_be_kept(cluster))

    def update() -> None:
        status.value, scaling.value = cluster._repr_html_(), scaling_table(cluster)
        keep.layout.display = _display(can_be_kept(cluster))

    def press(action: Callable[[], Any], answer: Any = message) -> Callable[[Any], None]:
        def pressed(_: Any) -> None:
            answer.value = _said(action)
            update()

        return pressed

    keep.on_click(press(cluster.keep, kept))

    by_hand = _row(widgets, "Scale", {"Workers": 0}, lambda workers: press(lambda: cluster.scale(workers())))
    by_load = _row(
        widgets,
        "Adapt",
        {"Minimum": 0, "Maximum": 0},
        lambda low, high: press(lambda: cluster.adapt(minimum=low(), maximum=high())),
    )
    accordion = widgets.Accordion([by_hand, by_load], layout=widgets.Layout(min_width="500px"))
    accordion.selected_index = None
    accordion.set_title(0, "Manual Scaling")
    accordion.set_title(1, "Adaptive Scaling")
    tabs = widgets.Tab()
    tabs.children = [
        widgets.VBox([status, widgets.HBox([keep, kept])]),
        widgets.VBox([scaling, accordion, message]),
    ]
    tabs.set_title(0, "Status")
    tabs.set_title(1, "Scaling")
    _keep_fresh(cluster, update)
    return tabs


def _row(widgets: Any, label: str, fields: dict[str, int], connect: Callable[..., Callable[[Any], None]]) -> Any:
    """Return number fields and the button that takes them."""
    layout = widgets.Layout(width="150px")
    boxes = [widgets.IntText(value, description=name, layout=layout) for name, value in fields.items()]
    button = widgets.Button(description=label, layout=layout)
    button.on_click(connect(*(lambda box=box: box.value for box in boxes)))
    return widgets.HBox([*boxes, button])


def _said(action: Callable[[], Any]) -> str:
    """Do it and return what went wrong, or differently from what was asked, as HTML."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GatewayWarning)
        try:
            action()
        except GatewayError as error:
            return f"<b>{html.escape(str(error))}</b>"
    return "<br>".join(html.escape(str(warning.message)) for warning in caught)


def _display(is_shown: bool) -> str | None:
    return None if is_shown else "none"


def _keep_fresh(cluster: GatewayCluster, update: Callable[[], None]) -> None:
    cluster._live = LiveView(cluster.gateway.loop, update, lambda: ending_of(cluster))
    cluster.periodic_callbacks["cluster-repr"] = cluster._live  # what is stopped when the object is closed


def scaling_table(cluster: ClusterDisplay) -> str:
    """Return a table of how large the cluster is, how that is decided, and what keeps it from being as wanted."""
    report = cluster._report
    workers = len(cluster.scheduler_info["workers"])
    rows = {"Scaling mode": "Manual", "Workers": f"{workers}"}
    if report is not None:
        if report.adaptive is not None:
            rows["Scaling mode"] = f"Adaptive, {report.adaptive[0]} to {report.adaptive[1]} workers"
        if report.wanted != workers and report.status.usable:
            rows["Workers"] = f"{workers} / {report.wanted}"
        if report.notes:
            rows["Note"] = " ".join(report.notes)
        if report.reason is not None:
            rows["Reason"] = report.reason["message"]
    cells = "".join(
        f"<tr><td style='text-align: left'>{title}: {html.escape(value)}</td></tr>" for title, value in rows.items()
    )
    return f"<table>{cells}</table>"


def status_rows(cluster: ClusterDisplay) -> str | None:
    """Return rows of the display of a cluster: whose it is, if somebody else's, and when it ends, or why it did."""
    report, rows = cluster._report, {}
    if report is not None and not report.mine:
        rows["Owner"] = report.owner
    if (ending := ending_of(cluster)) is not None:
        # Both: how long it is, and when, for what is no longer drawn again.
        rows["Ends"] = f"in {ending.left} ({ending.at.astimezone():%H:%M %Z}), if nothing changes: {ending.why}"
    elif report is not None and not report.status.usable and report.reason is not None:
        rows["Ended"] = report.reason["message"]
    cell = "<td colspan='2' style='text-align: left;'>"
    return "".join(f"<tr>{cell}<strong>{k}:</strong> {html.escape(v)}</td></tr>" for k, v in rows.items()) or None


def ending_of(cluster: ClusterDisplay) -> ClusterEnding | None:
    """Return the end of a cluster that is in sight, while it is not over."""
    report = cluster._report
    return report.ending if report is not None and report.status.usable else None


def can_be_kept(cluster: ClusterDisplay) -> bool:
    """Whether there is an end in sight that a person can call off."""
    ending = ending_of(cluster)
    return ending is not None and ending.can_be_kept


def options_form(options: Options) -> Any:
    """Return the form of ``options``, bound to them both ways; None without ipywidgets."""
    try:
        import ipywidgets as widgets
    except ImportError:
        return None
    children, inputs = [widgets.HTML("<h3>Cluster options</h3>")], {}
    shown: set[str] = set()
    for option in declarations(options):
        box = _input(widgets, option, options[option.name])
        said = widgets.HTML(f"<i>{html.escape(option.help or option.may_be())}</i>")
        box.observe(_setter(options, option, said, shown), "value")
        inputs[option.name] = box
        label = widgets.HTML(f"<b>{html.escape(_label(option))}</b>", layout=widgets.Layout(width="200px"))
        children.append(widgets.HBox([label, box, said]))

    def show(name: str, value: Any) -> None:
        box = inputs[name]
        is_text = isinstance(box, (widgets.Text, widgets.Textarea))
        shown.add(name)
        try:
            if isinstance(box, widgets.Dropdown) and value not in dict(box.options).values():
                box.options = (*box.options, (str(value), value))  # a profile may set what users cannot choose
            box.value = _as_text(value) if is_text else value
        finally:
            shown.discard(name)

    watch(options, show)
    return widgets.VBox(children)


def _label(option: Option) -> str:
    label = option.label or option.name
    return f"{label} ({option.unit})" if option.unit and option.unit not in label else label


def _setter(options: Options, option: Option, said: Any, shown: set[str]) -> Callable[[Any], None]:
    """Return what takes over a value from its box; ``shown`` are those that are being put there, and not by hand."""

    def changed(change: Any) -> None:
        if option.name in shown:
            return
        try:
            value = change["new"]
            options[option.name] = from_lines(value, option.name) if option.kind is Kind.MAPPING else value
            said.value = f"<i>{html.escape(option.help or option.may_be())}</i>"
        except (GatewayError, Invalid) as error:
            said.value = f"<b>{html.escape(str(error))}</b>"

    return changed


def _input(widgets: Any, option: Option, value: Any) -> Any:
    """Return the input that suits the option. Bounds are not the widget's: it would change a value without a word."""
    disabled = option.fixed
    if option.kind is Kind.BOOLEAN:
        return widgets.Checkbox(value=value, indent=False, disabled=disabled)
    if option.kind is Kind.CHOICE:
        choices = [(label, choice) for choice, label in option.all_choices.items()]
        return widgets.Dropdown(value=value, options=choices, disabled=disabled)
    if option.kind is Kind.MAPPING:
        return widgets.Textarea(
            value=to_lines(value), placeholder="NAME=text", continuous_update=False, disabled=disabled
        )
    if option.kind is Kind.INTEGER:
        return widgets.IntText(value=value, disabled=disabled)
    if option.kind is Kind.FLOAT:
        return widgets.FloatText(value=value, disabled=disabled)
    return widgets.Text(value=str(value), continuous_update=False, disabled=disabled)


def _as_text(value: Any) -> str:
    return to_lines(value) if isinstance(value, dict) else str(value)
