"""Writes doc/drivers.md from the results of a run of test/drivers/run.py."""

import collections

HEAD = """# Drivers

Made by `test/drivers/run.py --write-doc`; do not edit. Each driver runs the scenario of
[test/drivers/README.md](../test/drivers/README.md) with {clients} concurrent clients in {pool_mode} pooling, on pools of
{sizes} servers, under the profile `[{profile}]`; PostgreSQL {server}. The modes: `default` is the driver as it comes,
`prepared` has server-side named statements for everything, `pipeline` sends through the driver's pipeline or batch;
other modes are explained below the table.

The figures are steps that work, of those that work without a pooler.

"""


def write(path, run, server):
    """Writes the tables to `path`."""
    options = run.options
    sizes = " and ".join(str(s) for s in run.sizes)
    text = HEAD.format(clients=options.clients, pool_mode=options.pool_mode, sizes=sizes, profile=options.profile,
                       server=server)
    text += "\n".join(table(run)) + "\n"
    text += section("Modes of single drivers", modes(run), "None.")
    text += section("Failures", failures(run), "None.")
    text += section("Without a pooler, too", notes(run, "direct"), "Nothing fails there.")
    text += section("What drivers cannot do", notes(run, "skip"), "Nothing.")
    if run.unable:
        text += section("Not run", [f"- {name}: {text}" for name, (_, text) in sorted(run.unable.items())], "")
    path.write_text(text)


def section(title, lines, otherwise):
    return f"\n## {title}\n\n" + "\n".join(list(lines) or [otherwise]) + "\n"


def table(run):
    """One row per driver and mode, one column per pool."""
    columns = [f"pool {size}" for size in run.sizes]
    titles = [f"{size} server{'s' if size > 1 else ''}" for size in run.sizes]
    yield "| " + " | ".join(["driver", "what", "version", "mode", *titles]) + " |"
    yield "|" + " --- |" * (4 + len(titles))
    rows = {}
    for result in run.results:
        rows.setdefault((result.driver.name, result.mode), {})[result.where] = result
    for (name, mode), places in rows.items():
        direct = places["direct"]
        cells = [name, direct.driver.what, direct.version, mode, *(cell(places.get(c)) for c in columns)]
        yield "| " + " | ".join(cells) + " |"


def cell(result):
    if not result:
        return "not run"
    bad = [step for step, verdict in result.steps.items() if verdict.word == "FAIL"]
    good = result.count("ok")
    return f"{good} of {good + len(bad)}" + (", not " + ", ".join(bad) if bad else "")


def modes(run):
    drivers = {result.driver.name: result.driver for result in run.results}
    for name, driver in drivers.items():
        for mode, what in driver.own_modes.items():
            yield f"- {name}, `{mode}`: {what}"


def failures(run):
    return [
        f"- {r.driver.name}, {r.mode}, {r.where}, {step}: {verdict.text}"
        for r in run.results
        if r.where != "direct"
        for step, verdict in r.steps.items()
        if verdict.word == "FAIL"
    ]


def notes(run, word):
    """Steps with this verdict, gathered: driver, step, reason, and in which modes unless it is all of them."""
    found = collections.defaultdict(set)
    for result in run.results:
        for step, verdict in result.steps.items():
            if verdict.word == word:
                found[result.driver, step, verdict.text].add(result.mode)
    for (driver, step, text), modes in found.items():
        some = "" if modes >= set(driver.modes) else f" ({', '.join(m for m in driver.modes if m in modes)})"
        yield f"- {driver.name}, {step}{some}: {text}"
