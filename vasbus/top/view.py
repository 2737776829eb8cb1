"""The model as a picture of the terminal's size."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from protocol.codes import CreditType, HcallCode
from vasbus.survey import slots_line
from vasbus.top.activity import News
from vasbus.top.model import KernelView, Model
from vasbus.top.picture import LparPicture, Pool
from vasbus.words import counted

STATE_STYLES = {
    "running": "green",
    "starting": "yellow",
    "recovering": "yellow",
    "suspected": "bold yellow",
    "fenced": "bold red",
    "absent": "red",
    "not_activated": "grey50",
}
STEP_STYLES = {
    "acknowledged": "green",
    "settled": "green",
    "opened": "green",
    "resumed": "green",
    "returned": "green",
    "refused": "bold red",
    "expired": "bold red",
    "died": "bold red",
    "closed": "red",
    "suspected": "yellow",
    "held": "yellow",
}
SPARKS = "▁▂▃▄▅▆▇█"
IN_USE, CLOSED, FREE, BORDER, LABEL = "cyan", "red", "grey27", "grey37", "grey62"
WIDE, NARROW = 110, 80
UNITS_WIDTH = 46
LEAST_NEWS, NEWS_PRINTED = 3, 12


def frame(model: Model, now_us: int, width: int, height: int | None = None) -> RenderableType:
    """Everything, in so many columns; in so many lines, or as many as it takes."""
    parts: list[RenderableType] = [headline(model, width)]
    partitions = _partitions(model, now_us, width)
    units, hcalls = _units(model), _hcalls(model, now_us, width if width < WIDE else width - UNITS_WIDTH)
    lines = 1 + partitions.row_count + 3
    slots = model.picture.slots
    parts.append(_panel("partitions" if slots is None else f"partitions; {slots_line(slots)}", partitions))
    if width >= WIDE:
        side = Table.grid(expand=True)
        side.add_column(ratio=1)
        side.add_column(width=UNITS_WIDTH)
        rows = max(units.row_count, hcalls.row_count)
        side.add_row(_panel("hypervisor calls", hcalls, rows + 3), _panel("NX units", units, rows + 3))
        parts.append(side)
        lines += rows + 3
    else:
        parts += [_panel("NX units", units), _panel("hypervisor calls", hcalls)]
        lines += units.row_count + hcalls.row_count + 6
    room = NEWS_PRINTED if height is None else max(LEAST_NEWS, height - lines - 2)
    parts.append(_panel("changes and faults", _news(model, now_us, room), None if height is None else room + 2))
    return Group(*parts)


def headline(model: Model, width: int) -> RenderableType:
    """One line: the system, whether the picture is whole, what is free."""
    picture, stream = model.picture, model.stream
    left = Text.assemble((f" {picture.system} ", "bold black on cyan"), " ")
    if model.trouble:
        left.append(f"● hypervisor unreachable: {model.trouble}", "bold red")
    elif picture.recovering:
        left.append("● recovering", "bold yellow")
    else:
        left.append("● ", "green")
        left.append(f"hypervisor {picture.pid}", LABEL)
    if not model.trouble and width >= WIDE:
        left.append(f"   {picture.hundredths_free / 100:g} of {counted(picture.cores_total, 'core')} free", LABEL)
        left.append(f"   {picture.qos_free} of {picture.qos_total} QoS credits free", LABEL)
    whole = stream.lost == stream.mended and stream.is_whole
    right = Text.assemble(("telemetry ", LABEL), (f"#{stream.last or 0}", "bold"), ("  lost ", LABEL))
    right.append(str(stream.lost), "bold" if whole else "bold yellow")
    right.append("  mended ", LABEL)
    right.append(f"{stream.mended} ", "bold" if whole else "bold yellow")
    if stream.restarts:
        right.append(f" restarts {stream.restarts} ", "yellow")
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(left, right)
    return line


def _panel(title: str, inside: RenderableType, height: int | None = None) -> Panel:
    return Panel(
        inside, title=f"[{LABEL}]{title}[/]", title_align="left", border_style=BORDER, box=box.ROUNDED,
        padding=(0, 1), height=height,
    )  # fmt: skip


def _table(*headings: tuple[str, str]) -> Table:
    """Columns by heading and alignment."""
    made = Table(box=None, expand=True, pad_edge=False, header_style=LABEL, padding=(0, 2, 0, 0))
    for heading, justify in headings:
        made.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    return made


def _partitions(model: Model, now_us: int, width: int) -> Table:
    wide, narrow = width >= WIDE, width < NARROW
    headings = [("lpar", "left"), ("state", "left")]
    headings += [("processors", "left")] if wide else []
    headings += [("pool", "left"), ("credits", "left"), ("in use", "right"), ("kernel", "right"), ("closed", "right")]
    headings += [("hcalls/s", "right"), ("last minute", "left")] if wide else [("hcalls/s", "right")] * (not narrow)
    made = _table(*headings)
    if narrow:
        made.padding = (0, 1, 0, 0)
    rates = model.activity.lpar_rates(now_us)
    bar_width = max(8, width - (110 if wide else 68))
    for lpar in model.picture.lpars.values():
        shown = [kind for kind in CreditType if _is_shown(lpar, kind)]
        for place, kind in enumerate(sorted(shown, key=lambda kind: kind is CreditType.QOS)):
            first = place == 0
            cells: list[RenderableType] = _names(lpar, first=first)
            cells += [Text(lpar.processors if first else "", LABEL)] if wide else []
            cells += _credits(lpar, kind, model.kernels.get(lpar.name), bar_width)
            rate = rates.get(lpar.name, 0.0)
            cells += [_rate(rate) if first else ""] * (not narrow)
            if wide:
                history = model.activity.history(now_us, lpar=lpar.name)
                cells.append(spark(history[-20:]) if first else "")
            made.add_row(*cells)
    return made


def _is_shown(lpar: LparPicture, kind: CreditType) -> bool:
    """QoS only where there is any."""
    pool = lpar.pools.get(kind)
    return pool is not None and (kind is CreditType.DEFAULT or pool.target > 0 or pool.in_use > 0)


def _names(lpar: LparPicture, *, first: bool) -> list[RenderableType]:
    if not first:
        return ["", ""]
    style = STATE_STYLES.get(lpar.state, "yellow")
    return [Text(lpar.name, "bold"), Text.assemble(("● ", style), (lpar.state.replace("_", " "), style))]


def _credits(
    lpar: LparPicture, kind: CreditType, kernel: dict[str, KernelView] | None, width: int
) -> list[RenderableType]:
    pool, name = lpar.pools[kind], kind.name.lower()
    view = kernel.get(name) if kernel else None
    closed = view.closed if view else 0
    return [
        Text("QoS" if kind is CreditType.QOS else name, "magenta" if kind is CreditType.QOS else ""),
        bar(pool, closed, width),
        _in_use(pool),
        Text(
            f"{view.used}/{view.total}" if view else "?", LABEL if view is None or view.used <= view.total else CLOSED
        ),
        Text(str(closed) if closed else "·", f"bold {CLOSED}" if closed else FREE),
    ]


def _in_use(pool: Pool) -> Text:
    """Windows of the target, and how many are beyond it."""
    made = Text(f"{pool.in_use}/{pool.target}", "bold" if pool.in_use else "")
    return made.append(f" +{pool.excess}", f"bold {CLOSED}") if pool.excess else made


def bar(pool: Pool, closed: int, width: int) -> Text:
    """Windows in use, windows closed for want of a credit, credits free: each its share, none invisible."""
    whole = max(pool.target, pool.in_use + closed, 1)
    made = Text()
    left = width
    for amount, style in ((pool.in_use, IN_USE), (closed, CLOSED)):
        length = min(left, max(1, round(width * amount / whole))) if amount else 0
        made.append("━" * length, style)
        left -= length
    made.append("━" * left, FREE)
    return made


def spark(counts: list[int]) -> Text:
    """A line of blocks as high as the counts, of the highest among them."""
    most = max([*counts, 1])
    made = Text()
    for count in counts:
        made.append(SPARKS[min(7, 8 * count // (most + 1))] if count else "▁", "cyan" if count else FREE)
    return made


def _rate(rate: float) -> Text:
    return Text(f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}", "bold" if rate else FREE)


def _units(model: Model) -> Table:
    made = _table(("unit", "left"), ("chip", "right"), ("state", "left"), ("windows", "right"), ("", "left"))
    everything = max(1, sum(unit.windows for unit in model.picture.units.values()))
    for unit in model.picture.units.values():
        style = STATE_STYLES.get(unit.state, "yellow")
        made.add_row(
            Text(unit.name, "bold"), str(unit.chip), Text.assemble(("● ", style), (unit.state, style)),
            str(unit.windows), bar(Pool(everything, unit.windows), 0, 8),
        )  # fmt: skip
    return made


def _hcalls(model: Model, now_us: int, width: int) -> Table:
    sparks = 20 if width >= 80 else 10
    made = _table(("hcall", "left"), ("per s", "right"), ("lately", "left"), ("count by code", "left"))
    made.columns[1].min_width, made.columns[2].min_width = 5, sparks
    rates = model.activity.rates(now_us)
    names: dict[str, int] = {}
    for (name, _code), count in model.activity.totals.items():
        names[name] = names.get(name, 0) + count
    for name in sorted(names, key=lambda name: (-names[name], name))[:8]:
        rate = sum(value for (known, _code), value in rates.items() if known == name)
        codes = Text(overflow="ellipsis")
        found = {code: n for (known, code), n in model.activity.totals.items() if known == name}
        for code in sorted(found, key=lambda code: (code is not HcallCode.H_SUCCESS, code.name)):
            codes.append(f"{code.name.removeprefix('H_').lower()} ", LABEL)
            codes.append(f"{found[code]:,}  ", _code_style(code))
        history = model.activity.history(now_us, hcall=name)
        made.add_row(name, _rate(rate), spark(history[-sparks:]), codes)
    if not names:
        made.add_row(Text("none yet", FREE), "", "", "")
    return made


def _code_style(code: HcallCode) -> str:
    if code is HcallCode.H_SUCCESS:
        return "green"
    return "yellow" if "BUSY" in code.name else "red"


def _news(model: Model, now_us: int, room: int) -> Table:
    made = Table.grid(expand=True, padding=(0, 2, 0, 0))
    for justify in ("right", "left", "left", "left"):
        made.add_column(justify="right" if justify == "right" else "left", no_wrap=True, overflow="ellipsis")
    made.columns[0].min_width = 6
    made.columns[1].min_width = max((len(lpar) for lpar in model.picture.lpars), default=4)
    latest = sorted(model.activity.news, key=lambda news: news.heard_us, reverse=True)[:room]
    for news in latest:
        made.add_row(Text(_ago(now_us - news.heard_us), LABEL), Text(news.subject, "bold"), news.text, _steps(news))
    if not latest:
        made.add_row("", Text("nothing yet", FREE), "", "")
    return made


def _steps(news: News) -> Text:
    made = Text()
    for place, step in enumerate(news.steps):
        last = place == len(news.steps) - 1
        made.append(step, STEP_STYLES.get(step, "") if last else LABEL)
        made.append("" if last else " → ", FREE)
    if news.elapsed_us and len(news.steps) > 1:
        made.append(f"  {news.elapsed_us / 1000:,.1f} ms", LABEL)
    return made


def _ago(age_us: int) -> str:
    age_s = max(0, age_us) // 1_000_000
    if age_s < 60:
        return f"{age_s} s"
    return f"{age_s // 60} min" if age_s < 3600 else f"{age_s // 3600} h"
