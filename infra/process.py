"""Run other programs and say clearly what went wrong."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.errors import TradestackError

_TAIL_LINES = 15


class CommandFailed(TradestackError):
    """A program ended with a non-zero exit code or could not be started."""

    def __init__(self, command: Sequence[str], returncode: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-_TAIL_LINES:])
        super().__init__(f"`{' '.join(command)}` ended with exit code {returncode}:\n{tail}")
        self.returncode = returncode
        self.output = output


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    log: Path | None = None,
) -> str:
    """Run `command` and return its standard output.

    With `log`, standard output and error go to that file (appended) and the tail of it is quoted on failure.
    `timeout` is in seconds.

    Raises:
        CommandFailed: the exit code was not 0, the program is missing, or the time was up.
    """
    words = [str(word) for word in command]
    try:
        if log is None:
            done = subprocess.run(
                words,
                input=stdin,
                cwd=cwd,
                env=env,
                timeout=timeout,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            output, quoted = done.stdout, done.stderr or done.stdout
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as sink:
                done = subprocess.run(
                    words,
                    input=stdin,
                    cwd=cwd,
                    env=env,
                    timeout=timeout,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
            output = quoted = "" if done.returncode == 0 else log.read_text(errors="replace")
    except FileNotFoundError as error:
        raise CommandFailed(words, 127, f"{error.filename}: not found") from error
    except PermissionError as error:
        raise CommandFailed(words, 126, f"{error.filename}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(words, 124, f"no end after {timeout:g} s") from error
    if done.returncode != 0:
        raise CommandFailed(words, done.returncode, quoted)
    return output
