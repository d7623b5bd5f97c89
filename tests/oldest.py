"""The oldest versions of the libraries that the demos declare, as a requirements file: `make test-oldest`.

python -m tests.oldest > oldest.txt
"""

from __future__ import annotations

from packaging.requirements import Requirement

from omnilmm.catalog import ROOT


def oldest(line: str) -> str:
    """A requirement at its lower bound."""
    requirement = Requirement(line)
    (low,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={low}" + (f"; {requirement.marker}" if requirement.marker else "")


def main() -> None:
    """Print them."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    print(*(oldest(line) for line in lines if line and not line.startswith("#")), sep="\n")


if __name__ == "__main__":
    main()
