"""What a renderer returns, a scene, and what all renderers share: backdrop, surface, printed letters."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nandlib.data.drawn.canvas import Array, Colour, Mask, Rng, blend, noise, plain, shade, unit


@dataclass(frozen=True)
class Scene:
    """A drawn product: the image, where the product is, and what is seen where it is not."""

    image: Array
    region: Mask
    background: Array


def backdrop(rng: Rng, size: int, colour: Colour, depth: float = 0.04) -> Array:
    """A table of one colour, slightly cloudy."""
    return shade(plain(size, colour), 1 - depth + 2 * depth * noise(rng, size, 60, 2))


def scene(image: Array, alpha: Array, background: Array) -> Scene:
    """An object, where `alpha` says, before a background."""
    return Scene(np.clip(image, 0, 1).astype(np.float32), alpha > 0.5, background.astype(np.float32))


def texture(image: Array, background: Colour = (0.05, 0.05, 0.05)) -> Scene:
    """A surface that fills the image; `background` shows through where a piece is broken out."""
    return scene(image, np.ones(image.shape[:2], np.float32), plain(image.shape[0], background))


def letters(image: Array, text: str, centre: Array, scale: float, colour: Colour, angle: float = 0, slip: float = 0.0) -> Array:
    """Printed `text`; `slip` doubles and smears it, as a faulty imprint does."""
    size = image.shape[0]
    layer = np.zeros((size, size), np.uint8)
    face, thick, font = cv2.FONT_HERSHEY_DUPLEX, max(1, round(2 * unit(size))), scale * unit(size)
    (wide, high), _ = cv2.getTextSize(text, face, font, thick)
    middle = centre * unit(size)
    cv2.putText(layer, text, (round(middle[0] - wide / 2), round(middle[1] + high / 2)), face, font, 255, thick, cv2.LINE_AA)
    turned = cv2.warpAffine(layer, cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), -np.degrees(angle), 1), (size, size))
    alpha = turned.astype(np.float32) / 255
    if slip:
        moved = np.roll(alpha, round(slip * unit(size)), (0, 1))
        alpha = np.clip(0.75 * np.maximum(moved, alpha * (np.arange(size) % (size // 9) > size // 20)), 0, 1)
    return blend(image, alpha * 0.9, colour)
