"""The model as a JSON document: what `vasbus top --json` prints."""

from __future__ import annotations

from vasbus.top.model import Model


def document(model: Model, now_us: int) -> dict[str, object]:
    """Everything that the screen shows, and rates by hcall and code."""
    picture, stream = model.picture, model.stream
    return {
        "system": picture.system,
        "hypervisor": {"pid": picture.pid, "recovering": picture.recovering, "trouble": model.trouble or None},
        "cores_total": picture.cores_total,
        "hundredths_free": picture.hundredths_free,
        "qos_credits": {"total": picture.qos_total, "free": picture.qos_free},
        "slots": None if picture.slots is None else picture.slots.model_dump(),
        "telemetry": {
            "number": stream.last or 0,
            "lost": stream.lost,
            "mended": stream.mended,
            "ignored": stream.ignored,
            "restarts": stream.restarts,
            "whole": stream.is_whole,
        },
        "lpars": _lpars(model),
        "nxunits": {
            unit.name: {"chip": unit.chip, "state": unit.state, "windows": unit.windows, "pid": unit.pid}
            for unit in picture.units.values()
        },
        "hcalls": [
            {"hcall": hcall, "code": code.name, "count": count, "per_s": round(rates.get((hcall, code), 0.0), 3)}
            for rates in [model.activity.rates(now_us)]
            for (hcall, code), count in sorted(model.activity.totals.items())
        ],
        "changes": [
            {"kind": news.kind, "subject": news.subject, "text": news.text, "steps": news.steps}
            for news in model.activity.news
        ],
        "translation_faults": dict(model.activity.faults),
    }


def _lpars(model: Model) -> dict[str, object]:
    return {
        lpar.name: {
            "state": lpar.state,
            "processors": lpar.processors,
            "pid": lpar.pid,
            "pools": {
                kind.name.lower(): {"target": pool.target, "in_use": pool.in_use, "excess": pool.excess}
                for kind, pool in lpar.pools.items()
            },
            "kernel": _kernel(model, lpar.name),
        }
        for lpar in model.picture.lpars.values()
    }


def _kernel(model: Model, name: str) -> dict[str, dict[str, int]] | None:
    views = model.kernels.get(name)
    if views is None:
        return None
    return {
        kind: {"total": view.total, "used": view.used, "closed": view.closed, "available": view.total - view.used}
        for kind, view in views.items()
    }
