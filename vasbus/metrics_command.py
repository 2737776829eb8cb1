"""`vasbus metrics`: what the processes of a local cluster count."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Annotated

import typer
from prometheus_client.parser import text_string_to_metric_families

from deploy.cluster import ClusterError, ClusterFolder
from vasbus.output import out, print_json
from vasbus.target import DEFAULT_DIR, AsJson, Dir

SCRAPE_S = 5.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy: the processes are on this machine."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(metrics)


def metrics(
    name: Annotated[str | None, typer.Argument(help="hypervisor, a partition or an NX unit; else all of them.")] = None,
    folder: Dir = DEFAULT_DIR,
    as_json_: AsJson = False,
) -> None:
    """The metrics of the cluster's processes, as Prometheus reads them; --json gives their samples."""
    urls = ClusterFolder(folder).metric_urls()
    if name is not None and name not in urls:
        raise ClusterError(f"no metrics of {name!r}; there are those of {', '.join(urls) or 'nobody'}")
    wanted = urls if name is None else {name: urls[name]}
    pages = {each: _scrape(each, url) for each, url in wanted.items()}
    if as_json_:
        print_json({each: {"url": urls[each], "samples": _samples(page)} for each, page in pages.items()})
        return
    for each, page in pages.items():
        heading = f"# {each}: {urls[each]}\n" if len(pages) > 1 else ""
        out.print(heading + page, highlight=False, markup=False, end="")


def _scrape(name: str, url: str) -> str:
    """One page. Raises ClusterError where the process does not give it."""
    try:
        with _DIRECT.open(url, timeout=SCRAPE_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            why = error.read().decode(errors="replace").strip() or error.reason
        raise ClusterError(f"{name} gives no metrics: {why}") from None
    except OSError as error:
        raise ClusterError(f"{name} does not answer at {url}: {error}") from None


def _samples(page: str) -> list[dict[str, object]]:
    return [
        {"name": sample.name, "labels": sample.labels, "value": sample.value}
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
