"""Who answers which share of the requests while versions change."""


def divided(now: dict[str, int], new: str, percent: int) -> dict[str, int]:
    """Give a new version its percent; the one that answers most of the others keeps the rest."""
    others = {name: value for name, value in now.items() if name != new}
    if percent == 100 or not others:
        return {new: 100}
    return {max(others, key=lambda name: others[name]): 100 - percent, new: percent}


def share_lines(found: dict[str, int]) -> str:
    """Give a line for each version that answers."""
    return "".join(f"{name}: {value} %\n" for name, value in sorted(found.items()) if value)


def share_notes(found: dict[str, int]) -> list[str]:
    """Give what is worth telling: nothing where one version answers everything."""
    told = {name: value for name, value in found.items() if value}
    return [f"{name} answers {value} %" for name, value in sorted(told.items())] if len(told) > 1 else []
