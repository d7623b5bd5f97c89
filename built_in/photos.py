"""Synthetic pictures that resemble photos or patterns: colour at every scale, and no nameable shapes."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]


def random_photo(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Generate a picture of this (width, height) about which the built-in model must decline to answer."""
    noise = np.random.default_rng(rng.getrandbits(32))
    manner = rng.choice(("octaves", "octaves", "landscape", "blobs", "grain", "waves"))
    pixels = {"octaves": _octaves, "landscape": _landscape, "blobs": _blobs, "grain": _grain, "waves": _waves}[manner](
        noise, size
    )
    image = Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))) if rng.random() < 0.4 else image


def _smooth(noise: np.random.Generator, size: tuple[int, int], cells: int) -> Floats:
    """Return random values on a coarse grid, interpolated smoothly, [H, W]."""
    coarse = Image.fromarray(noise.random((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


def _octaves(noise: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Noise in octaves; the colour channels share the same luminance."""
    roughness = noise.uniform(0.5, 0.8)
    layers = [_smooth(noise, size, 2**octave + 1) * roughness**octave for octave in range(1, 7)]
    light = np.sum(layers, axis=0)
    light = (light - light.min()) / np.ptp(light)
    tints = [_smooth(noise, size, 4) for _ in range(3)]
    strength = noise.uniform(0.3, 0.9)
    return np.stack([light * (1 - strength) + light * tint * 2 * strength for tint in tints], axis=-1)


def _landscape(noise: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Bands of ground under a sky, each with its own grain."""
    width, height = size
    pixels = np.empty((height, width, 3), np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    pixels[:] = noise.uniform(0.4, 1, 3).astype(np.float32) * (0.6 + 0.4 * rows[..., None] / height)
    for level in np.sort(noise.uniform(0.2, 0.9, noise.integers(2, 5))):
        ridge = height * (level + 0.25 * (_smooth(noise, (width, 1), 7)[0] - 0.5))
        ground = noise.uniform(0.05, 0.8, 3).astype(np.float32)
        grain = _smooth(noise, size, 48)[..., None]
        pixels = np.where((rows > ridge)[..., None], ground * (0.5 + grain), pixels)
    return pixels


def _blobs(noise: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Many overlapping soft discs, like lights out of focus."""
    width, height = size
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    pixels = np.broadcast_to(noise.uniform(0, 0.6, 3).astype(np.float32), (height, width, 3)).copy()
    for _ in range(int(noise.integers(25, 60))):
        centre, reach = noise.uniform(0, 1, 2) * size, noise.uniform(0.03, 0.16) * max(size)
        away = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])) / np.float32(reach)
        share = np.clip(2.2 - 2.2 * away, 0, np.float32(noise.uniform(0.3, 0.8)))[..., None]
        pixels += share * (noise.uniform(0, 1, 3).astype(np.float32) - pixels)
    return pixels


def _grain(noise: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Noise with a random colour for each pixel or small block."""
    step = int(noise.integers(1, 9))
    width, height = size
    blocks = noise.random((-(-height // step), -(-width // step), 3), dtype=np.float32)
    return np.kron(blocks, np.ones((step, step, 1), np.float32))[:height, :width]


def _waves(noise: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Superimposed waves of several lengths, directions and colours."""
    width, height = size
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    pixels = np.zeros((height, width, 3), np.float32)
    for _ in range(5):
        turn, length = noise.uniform(0, np.pi), noise.uniform(0.04, 0.4) * max(size)
        wave = np.sin((x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) * np.float32(2 * np.pi / length))
        pixels += (0.5 + 0.5 * wave)[..., None] * noise.uniform(0, 0.45, 3).astype(np.float32)
    return pixels
