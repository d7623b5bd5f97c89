"""The kinds of shapes and their outlines within the unit circle.

y points down and angles are radians, clockwise on the screen.
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def _polar(turn: Doubles, reach: Doubles | float = 1.0) -> Doubles:
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)


def _cross() -> Doubles:
    half = 0.30  # half the width of an arm
    tip = math.sqrt(1 - half * half)
    arm = [(-half, -tip), (half, -tip), (half, -half)]
    corners = [*arm]
    for _ in range(3):  # the other arms are quarter rotations of the first
        arm = [(-y, x) for x, y in arm]
        corners += arm
    return np.array(corners)


def _heart(turn: Doubles) -> Doubles:
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    heart = np.stack([x, y - (y.max() + y.min()) / 2], axis=1)
    return np.asarray(heart / np.hypot(heart[:, 0], heart[:, 1]).max())


_ROUND = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_POINTS = np.arange(10)

# Corners [n, 2] of each kind.
OUTLINES: dict[str, Doubles] = {
    "circle": _polar(_ROUND),
    "square": _polar(np.pi / 4 + np.arange(4) * np.pi / 2),
    "triangle": _polar(-np.pi / 2 + np.arange(3) * 2 * np.pi / 3),
    "star": _polar(-np.pi / 2 + _POINTS * np.pi / 5, np.where(_POINTS % 2 == 0, 1.0, 0.42)),
    "cross": _cross(),
    "heart": _heart(_ROUND),
}
KINDS = tuple(OUTLINES)


def outline(kind: str, x: float, y: float, radius: float, angle: float) -> Doubles:
    """Return the corners [n, 2] of a shape around (x, y), in pixels."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = OUTLINES[kind] @ np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(turned * radius + (x, y))
