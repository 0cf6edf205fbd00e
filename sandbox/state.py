"""All that a reset forgets, in one place, so that nothing survives it by mistake."""

from dataclasses import dataclass, field

from sandbox.conduct import Conduct
from sandbox.limits import Window
from sandbox.profiles import Profiles
from sandbox.report import Tally


@dataclass(slots=True)
class State:
    """One life of the workspace. What belongs to an earlier life is written there and lost."""

    profiles: Profiles = field(default_factory=Profiles)
    tally: Tally = field(default_factory=Tally)
    conduct: Conduct = field(default_factory=Conduct)
    windows: dict[str, Window] = field(default_factory=dict)

    def window(self, path: str) -> Window:
        window = self.windows.get(path)
        if window is None:
            window = self.windows[path] = Window()
        return window
