"""Show a server's figures of now to people: a screen that is drawn anew, or lines where there is no screen."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.verify.columns import Cell, Column, Paint, fit, rows
from ferryman.verify.figures import NOT_MEASURED, plain

Figures = Mapping[str, Any]  # JSON: cli.monitor_figures
_BAR = 20
_LONGEST = 32
_MOST_SIGNALS = 3


def render_screen(shown: Figures | None, *, url: str, trouble: str, width: int, height: int, paint: Paint) -> str:
    """Give at most `height` lines of at most `width` signs; `trouble` says why figures are not of now."""
    head = f"{plain(url)}  {_state(shown, trouble)}"
    lines = [paint(_cut(head, width), "red" if trouble or (shown and not shown["ready"]) else "bold")]
    if shown is None:
        return lines[0]
    lines.append(paint(_cut(_machine(shown), width), "dim"))
    lines += ["", *_versions(shown, width, paint)]
    if drift := _drift(shown, width, paint):
        lines += ["", *drift]
    if shown["alerts"]:
        lines += ["", *_alerts(shown, width, paint)]
    lines += ["", paint(_cut(_watch(shown), width), "yellow" if shown["watch"]["lost"] else "dim")]
    if len(lines) > height > 1:
        return "\n".join([*lines[: height - 1], paint(_cut(f"+ {len(lines) - height + 1} more lines", width), "dim")])
    return "\n".join(lines)


def render_lines(shown: Figures | None, *, url: str, trouble: str) -> str:
    """Give a line for each version, for a log or a pipe."""
    if trouble or shown is None:
        return f"{_clock(time.time())} {plain(url)}: {plain(trouble) or 'no answer yet'}"
    if not shown["versions"]:
        return f"{_clock(shown['at_s'])} {plain(url)}: nothing is loaded"
    return "\n".join(_line(shown, one) for one in shown["versions"])


def _state(shown: Figures | None, trouble: str) -> str:
    if trouble:
        since = f" (figures of {_clock(shown['at_s'])})" if shown is not None else ""
        return f"{plain(trouble)}{since}"
    if shown is None:
        return "no answer yet"
    return "ready" if shown["ready"] else f"not ready: {plain(shown['reason'])}"


def _machine(shown: Figures) -> str:
    machine = shown["watch"]["machine"]
    parts = [_clock(shown["at_s"]), f"CPU {_figure(shown['cpu_cores'], 2)} cores"]
    workers = sum(one["memory_bytes"] for one in shown["versions"])
    parts.append(f"memory {_mb(shown['front_bytes'] + workers)}")
    if machine.get("disk_free") is not None:
        parts.append(f"disk {machine['disk_free']:.0%} free")
    if machine.get("temperature_c") is not None:
        parts.append(f"{machine['temperature_c']:.0f} °C")
    if machine.get("slowed"):
        parts.append("SLOWED DOWN by heat or power")
    if machine.get("quota_used_up"):
        parts.append(f"CPU limit used up {machine['quota_used_up']:.0%}")
    parts += [_gpu(gpu) for gpu in machine.get("gpus", ())]
    return "  ".join(parts)


def _gpu(gpu: Figures) -> str:
    known = [f"GPU {gpu['number']}"]
    if gpu["busy"] is not None:
        known.append(f"{gpu['busy']:.0%}")
    if gpu["used_bytes"] is not None:
        known.append(_mb(gpu["used_bytes"]))
    if gpu["temperature_c"] is not None:
        known.append(f"{gpu['temperature_c']:.0f} °C")
    return " ".join(known)


def _versions(shown: Figures, width: int, paint: Paint) -> list[str]:
    versions = shown["versions"]
    if not versions:
        return ["nothing is loaded"]

    def column(heading: str, texts: Sequence[tuple[str, str]], gives_way: int = 0, *, is_text: bool = False) -> Column:
        return Column(heading, tuple(Cell(*one) for one in texts), gives_way, is_text)

    late = ["red" if _is_late(one) else "" for one in versions]
    failing = ["red" if one["failed_share"] else "" for one in versions]
    columns = [
        column("model", [(_short(one["model"]), "") for one in versions], is_text=True),
        column(
            "version",
            [(_short(one["version"]) + (" *" if one["active"] else ""), "") for one in versions],
            is_text=True,
        ),
        column("state", [_health(one) for one in versions], 2, is_text=True),
        column("requests/s", [(_figure(one["requests_per_s"], 1), "") for one in versions]),
        column(
            "failed", [(_share(one["failed_share"]), style) for one, style in zip(versions, failing, strict=True)], 1
        ),
        column("p50 ms", [(_ms(one["p50_s"]), "") for one in versions], 3),
        column("p99 ms", [(_ms(one["p99_s"]), style) for one, style in zip(versions, late, strict=True)]),
        column("waiting", [(str(one["waiting"]), "yellow" if one["waiting"] else "") for one in versions], 4),
        column("at work", [(str(one["in_flight"]), "") for one in versions], 6),
        column("CPU ms", [(_ms(one["cpu_s_a_request"]), "") for one in versions], 7),
        column("memory", [(_mb(one["memory_bytes"]), "") for one in versions], 5),
    ]
    kept, _ = fit(columns, width)
    lines = rows(kept, paint)
    if max(len(line) for line in rows(kept, Paint(color=False))) > width:  # names alone are too long
        return [_cut(line, width) for line in rows(kept, Paint(color=False))]
    return lines


def _drift(shown: Figures, width: int, paint: Paint) -> list[str]:
    lines = []
    for one in shown["versions"]:
        for place, (signal, score) in enumerate(list(one["scores"].items())[:_MOST_SIGNALS]):
            reach = score / one["threshold"] if one["threshold"] else 0.0
            full = round(min(reach, 1.0) * _BAR)
            name = f"{_short(one['model'])} {_short(one['version'])}" if place == 0 else ""
            state = "  drift" if one["drifted"] and place == 0 else ""
            bar = f"{'█' * full}{'░' * (_BAR - full)}"
            text = f"{bar} {reach:4.0%} of an alarm  {_short(signal)}{f'  ({name})' if name else ''}{state}"
            lines.append(paint(_cut(text, width), "red" if one["drifted"] else "yellow" if reach > 0.7 else "cyan"))
    return [paint("drift: the strongest signals", "dim"), *lines] if lines else []


def _alerts(shown: Figures, width: int, paint: Paint) -> list[str]:
    lines = [paint("alerts", "dim")]
    for alert in shown["alerts"]:
        about = f"{_short(alert['model'])} {_short(alert['version'])}".strip() or "the machine"
        text = f"{plain(alert['state']):<8}  {plain(alert['severity']):<8}  {plain(alert['rule'])}  {about}"
        style = {"firing": "red", "pending": "yellow"}.get(alert["state"], "green")
        lines.append(paint(_cut(text, width), style))
    return lines


def _watch(shown: Figures) -> str:
    watch = shown["watch"]
    if not watch["watching"]:
        return "watch: nothing is watched yet"
    lost = ", ".join(f"{plain(why)} {count:.0f}" for why, count in watch["lost"].items())
    parts = [f"watch: {watch['records']:.0f} records", f"looks into {watch['share']:.0%} of calls"]
    parts.append(f"lost {lost}" if lost else "none lost")
    if watch["restarts"]:
        parts.append(f"started again {watch['restarts']:.0f} times")
    return ", ".join(parts)


def _line(shown: Figures, one: Mapping[str, Any]) -> str:
    strongest = max(one["scores"].values(), default=None)
    reach = strongest / one["threshold"] if strongest is not None and one["threshold"] else None
    firing = sum(alert["state"] == "firing" for alert in shown["alerts"])
    parts = [
        f"{_figure(one['requests_per_s'], 1)} requests/s",
        f"{_share(one['failed_share'])} failed",
        f"p50 {_ms(one['p50_s'])} ms",
        f"p99 {_ms(one['p99_s'])} ms",
        f"{one['waiting']} waiting",
        f"drift {'yes' if one['drifted'] else 'no'} ({_share(reach)} of an alarm)",
        f"{firing} alerts firing",
        f"{sum(shown['watch']['lost'].values()):.0f} records lost",
    ]
    state = "" if one["ready"] else " (down)"
    return f"{_clock(shown['at_s'])} {plain(one['model'])} {plain(one['version'])}{state}: {', '.join(parts)}"


def _health(one: Mapping[str, Any]) -> tuple[str, str]:
    if not one["ready"]:
        return "down", "red"
    return ("answers wrong", "red") if one["golden_ok"] is False else ("ready", "green")


def _is_late(one: Mapping[str, Any]) -> bool:
    return bool(one["promised_p99_s"] and one["p99_s"] and one["p99_s"] > one["promised_p99_s"])


def _short(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def _figure(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def _ms(value_s: float | None) -> str:
    return NOT_MEASURED if value_s is None else f"{1000 * value_s:.3g}"


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
