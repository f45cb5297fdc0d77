"""stub."""
from typing import Any
def brief(name: str, cell: dict[str, Any]) -> str:
    if "fault" in cell:
        return f"{name} FAULT {cell['fault'][:100]}"
    return f"{name} {cell['rate']:.4g}/s {cell['cpu_us']:.4g} us" + (f" {cell['failed']} FAILED" if cell["failed"] else "")
def render(report): return ""
