"""Other programs: what they say is told, whatever bytes it is made of."""

from pathlib import Path

import pytest

from infra.process import CommandFailed, run


def test_output_that_is_no_text_is_still_told() -> None:
    assert run(["printf", r"a\377b"]) == "a\ufffdb"
    with pytest.raises(CommandFailed, match="a\ufffdb") as failed:
        run(["sh", "-c", r"printf 'a\377b' >&2; exit 3"])
    assert failed.value.returncode == 3


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("")
    with pytest.raises(CommandFailed, match=f"{program}: Permission denied"):
        run([program])
    with pytest.raises(CommandFailed, match="no-such-program: not found"):
        run(["no-such-program"])
