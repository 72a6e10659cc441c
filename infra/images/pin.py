"""Write the digest of a published image into a stack's file, which keeps its comments and its order."""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from infra.errors import TradestackError

KEY = "tradestack:image"
"""Key of the stack file that names the app's image."""


def pin(path: Path, digest: str) -> bool:
    """Set `tradestack:image.digest` in the file; false where it says so already.

    Raises:
        TradestackError: the file has a form that cannot be edited; says what to write by hand.
    """
    text = path.read_text()
    edited = edit(text, digest, path.name)
    if edited == text:
        return False
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(edited)
    new = Path(file.name)
    new.chmod(path.stat().st_mode)
    new.replace(path)
    return True


def edit(text: str, digest: str, name: str) -> str:
    """`text` of the stack file `name` with the digest in it; every other character stays.

    Raises:
        TradestackError: the file has a form that cannot be edited; says what to write by hand.
    """
    by_hand = TradestackError(
        f"{name} is written in a way in which the digest cannot be put in place",
        hint=f"write it below config:  {KEY}: {{digest: {digest}}}",
    )
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise TradestackError(f"{name} is not valid YAML: {error}") from error
    config = _value(root, "config")
    if not isinstance(config, yaml.MappingNode) or config.flow_style:
        raise by_hand
    image = _value(config, KEY)
    present = _value(image, "digest")
    if isinstance(present, yaml.ScalarNode):
        edited = _replaced(text, present, f'"{digest}"' if present.style else digest)
    elif image is not None:
        raise by_hand
    else:
        column = config.value[0][0].start_mark.column
        lines = text.splitlines(keepends=True)
        last = _last_line(config)
        if not lines[last].endswith("\n"):
            lines[last] += "\n"
        lines.insert(last + 1, f"{' ' * column}{KEY}: {{digest: {digest}}}\n")
        edited = "".join(lines)
    wanted = yaml.safe_load(text)
    wanted["config"].setdefault(KEY, {})["digest"] = digest
    if yaml.safe_load(edited) != wanted:
        raise by_hand
    return edited


def _value(node: yaml.Node | None, key: str) -> Any:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _replaced(text: str, node: yaml.Node, new: str) -> str:
    return text[: node.start_mark.index] + new + text[node.end_mark.index :]


def _last_line(node: yaml.Node) -> int:
    """Number of the line in which the text of a node ends, from 0."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    mark = node.end_mark
    return mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line
