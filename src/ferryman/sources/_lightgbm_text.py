"""Check a LightGBM model's text before LightGBM reads it: a wrong number there ends the process, without an error."""

from collections.abc import Mapping

from ferryman.core.errors import SourceError

Lines = Mapping[str, str]


def header_of(text: str) -> dict[str, str]:
    """Give the lines before the first tree, by key."""
    return _lines(text.partition("\nTree=")[0])


def check_trees(text: str, shown: str) -> None:
    """Raise SourceError unless header and trees hold as many numbers as they say, all within their range."""
    header = header_of(text)
    place = "the header"
    try:
        features = int(header["max_feature_idx"]) + 1
        trees_each_round, classes = int(header["num_tree_per_iteration"]), int(header["num_class"])
        names, infos = header["feature_names"].split(), header["feature_infos"].split()
        if not (features == len(names) == len(infos) and 1 <= trees_each_round <= max(classes, 1)):
            raise ValueError("the numbers of features or classes contradict each other")
        trees = text.partition("\nend of trees")[0].split("\nTree=")[1:]
        if not trees or len(trees) % trees_each_round:
            raise ValueError(f"{len(trees)} trees are no whole number of rounds")
        for number, tree in enumerate(trees):
            place = f"tree {number}"
            _check_tree(_lines(tree), features)
    except (KeyError, ValueError, OverflowError) as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceError(
            f"{shown} is no sound LightGBM model: {place}: {words}",
            hint="copy it again, or save it again with save_model",
        ) from None


def _lines(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _check_tree(tree: Lines, features: int) -> None:
    leaves = int(tree["num_leaves"])
    if leaves < 1:
        raise ValueError(f"it has {leaves} leaves")
    int(tree["num_cat"])
    float(tree.get("shrinkage", "1"))
    _floats(tree, "leaf_value", leaves)
    if leaves == 1:
        return
    splits = leaves - 1
    _floats(tree, "threshold", splits)
    _whole_numbers(tree, "split_feature", splits, 0, features - 1)
    _whole_numbers(tree, "decision_type", splits, 0, 127)
    reached: set[int] = set()
    for key in ("left_child", "right_child"):
        children = _whole_numbers(tree, key, splits, -leaves, splits - 1)
        # A split's child is made after it: an earlier one would be a circle that never ends.
        if any(0 <= child <= parent for parent, child in enumerate(children)):
            raise ValueError(f"{key} leads back up the tree")
        reached.update(children)
    if len(reached) != 2 * splits:
        raise ValueError("a leaf or split is reached by two ways")
    _check_optional(tree, leaves)


def _check_optional(tree: Lines, leaves: int) -> None:
    counts = {"leaf_weight": leaves, "leaf_count": leaves, "split_gain": leaves - 1}
    counts |= {"internal_value": leaves - 1, "internal_weight": leaves - 1, "internal_count": leaves - 1}
    for key, count in counts.items():
        if tree.get(key):
            _floats(tree, key, count)


def _floats(tree: Lines, key: str, count: int) -> None:
    if len([float(word) for word in tree[key].split()]) != count:
        raise ValueError(f"{key} should hold {count} numbers")


def _whole_numbers(tree: Lines, key: str, count: int, lowest: int, highest: int) -> list[int]:
    numbers = [int(word) for word in tree[key].split()]
    if len(numbers) != count or not all(lowest <= number <= highest for number in numbers):
        raise ValueError(f"{key} should hold {count} numbers from {lowest} to {highest}")
    return numbers
