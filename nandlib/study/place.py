"""Where a study lies on disk, of images or of another kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """A preset."""

    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Named)


@dataclass(frozen=True)
class Place(Generic[C]):
    """A preset together with the project it belongs to.

    Attributes:
        root: Of the project.
        config: The preset.
    """

    root: Path
    config: C

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, root={str(self.root)!r})"

    @property
    def name(self) -> str:
        """Of the study."""
        return self.config.name

    @property
    def data(self) -> Path:
        """Folder of intermediate results."""
        return self.root / "data" / self.name

    @property
    def figures(self) -> Path:
        """Folder of tables and figures."""
        return self.root / "figures" / self.name

    @property
    def watermark(self) -> str:
        """What every output must say; nothing, mostly."""
        return ""
