"""A document in an editor: the text is in a named file, which is kept until it is written on the server."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from cfgsync_core.text import cause, plain

from ....errors import InputError


class EditedText:
    """A file beside no other, for the editor of `$VISUAL` or `$EDITOR`."""

    def __init__(self, name: str, text: str) -> None:
        descriptor, path = tempfile.mkstemp(prefix=f"{name[:60]}-", suffix=".json")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        self.path = Path(path)

    def edit(self) -> str:
        """The text when the editor has ended. Raises `InputError` for an editor that cannot be run, or has failed."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            code = subprocess.run([*shlex.split(editor), str(self.path)], check=False).returncode
            if code == 0:
                return self.path.read_text()
            why = f"it ended with {code}"
        except (OSError, ValueError) as error:
            why = cause(error)
        kept = f"the text is in {self.path}" if self.path.exists() else f"it has removed {self.path}"
        raise InputError(
            f"the editor {plain(editor, 100)}: {why}; nothing was written, and {kept}",
            "set EDITOR to an editor that waits until its file is closed",
        )

    def done(self) -> None:
        """The text is on the server, or is as it was."""
        self.path.unlink(missing_ok=True)
