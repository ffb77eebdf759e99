"""What the scenarios have come to, as text and as tables for the documentation."""

BEGIN = "<!-- figures of test/chaos/run.sh: begin -->"
END = "<!-- figures of test/chaos/run.sh: end -->"


def seconds(value):
    return "–" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def figure(value, unit):
    if value is None:
        return "–"
    text = f"{value:.2f}" if isinstance(value, float) and value < 10 else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def errors(result):
    counts = result.load.errors if result.load else {}
    return ", ".join(f"{code} ×{counts[code]}" for code in sorted(counts)) or "none"


def open_ends(result):
    """What those were told who learned neither yes nor no, and how many of these rows are there."""
    return ", ".join(f"{code} ×{n} ({there} written)" for code, (n, there) in sorted(result.codes.items())) or "none"


def text(result):
    """A paragraph about one scenario."""
    lines = [f"== {result.name}: {result.title} ({result.seconds:.0f} s)"]
    load, counts = result.load, result.counts
    if load:
        lines += [
            f"   errors: {errors(result)}; connections lost: {load.disconnects}",
            f"   longest stall {seconds(result.stall)}, no write for {seconds(result.gap)}; after the fault: first write"
            f" {seconds(result.first_write)}, full rate {seconds(result.full_rate)}",
            f"   rows: {counts['committed']} committed, {counts['lost']} lost, {counts['doubled']} doubled,"
            f" {counts['revived']} told failed but there, {counts['strange']} of nobody; unknown: {open_ends(result)};"
            f" wrong answers: {len(load.wrong)}, hung: {load.hung}",
        ]
        for code, texts in sorted(load.texts.items()):
            lines += [f"     {code} {t!r} ×{n}" for t, n in texts.most_common(3)]
    for what, value, unit, limit in result.facts:
        lines.append(f"   {what}: {figure(value, unit)}" + (f" (limit {figure(limit, unit)})" if limit else ""))
    if result.failures:
        lines += [result.log] + [f"   FAILED: {failure}" for failure in result.failures]
    return "\n".join(lines)


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows]


def markdown(results, machine):
    """Both tables."""
    rows = [
        [what, figure(value, unit), figure(limit, unit) if limit else ""]
        for r in results
        for what, value, unit, limit in r.facts
    ]
    out = table(["what", "measured", "at most"], rows) + [""]
    rows = []
    for r in results:
        if not r.load or (r.gap is None and not r.load.errors):
            continue
        counts = r.counts
        times = [seconds(t) for t in (r.stall, r.gap, r.first_write, r.full_rate)]
        numbers = [counts["committed"], counts["unknown"], counts["lost"] + counts["revived"], counts["doubled"]]
        rows.append(
            [r.title, errors(r), str(r.load.disconnects), *times, *(str(n) for n in numbers), str(len(r.load.wrong))]
        )
    head = ["scenario", "errors seen by clients", "connections lost", "longest stall", "no write for"]
    head += ["first write after", "full rate after", "rows committed", "unknown", "lost", "doubled", "wrong answers"]
    return "\n".join(out + table(head, rows) + ["", f"Made on {machine}."])


def write(path, results, machine):
    """Puts the tables between the markers of the file."""
    with open(path) as f:
        before, _, rest = f.read().partition(BEGIN)
    if not rest or END not in rest:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    with open(path, "w") as f:
        f.write(f"{before}{BEGIN}\n\n{markdown(results, machine)}\n\n{END}{rest.partition(END)[2]}")
