"""Every case, by its name."""

from benchmarks.cases import digits, pictures, tables, torch_nets
from benchmarks.cases.project import Case

CASES: dict[str, Case] = {
    case.name: case for case in (*pictures.CASES, *torch_nets.CASES, *digits.CASES, *tables.CASES)
}
