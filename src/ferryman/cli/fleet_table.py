"""Show a fleet's release and its boxes to people."""

from ferryman.fleet.operate import Done
from ferryman.verify.columns import Paint

_STYLES = {"halt": "red", "halted": "red", "complete": "green", "go on": "green", "wait": "yellow"}


def render_done(done: Done, paint: Paint, *, is_dry: bool) -> str:
    """Give the release, what was done with it, and how it stands."""
    release = done.release
    stages = ", ".join(f"{stage} %" if isinstance(stage, int) else stage for stage in release.stages)
    would = "would be " if is_dry and done.what else ""
    lines = [f"release {release.number} of {release.fleet}: {would}{done.what or 'out'}", f"  bundle  {release.bundle}"]
    if release.before:
        lines.append(f"  before  {release.before}")
    lines.append(f"  stages  {stages}; at {release.stage + 1} of {len(release.stages)}")
    if release.note:
        lines.append(f"  note    {release.note}")
    if (standing := done.standing) is not None:
        counts = f"{standing.done} done, {standing.failed} failed, {standing.pending} pending, {standing.silent} silent"
        verdict = paint(standing.verdict, _STYLES[standing.verdict])
        lines.append(f"  boxes   {standing.due} due: {counts}; {standing.others} not due: {verdict}")
        lines += [f"  {box}: {reason}" for box, reason in sorted(standing.failures.items())[:20]]
    return "\n".join(lines) + "\n"
