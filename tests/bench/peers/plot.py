"""Two bar charts as SVG, on logarithmic axes: throughput at 40 callers, and median latency at a low rate."""

import math

import engines
import workloads

COLORS = {
    "axum": "#9e9e9e", "direct": "#bdbdbd", "millstream": "#d1495b", "fastapi": "#00798c", "triton": "#66a182",
    "bentoml": "#edae49", "ray": "#2e4057", "ray-fast": "#8d96a3",
}
WIDTH, PANEL, LEFT, TOP, BOTTOM = 960, 260, 70, 70, 40


def panel(rows, names, title, value, y):
    """One chart: groups of bars, one group a workload."""
    values = [number for row in rows if (number := value(row))]
    low = math.floor(math.log10(min(values))) if values else 0
    high = max(low + 1, math.ceil(math.log10(max(values)))) if values else 1
    bottom = y + PANEL
    scale = PANEL / (high - low)
    place = lambda number: bottom - (math.log10(number) - low) * scale
    parts = [f'<text x="{LEFT}" y="{y - 12}" font-weight="bold">{title}</text>']
    for exponent in range(low, high + 1):
        line = place(10**exponent)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{line:.1f}" y2="{line:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{line + 4:.1f}" text-anchor="end">{10**exponent:g}</text>')
    group = (WIDTH - 20 - LEFT) / len(names)
    for index, name in enumerate(names):
        bars = [row for row in rows if row["workload"] == name and value(row)]
        width = min(28, group * 0.85 / max(1, len(bars)))
        x = LEFT + group * index + (group - width * len(bars)) / 2
        for bar in bars:
            top = place(value(bar))
            text = f"{engines.TITLES[bar['engine']]}, {name}: {value(bar):,.3g}"
            parts.append(f'<rect x="{x:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{max(1, bottom - top):.1f}" '
                         f'fill="{COLORS[bar["engine"]]}"><title>{text}</title></rect>')
            x += width
        parts.append(f'<text x="{LEFT + group * (index + 0.5):.1f}" y="{bottom + 18}" text-anchor="middle">{name}</text>')
    return parts


def svg(result):
    """The whole picture."""
    rows = result["rows"]
    there = {row["workload"] for row in rows}
    names = [workload.name for workload in workloads.WORKLOADS if workload.name in there] or ["nothing"]
    median = lambda figure: figure and figure["median"]
    height = TOP + 2 * (PANEL + BOTTOM) + 60
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    x = LEFT
    for engine in dict.fromkeys(row["engine"] for row in rows):
        title = engines.TITLES[engine].replace(" (floor)", "").replace(", called", "")
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLORS[engine]}"/>')
        parts.append(f'<text x="{x + 16}" y="24">{title}</text>')
        x += 30 + int(6.3 * len(title))
    parts += panel(rows, names, "good answers per second, 40 callers (higher is better)",
                   lambda row: median(row["per_s"].get("40")), TOP)
    parts += panel(rows, names, "median latency at a low rate, ms (lower is better)",
                   lambda row: median(row["p50_ms"]), TOP + PANEL + BOTTOM + 40)
    return "\n".join([*parts, "</svg>"]) + "\n"
