"""Who is compared with whom: each client is a name and a source tree, or the reference's release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from venvs import REPOSITORY, our_python, reference_python

__all__ = ["HERE", "OURS", "REFERENCE", "Client"]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """A client that can be measured.

    Attributes:
        name: what the table calls it.
        tree: the source tree of ours that it is; None for the reference client.
        through_door: whether it is our door from asyncio that is measured.
    """

    name: str
    tree: Path | None
    through_door: bool = False

    @property
    def script(self) -> Path:
        """The program that does a job with this client. It is this tree's own, whatever `tree` is."""
        if self.tree is None:
            return HERE / "client_reference.py"
        return HERE / ("client_door.py" if self.through_door else "client_ours.py")

    @property
    def door(self) -> Client:
        """The same tree's door from asyncio."""
        return Client(f"{self.name}, from asyncio", self.tree, through_door=True)

    def python(self) -> Path:
        """The interpreter of an environment with this client, which is made if there is none.

        Raises:
            InstallationError: making it failed.
        """
        return reference_python() if self.tree is None else our_python(self.tree)


REFERENCE = Client("reference", None)
OURS = Client("ours", REPOSITORY)
