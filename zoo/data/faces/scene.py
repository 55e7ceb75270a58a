"""What faces are drawn on: the canvas with its coordinates, soft-edged shapes and colours, all in numpy.

Every field has shape (n, 1, h, w) and every factor (n, 1, 1, 1), so that formulas are written once, for all faces and all pixels.
Lengths are in units of the head: x to the right, y down, 0 between the eyes, the chin near 0.72.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

FACTOR_NAMES = (
    *("yaw", "tilt", "shift_x", "shift_y", "zoom"),  # pose: radians, picture units, head units to picture units
    *("light_x", "light_y", "warmth"),  # where the light comes from, how golden it is
    *("back_hue", "back_hue_shift", "back_saturation", "back_lightness", "back_angle"),
    *("cloth_hue", "cloth_saturation", "cloth_lightness", "cloth_neck"),  # neck: 0 round to 1 pointed
    *("male", "age", "skin_tone", "skin_warmth", "blush"),  # age 0 young to 1 old, tone 0 pale to 1 dark
    *("face_width", "jaw", "chin"),
    *("eye_size", "eye_open", "eye_slant", "eye_spacing", "iris", "gaze_x", "gaze_y"),
    *("brow_thickness", "brow_arch", "brow_height"),
    *("nose_width", "nose_length"),
    *("smile", "mouth_open", "mouth_width", "lip_fullness", "lipstick", "lipstick_hue"),
    *("bald", "hair_color", "hair_shade", "hair_length", "hair_volume", "hair_wave", "hair_part", "hair_line", "hair_detail"),
    *("bangs", "bangs_length"),
    *("moustache", "moustache_width", "moustache_thickness", "beard", "beard_style", "beard_density"),
    *("glasses", "glasses_shape", "glasses_size", "glasses_thickness", "glasses_hue", "glasses_lightness", "glasses_tint"),
    *("hat", "hat_style", "hat_height", "hat_hue", "hat_saturation", "hat_lightness"),
)

HAIR_COLORS = ("black", "brown", "blond", "gray", "red")  # the values 0 to 4 of the factor hair_color
_HAIR = np.array([(34, 28, 29), (94, 60, 38), (212, 170, 106), (172, 170, 168), (150, 66, 34)], np.float32) / 255
_SKIN = np.array([(245, 211, 189), (238, 196, 168), (229, 180, 143), (198, 141, 103), (150, 98, 66), (98, 62, 44)], np.float32) / 255
IRIS = np.array([(62, 38, 22), (112, 70, 36), (128, 106, 54), (88, 126, 84), (84, 132, 176), (120, 140, 152)], np.float32) / 255

Array = np.ndarray  # float32 throughout


@dataclass
class Scene:
    """Some faces on some rectangle of the canvas."""

    canvas: Array  # (n, 3, h, w), painted in place
    u: Array  # (n, 1, h, w) head coordinates: turned with the head's tilt
    v: Array
    w: Array  # like u, but wrapped around the head: turned with its yaw too, so features sit at fixed (w, v)
    x: Array  # body coordinates: not turned at all
    y: Array
    px: Array  # (n, 1, 1, 1) size of a pixel in head units
    f: Any  # factors by name, each (n, 1, 1, 1)
    skin: Array  # (n, 3, 1, 1)
    hair: Array  # (n, 3, 1, 1)
    light: tuple[Array, Array, Array]  # unit vector towards the light

    def window(self, left: float, right: float, top: float, bottom: float) -> "Scene":
        """The rectangle that holds left < w < right and top < v < bottom of every face: a view, so painting it paints the canvas.

        What is drawn in a window must fade within these bounds, give or take the width of an edge.
        """
        edge = 1.5 * self.px
        held = (self.w > left - edge) & (self.w < right + edge) & (self.v > top - edge) & (self.v < bottom + edge)
        rows, columns = np.flatnonzero(held.any((0, 1, 3))), np.flatnonzero(held.any((0, 1, 2)))
        i = slice(rows[0], rows[-1] + 1) if rows.size else slice(0, 0)
        j = slice(columns[0], columns[-1] + 1) if columns.size else slice(0, 0)
        fields = {name: getattr(self, name)[:, :, i, j] for name in ("canvas", "u", "v", "w", "x", "y")}
        return replace(self, **fields)

    def only(self, present: Array, draw: Callable[["Scene"], None]) -> None:
        """Draws on the faces where `present` is set; the others are not touched at all."""
        rows = np.flatnonzero(present)
        if rows.size == 0:
            return
        fields = {name: getattr(self, name)[rows] for name in ("canvas", "u", "v", "w", "x", "y", "px", "skin", "hair")}
        factors = SimpleNamespace(**{name: value[rows] for name, value in vars(self.f).items()})
        part = replace(self, **fields, f=factors, light=(self.light[0][rows], self.light[1][rows], self.light[2][rows]))
        draw(part)
        self.canvas[rows] = part.canvas

    def paint(self, color: Any, alpha: Array) -> None:
        """Covers with a colour (a grey level, (3, 1, 1) or (n, 3, h, w)) where alpha is 1."""
        self.canvas += alpha * (color - self.canvas)

    def tint(self, color: tuple[float, float, float], alpha: Array) -> None:
        """Multiplies by a colour where alpha is 1: shadows and blush."""
        self.canvas *= 1 + alpha * (rgb_of(*color) - 1)

    def facing(self, nx: Array, ny: Array) -> Array:
        """How much a surface with the normal (nx, ny, ...) faces the light, in [0, 1]."""
        x, y, z = self.light
        return np.clip(nx * x + ny * y + z * np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.09)), 0, 1)

    def inside(self, distance: Array, softness: Any = 0.0) -> Array:
        """Coverage of the region distance < 0: an edge of 1.5 pixels, or wider if soft (in head units)."""
        t = np.clip(0.5 - distance / (1.5 * self.px + softness), 0, 1)
        return t * t * (3 - 2 * t)

    def line(self, distance: Array, half_width: Any, softness: Any = 0.0) -> Array:
        """Coverage of a line around distance = 0; lines thinner than a pixel fade instead of vanishing."""
        return self.inside(distance - half_width, softness) - self.inside(distance + half_width, softness)

    def strands(self, across: Array, frequency: float) -> Array:
        """Hair texture, about [-1, 1]: irregular waves; those that a pixel cannot resolve fade to 0."""
        phase = 6.2832 * self.f.hair_detail
        texture = 0.6 * np.sin(frequency * 0.37 * across + phase)
        for k, height in ((1.0, 0.4), (2.7, 0.3)):
            seen = height * np.exp(-((1.3 * k * frequency * self.px) ** 2))
            if seen.max() > 0.004:  # one grey level
                texture = texture + seen * np.sin(k * (frequency * across + texture) + 3 * phase)
        return texture


def scene_of(factors: Array, height: int, width: int, square: float) -> Scene:
    """An unpainted scene for faces with these factors (n, F); `square` as in `drawing.render`."""
    f = SimpleNamespace(**{name: factors[:, i, None, None, None] for i, name in enumerate(FACTOR_NAMES)})
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) * (2 / square)).reshape(1, 1, 1, width)
    y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) * (2 / square)).reshape(1, 1, height, 1)
    x, y = (x - f.shift_x) / f.zoom, (y - f.shift_y) / f.zoom
    u, v = x * np.cos(f.tilt) + y * np.sin(f.tilt), y * np.cos(f.tilt) - x * np.sin(f.tilt)
    # Seen from above, the features lie on a circle with radius sqrt(0.45) that turns by the yaw.
    w = u * np.cos(f.yaw) - np.sqrt(np.maximum(0.45 - u * u, 0.02)) * np.sin(f.yaw)
    x, y = np.broadcast_to(x, u.shape), np.broadcast_to(y, u.shape)
    norm = np.sqrt(f.light_x**2 + f.light_y**2 + 0.5)
    light = (f.light_x / norm, f.light_y / norm, np.sqrt(np.float32(0.5)) / norm)
    warm = rgb_of(1, 0, -1)
    skin = mix(_SKIN, f.skin_tone * 5) * (1 + 0.05 * f.skin_warmth * warm)
    hair = mix(_HAIR, f.hair_color) * (1 + 0.22 * f.hair_shade)
    canvas = np.empty((len(factors), 3, height, width), np.float32)
    return Scene(canvas, u, v, w, x, y, 2 / square / f.zoom, f, skin, hair, light)


def rgb_of(red: float, green: float, blue: float) -> Array:
    """A colour (3, 1, 1)."""
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


def mix(palette: Array, position: Array) -> Array:
    """Colours (n, 3, 1, 1) between the rows of a palette."""
    at, steps = position.reshape(-1), np.arange(len(palette))
    return np.stack([np.interp(at, steps, palette[:, c]) for c in range(3)], 1).astype(np.float32)[:, :, None, None]


def rgb(hue: Array, saturation: Any, lightness: Array) -> Array:
    """HSL in [0, 1], each (n, 1, 1, 1), to RGB (n, 3, 1, 1)."""
    k = (rgb_of(0, 8, 4) + hue * 12) % 12
    return lightness - saturation * np.minimum(lightness, 1 - lightness) * np.clip(np.minimum(k - 3, 9 - k), -1, 1)


def ellipse(u: Array, v: Array, a: Any, b: Any) -> Array:
    """Signed distance to an ellipse with half axes a and b, to first order (exact for circles)."""
    k = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    return k * (k - 1) / (np.sqrt((u / (a * a)) ** 2 + (v / (b * b)) ** 2) + 1e-4)


def glow(u: Any, v: Any, a: Any, b: Any) -> Array:
    """A soft spot: 1 in the middle, 0 outside the ellipse with half axes a and b."""
    t = np.maximum(1 - (u / a) ** 2 - (v / b) ** 2, 0)
    return t * t
