"""Render a scene: background, antialiased panels and shapes, printed text, then blur, noise and JPEG compression.

Shape legend: H height · W width.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from built_in.outlines import outline
from built_in.palette import RGB
from built_in.printing import print_label
from built_in.scenes import Scene

_FINER = 3  # supersampling factor of the shape masks, for antialiasing
_NOISE = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)  # reused, as fresh noise is slow


def draw(scene: Scene) -> Image.Image:
    """Draw a scene, deterministically.

    Returns:
        An RGB picture of `scene.width` x `scene.height` pixels, edges smoothed.
    """
    image = _draw_background(scene)
    for panel in scene.panels:
        _fill(image, np.array(panel.corners), panel.rgb)
    for shape in scene.shapes:
        _fill(image, outline(shape.kind, shape.x, shape.y, shape.radius, shape.angle), shape.rgb)
    for label in scene.labels:
        print_label(image, label)
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur))
    if scene.noise:
        image = _with_noise(image, scene)
    if scene.jpeg:
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=scene.jpeg)
        image = Image.open(stored).convert("RGB")
    return image


def _mixture(scene: Scene) -> NDArray[np.float32] | None:
    """Return the share [H, W, 1] of the second background colour per pixel; None for a plain background."""
    background = scene.background
    if background.kind == "plain":
        return None
    if background.kind == "cloudy":
        coarse = np.random.default_rng(scene.seed).random((5, 5), dtype=np.float32)
        cloud = Image.fromarray(coarse).resize(scene.size, Image.Resampling.BICUBIC)
        return np.asarray(cloud, dtype=np.float32).clip(0, 1)[..., None]
    x = np.arange(scene.width, dtype=np.float32)[None, :]
    y = np.arange(scene.height, dtype=np.float32)[:, None]
    cosine, sine = np.float32(math.cos(background.angle)), np.float32(math.sin(background.angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    if background.kind == "gradient":
        return np.asarray((along - along.min()) / (along.max() - along.min()))[..., None]
    wave = np.float32(2 * math.pi / background.period)
    if background.kind == "stripes":
        return (np.sin(along * wave) * 3 + 0.5).clip(0, 1)[..., None]
    return (((np.sin(along * wave) + np.sin(across * wave)) - 1.2) * 3).clip(0, 1)[..., None]


def _draw_background(scene: Scene) -> Image.Image:
    share = _mixture(scene)
    if share is None:
        return Image.new("RGB", scene.size, scene.background.first)
    first = np.array(scene.background.first, dtype=np.float32)
    second = np.array(scene.background.second, dtype=np.float32)
    return Image.fromarray((first + share * (second - first)).astype(np.uint8))


def _fill(image: Image.Image, corners: NDArray[np.float64], rgb: RGB) -> None:
    """Fill an antialiased polygon."""
    left, top = (math.floor(value) - 1 for value in corners.min(axis=0))
    right, bottom = (math.ceil(value) + 2 for value in corners.max(axis=0))
    mask = Image.new("L", ((right - left) * _FINER, (bottom - top) * _FINER))
    ImageDraw.Draw(mask).polygon(((corners - (left, top)) * _FINER).ravel().tolist(), fill=255)
    image.paste(rgb, (left, top), mask.reduce(_FINER))


def _with_noise(image: Image.Image, scene: Scene) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    start = scene.seed % (_NOISE.size - pixels.size)
    grain = _NOISE[start : start + pixels.size].reshape(pixels.shape)
    return Image.fromarray((pixels + grain * np.float32(scene.noise)).clip(0, 255).astype(np.uint8))
