"""The results as Markdown: one table, and what one must know to read it."""

import engines
import workloads

INTRO = """# Millstream beside its peers

Made by `tests/bench/run`; [docs/benchmarks.md](../benchmarks.md) says what is measured and how each engine is set up.
Compare the rows of one workload with each other, not with figures of another machine or day: unless a workload says
otherwise, server and load generator share one machine's cores.
"""


def figure(value, digits=None):
    if value is None:
        return "–"
    value = value["median"] if isinstance(value, dict) else value
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:,.{digits}f}"


def widest(row):
    """Largest distance of two repeats, as a part of the median."""
    figures = [row["p50_ms"], *row["per_s"].values()]
    parts = [(one["max"] - one["min"]) / one["median"] for one in figures if one and one["median"]]
    return f"{100 * max(parts):.0f}%" if parts else "–"


def markdown(result):
    about, rows = result["about"], result["rows"]
    settings = about["settings"]
    concurrency = [str(number) for number in settings["concurrency"]]
    lines = [INTRO]
    if about["note"]:
        lines.append(about["note"] + "\n")
    machine = about["machine"]
    lines.append(
        f"{about['date']}; {machine['cores']} cores, {machine['memory_gib']} GiB; {settings['threads']} threads for a model in "
        f"every engine; medians of {about['repeats']} runs in turn"
        f"{', short ones (`--quick`)' if settings['quick'] else ''}; load from {about['generator']}, which gives a request up after {settings['timeout']}; Python {about['python']}.\n"
    )
    lines += [f"- {engines.TITLES[name]}: {text}" for name, text in about["versions"].items()]
    lines += [f"- {engines.TITLES[name]}: left out: {text}" for name, text in about["left_out"].items()]
    header = ["workload", "engine", "cold start, s", "idle, MiB", "p50, ms", "p95", "p99",
              *(f"/s at {number}" for number in concurrency), "CPU s per 1,000", "errors", "spread"]
    lines += ["", "| " + " | ".join(header) + " |", "| --- | --- |" + " ---: |" * (len(header) - 2)]
    last = None
    for row in rows:
        workload = workloads.BY_NAME[row["workload"]]
        title = f"**{workload.title}** (latency at {workload.rate}/s)" if row["workload"] != last else ""
        last = row["workload"]
        engine = f"**{engines.TITLES[row['engine']]}**" if row["engine"] == "millstream" else engines.TITLES[row["engine"]]
        if 0 < row["runs"] < about["repeats"]:
            engine += f" ({row['runs']} runs)" if row["runs"] > 1 else " (1 run)"
        if not row["runs"]:
            cells = [title, f"{engine}: {'; '.join(row['failed'])[:120]}"] + ["–"] * (len(header) - 2)
        else:
            cells = [title, engine, figure(row["cold_start_s"]), figure(row["idle_mib"]),
                     *(figure(row[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
                     *(figure(row["per_s"].get(number)) for number in concurrency),
                     figure(row["cpu_s_per_1000"]), f"{row['errors']:,}", widest(row)]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        "\nColumns: seconds from the start of the process to its first good answer; memory (PSS) of all its processes before "
        "any load; latency from when a request was due, at the rate named; good answers per second with so many callers that "
        "wait for their answers; user and system time of all its processes for 1,000 answers, at 40 callers; requests without a "
        "good answer, all runs together; largest distance between two repeats, as a part of the median, over p50 and throughput. "
        "Rows of models called directly have no HTTP and no callers: with batching their throughput is that of batches "
        "of so many requests (at most 64) in one call."
    )
    told = [f"{engines.TITLES[row['engine']]}, {row['workload']}: {'; '.join(row['error_texts'])}"
            for row in rows if row["error_texts"]]
    if told:
        lines += ["\nErrors said:", "", *(f"- {text}" for text in told)]
    return "\n".join(lines) + "\n"
