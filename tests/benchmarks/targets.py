from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Targets:
    """Compares the results of one benchmark with its targets. `broken` has the names of the missed targets."""

    broken: list[str] = field(default_factory=list)

    def at_least(self, name: str, figure: float, target: float, unit: str = "") -> None:
        self._told(name, figure, f"at least {target:g}{unit}", figure >= target, unit)

    def below(self, name: str, figure: float, target: float, unit: str = "") -> None:
        self._told(name, figure, f"below {target:g}{unit}", figure < target, unit)

    def exactly(self, name: str, figure: float, target: float, unit: str = "") -> None:
        self._told(name, figure, f"{target:g}{unit}", figure == target, unit)

    def status(self) -> int:
        """Print the names of the missed targets. Return 1 if there are any, otherwise 0."""
        if self.broken:
            print(f"not kept: {', '.join(self.broken)}", flush=True)
        return 1 if self.broken else 0

    def _told(self, name: str, figure: float, target: str, is_kept: bool, unit: str) -> None:
        print(f"  {name}: {figure:.4g}{unit} (target: {target}){'' if is_kept else '  NOT KEPT'}", flush=True)
        if not is_kept:
            self.broken.append(name)
