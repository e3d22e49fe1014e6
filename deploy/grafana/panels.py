"""What the boards are made of: panels, expressions of PromQL, variables."""

WIDTH = 24  # of a board, in columns
PIPELINE = 'pipeline=~"$pipeline"'
DEPLOYMENT = 'deployment=~"$deployment"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(title, description, unit, *queries, kind="timeseries", format="time_series", width=12, height=8, **options):
    """A panel of one or more queries, each as (expression, legend). `place` puts it on the board.

    The format `heatmap` makes the buckets of a histogram, each of which holds the ones before it, separate."""
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, **options}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "format": format,
            }
            for number, (expression, legend) in enumerate(queries)
        ],
    }
    if kind == "timeseries":
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind in ("stat", "bargauge"):
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}}
        for target in made["targets"]:
            target["instant"] = True
    return made


def stat(title, description, unit, expression, **options):
    """One number of now."""
    return panel(title, description, unit, (expression, ""), kind="stat", width=4, height=4, **options)


def colors(*steps):
    """Colours from a value on: colors(("green", None), ("red", 1))."""
    return {
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]},
    }


GOOD_IS_ZERO = colors(("green", None), ("red", 1))


def series(metric, selector=""):
    """The series of a metric that have these labels."""
    return f"{metric}{{{selector}}}" if selector else metric


def aggregated(function, expression, by):
    """One number for each value of the labels `by`, or one of all."""
    return f"{function} by ({by}) ({expression})" if by else f"{function}({expression})"


def rate(metric, selector="", by=""):
    """Per second, summed over processes."""
    return aggregated("sum", f"rate({series(metric, selector)}[$__rate_interval])", by)


def quantile(part, metric, selector, by):
    """A percentile of a histogram."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({part}, {rate(metric + '_bucket', selector, labels)})"


def largest(metric, selector="", by=""):
    """A gauge that only the head has."""
    return aggregated("max", series(metric, selector), by)


def variable(name, label, query):
    """A choice of the values of a label; all at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


DATASOURCE = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
PIPELINES = variable("pipeline", "Pipeline", "label_values(millstream_rollout_state, pipeline)")
DEPLOYMENTS = variable(
    "deployment",
    "Deployment",
    'label_values(millstream_target_replicas{deployment=~"$pipeline/.*"}, deployment)',
)


def place(panels):
    """Puts panels side by side, in rows, in their order."""
    x = y = row = 0
    for made in panels:
        place_of = made["gridPos"]
        if x + place_of["w"] > WIDTH:
            x, y, row = 0, y + row, 0
        place_of.update(x=x, y=y)
        x += place_of["w"]
        row = max(row, place_of["h"])
    return panels


def board(name, title, description, variables, panels):
    """A whole board. Its uid never changes, so that importing it again replaces it."""
    return {
        "uid": f"millstream-{name}",
        "title": f"Millstream: {title}",
        "description": description,
        "tags": ["millstream"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "title": "Millstream",
                "type": "dashboards",
                "tags": ["millstream"],
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [DATASOURCE, *variables]},
        "panels": place(panels),
    }
