"""A digest put into a stack's file by a minimal edit."""

from pathlib import Path

import pytest
import yaml

from infra.errors import TradestackError
from infra.images.pin import edit, pin

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f'# one\nconfig:\n  a:b: 1  # 2\n  tradestack:image: {{digest: "{OLD}"}}\n\n  # 3\n  c:d: x\n',
            f'# one\nconfig:\n  a:b: 1  # 2\n  tradestack:image: {{digest: "{NEW}"}}\n\n  # 3\n  c:d: x\n',
        ),
        (
            f"config:\n  tradestack:image:\n    # why\n    digest: {OLD}  # of today\nother: 1\n",
            f"config:\n  tradestack:image:\n    # why\n    digest: {NEW}  # of today\nother: 1\n",
        ),
        (
            "config:\n    a:b: {c: [1,\n      2]}\n# end\no: 1\n",
            f"config:\n    a:b: {{c: [1,\n      2]}}\n    tradestack:image: {{digest: {NEW}}}\n# end\no: 1\n",
        ),
        (
            "config:\n  a:b:\n    c:\n    - d: |\n        text\n        more\nother: 1\n",
            "config:\n  a:b:\n    c:\n    - d: |\n        text\n        more\n"
            f"  tradestack:image: {{digest: {NEW}}}\nother: 1\n",
        ),
        ("config:\n  a:b: 1", f"config:\n  a:b: 1\n  tradestack:image: {{digest: {NEW}}}\n"),
    ],
    ids=["quoted in braces", "block with comments", "absent", "absent after block text", "no last newline"],
)
def test_only_the_digest_changes(before: str, after: str) -> None:
    assert edit(before, NEW, "Pulumi.dev.yaml") == after
    assert yaml.safe_load(after)["config"]["tradestack:image"] == {"digest": NEW}


@pytest.mark.parametrize(
    "text",
    ["", "config: {a:b: 1}\n", "config:\n  tradestack:image:\n  a:b: 1\n", f"x: &a {OLD}\nconfig: []\n"],
)
def test_what_cannot_be_edited_is_refused_with_the_line_to_write(text: str) -> None:
    with pytest.raises(TradestackError, match=r"Pulumi\.dev\.yaml is written in a way") as caught:
        edit(text, NEW, "Pulumi.dev.yaml")
    assert caught.value.hint == f"write it below config:  tradestack:image: {{digest: {NEW}}}"


def test_text_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(TradestackError, match=r"Pulumi\.dev\.yaml is not valid YAML"):
        edit("config: [", NEW, "Pulumi.dev.yaml")


def test_the_file_is_replaced_once_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(f"config:\n  tradestack:image: {{digest: {OLD}}}\n")
    file.chmod(0o640)
    assert pin(file, NEW)
    assert NEW in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert not pin(file, NEW)
    assert list(tmp_path.iterdir()) == [file]
