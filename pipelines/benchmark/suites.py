"""What can be measured: a suite is a name that becomes one or more corpora, each with a kind of measurement.

Invariants: a suite that has training queries is trained and measured in its own domain; one that has none is measured with releases
that were trained elsewhere, and no query of it is read before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.core.types import InputError
from pipelines.catalogs import FOLDERS, mair

PLAIN, INSTRUCTED = "without instructions", "with instructions"


@dataclass(frozen=True)
class Part:
    """One table of a suite: what it is called, and the catalog source that it reads."""

    name: str
    source: str

    @property
    def folder(self) -> str:
        """A name for its files."""
        return "".join(c if c.isalnum() else "-" for c in self.name).strip("-").lower()


def parts(suite: str) -> list[Part]:
    """The tables of a suite. Raises InputError for one that is unknown or empty.

    ToolRet comes first without its instructions, for those were written with the answer in view; a folder of MAIR's tasks is a
    table a task.
    """
    kind, _, folder = suite.partition(":")
    if suite == "aws":
        return [Part("aws", "aws")]
    if kind not in FOLDERS or not folder or kind.endswith("-instructed"):
        known = ", ".join(f"{name}:DIR" for name in FOLDERS if not name.endswith("-instructed"))
        raise InputError(f"--suite {suite}: unknown; give aws, {known}")
    path = Path(folder).expanduser()
    if kind == "toolret":
        return [Part(f"{path.name}, {PLAIN}", f"toolret:{path}"), Part(f"{path.name}, {INSTRUCTED}", f"toolret-instructed:{path}")]
    if kind == "mair":
        return [Part(f"{task.name}, {INSTRUCTED}", f"mair-instructed:{task}") for task in mair.tasks(path)]
    return [Part(path.name, f"{kind}:{path}")]
