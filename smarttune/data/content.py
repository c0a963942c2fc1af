"""What samples hold beyond columns: texts, pictures, recordings, sequences, series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from smarttune.data.problem import TargetProfile

# Called with the share of the work that is done, from 0 to 1.
Progress = Callable[[float], None]


class Content(ABC):
    """The contents of the samples of one data set, read when they are asked for.

    Attributes:
        task: The kind of data, a value of the fact `data.task`.
    """

    task: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples; rows of the data set's frame of features."""

    @abstractmethod
    def take(self, rows: npt.NDArray[np.int64]) -> Any:
        """Return the raw contents of some samples, in the order of `rows`."""

    @abstractmethod
    def select(self, rows: npt.NDArray[np.int64]) -> Content:
        """Return the content of some samples only, numbered from 0."""

    @abstractmethod
    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Measure the contents, in bounded memory.

        Args:
            progress: Called with the share that has been measured, from 0 to 1.

        Returns:
            Facts by their full names, such as `data.image_side`.
        """

    def goal(self, problem: str | None) -> TargetProfile | None:
        """What the contents themselves ask to be predicted: a forecast, the next character.

        Args:
            problem: What the user says it is.

        Returns:
            None where a target beside the contents is predicted.

        Raises:
            OptionError: If the problem does not fit the contents.
        """
        return None

    @abstractmethod
    def digest(self) -> str:
        """A hash that changes when the contents do."""

    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the contents, one sentence each."""
        return ()
