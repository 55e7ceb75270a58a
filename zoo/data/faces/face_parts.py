"""Draws the head itself: skin, ears, eyes, brows, nose and mouth.

The skin is lit as a height field: an ellipsoid with smooth bumps for nose, cheeks, sockets and lips, whose gradients are known in
closed form. Everything else is a signed distance with a soft edge, or a soft spot.
"""

from typing import Any

import numpy as np

from zoo.data.faces.scene import IRIS, Array, Scene, ellipse, glow, mix, rgb, rgb_of


def face_distance(s: Scene) -> Array:
    """Signed distance to the outline of skull and jaw."""
    f = s.f
    down = np.clip(s.v / 0.7, 0, 1.3)
    u = (s.u - 0.16 * f.yaw * down) / (1 - (0.13 - 0.15 * f.jaw) * down * down)
    long = np.where(s.v > -0.08, 0.78 + 0.06 * f.chin, 0.64)
    return ellipse(u, s.v + 0.08, 0.515 * (1 + 0.07 * f.face_width), long)


def draw_head(s: Scene) -> None:
    """Skin in the light, with blush, shadows around the eyes and the lines of age."""
    f = s.f
    distance = face_distance(s)
    covered = s.inside(distance)
    lit, shine = _relief(s)
    dark, bright = s.skin * rgb_of(0.56, 0.42, 0.40), s.skin + 0.2 * (1 - s.skin)
    tone = s.skin + np.clip(1 - 2 * lit, 0, 1) * (dark - s.skin) + np.clip(2 * lit - 1, 0, 1) * (bright - s.skin)
    tone = tone * (1 + f.warmth * 0.04 * rgb_of(1, 0, -1))
    s.paint(tone, covered)
    s.tint((0.72, 0.55, 0.52), covered * 0.7 * s.inside(-distance - 0.035, 0.12))  # the skin turns away at the rim
    s.paint(rgb_of(1.0, 0.97, 0.92), covered * shine)
    _blush(s.window(-0.54, 0.54, -0.15, 0.44))
    s.only(f.age > 0.45, _wrinkles)


def _blush(s: Scene) -> None:
    f = s.f
    red = (0.86, 0.52, 0.5)
    for side in (-1, 1):
        s.tint(red, glow(s.w - side * 0.29, s.v - 0.24, 0.23, 0.19) * (0.12 + 0.42 * f.blush))
        s.tint((0.72, 0.58, 0.6), glow(s.w - side * (0.235 + 0.03 * f.eye_spacing), s.v, 0.2, 0.14) * 0.5)  # sockets
        s.tint((0.7, 0.52, 0.5), glow(s.w - side * 0.22, s.v - 0.115, 0.12, 0.06) * np.clip(f.age - 0.3, 0, 1) * 0.55)  # bags
    s.tint(red, glow(s.w, s.v - 0.21, 0.1, 0.1) * 0.3)


def _relief(s: Scene) -> tuple[Array, Array]:
    """Light on the skin as a height field: diffuse in [0, 1] and shine, each (n, 1, h, w)."""
    f = s.f
    r = 0.36 * (s.u / 0.54) ** 2 + 0.4 * ((s.v + 0.02) / 0.76) ** 2
    steep = 0.62 / np.sqrt(np.maximum(1 - r, 0.15))
    dx, dy = -steep * s.u / 0.6, -steep * (s.v + 0.05) / 0.95  # the gradient of the height, uphill

    def bump(u: Any, v: Any, a: Any, b: Any, height: Any) -> None:
        """Adds height * (1 - r^2)^3 with r the elliptic radius."""
        nonlocal dx, dy
        p, q = (s.w - u) / a, (s.v - v) / b
        slope = -6 * height * np.maximum(1 - p * p - q * q, 0) ** 2
        dx, dy = dx + slope * p / a, dy + slope * q / b

    tip = 0.225 + 0.035 * f.nose_length
    nose_scale = 1 + 0.25 * f.nose_width
    bump(0.0, tip - 0.13, 0.12 * nose_scale, 0.27, 0.042)  # bridge
    bump(0.0, tip - 0.01, 0.1 * nose_scale, 0.09, 0.05)  # tip
    bump(0.0, -0.2, 0.5, 0.12, 0.012 + 0.012 * f.male)  # brow ridge
    bump(0.0, 0.6, 0.17, 0.15, 0.018 + 0.014 * f.male)  # chin
    bump(0.0, 0.515, 0.16, 0.07, -0.018)  # under the lip
    bump(0.0, 0.42, 0.3, 0.2, 0.03)  # the mouth stands out
    bump(0.0, 0.325, 0.035, 0.07, -0.006)  # philtrum
    for side in (-1, 1):
        bump(side * 0.078 * nose_scale, tip + 0.015, 0.06 * nose_scale, 0.06, 0.022)  # wing of the nose
        bump(side * (0.235 + 0.03 * f.eye_spacing), -0.02, 0.19, 0.13, -0.028)  # socket
        bump(side * (0.235 + 0.03 * f.eye_spacing), -0.02, 0.12, 0.09, 0.022)  # eyeball
        bump(side * 0.3, 0.17, 0.2, 0.19, 0.022 + 0.02 * np.clip(f.smile, 0, 1))  # cheekbone
        bump(side * 0.36, 0.4, 0.16, 0.2, -0.016 - 0.012 * np.clip(f.age - 0.4, 0, 1))  # hollow
    norm = 1 / np.sqrt(dx * dx + dy * dy + 1)
    x, y, z = s.light
    facing = (-dx * x - dy * y + z) * norm
    lit = np.clip(0.18 + 0.72 * facing, 0, 1)
    half = (-dx * x * 0.55 - dy * y * 0.55 + 0.55 * z + 0.5) * norm  # towards the viewer, roughly
    shine = 0.20 * np.clip((half / np.sqrt(0.55 + 0.55 * z) - 0.93) * 14, 0, 1) ** 2
    return lit, shine


def draw_ears(scene: Scene) -> None:
    """Over short hair; the ear that the head turns away is behind the cheek."""
    s = scene.window(-1.2, 1.2, -0.24, 0.3)
    f = s.f
    outside = s.inside(-face_distance(s))
    for side in (-1, 1):
        x = s.u * side - 0.53 * (1 + 0.07 * f.face_width) + 0.22 * np.abs(f.yaw) + 0.25 * (s.v - 0.03)
        y = s.v - 0.03 + 0.1 * x
        near = np.clip(0.5 - 8 * side * f.yaw, 0, 1)
        covered = s.inside(ellipse(x, y, 0.072, 0.14)) * np.maximum(outside, near * s.inside(-x - 0.03, 0.04))
        s.tint((0.6, 0.5, 0.48), 0.6 * near * s.inside(ellipse(x, y, 0.085, 0.15), 0.04))
        s.paint(s.skin * (0.82 + 0.25 * side * s.light[0]) * rgb_of(1.0, 0.9, 0.88), covered)
        s.tint((0.6, 0.42, 0.4), covered * 0.8 * s.line(ellipse(x + 0.006, y + 0.01, 0.042, 0.095), 0.008, 0.03))
        s.tint((0.6, 0.42, 0.4), covered * 0.7 * glow(x + 0.02, y - 0.02, 0.06, 0.1))


def _wrinkles(s: Scene) -> None:
    f = s.f
    old = np.clip((f.age - 0.45) * 1.8, 0, 1)
    dark = (0.66, 0.5, 0.46)
    for i in range(3):
        curve = s.v + 0.29 + 0.062 * i + 0.05 * s.w * s.w + 0.008 * np.sin(14 * s.w + i + 6 * f.hair_detail)
        s.tint(dark, 0.5 * old * s.line(curve, 0.006, 0.03) * glow(s.w, 0, 0.34 - 0.03 * i, 1))
    for side in (-1, 1):
        x = s.w * side
        fold = x - 0.13 - 0.42 * np.maximum(s.v - 0.22, 0) + 0.25 * np.maximum(s.v - 0.36, 0) ** 2
        s.tint(dark, 0.6 * old * s.line(fold, 0.008, 0.05) * glow(0, s.v - 0.33, 1, 0.16))
        for i in (-1, 0, 1):
            crow = s.v - 0.035 * i - 0.5 * i * (x - 0.38)
            s.tint(dark, 0.45 * old * s.line(crow, 0.004, 0.02) * glow(x - 0.43, s.v, 0.065, 0.1))


def draw_eyes(scene: Scene) -> None:
    """Crease, white, iris, pupil, the mirrored light, lashes."""
    for side in (-1, 1):
        s = scene.window(-0.5 if side < 0 else 0.02, 0.5 if side > 0 else -0.02, -0.2, 0.2)
        f = s.f
        size = 1 + 0.14 * f.eye_size
        half = 0.122 * size
        x = side * s.w - 0.238 - 0.022 * f.eye_spacing  # outwards
        y = s.v + 0.012 + 0.14 * f.eye_slant * x
        p = np.clip(x / half, -1.5, 1.5)
        arc = 1 - p * p
        open_up = (0.03 + 0.038 * f.eye_open) * size
        open_low = (0.026 + 0.012 * f.eye_open) * size * (1 - 0.3 * np.clip(f.smile, 0, 1))
        upper = -open_up * arc * (1 - 0.22 * p)  # the highest point lies towards the nose
        lower = open_low * arc * (1 + 0.25 * p)
        steep = np.sqrt(1 + (2 * open_up / half * p) ** 2)
        lid, floor = (upper - y) / steep, (y - lower) / steep
        opened = s.inside(np.maximum(lid, floor)) * s.inside(np.abs(x) - half)
        s.tint((0.62, 0.45, 0.43), 0.75 * s.line(lid - 0.028 - 0.012 * f.eye_open, 0.005, 0.02) * np.clip(1.25 - p * p, 0, 1))  # crease
        s.tint((0.84, 0.7, 0.68), 0.6 * s.inside(lid - 0.03, 0.02) * s.inside(-lid) * np.clip(1.4 - p * p, 0, 1))
        shade = 0.93 - 0.16 * p * p - 0.26 * s.inside(y - upper - 0.022, 0.045)
        s.paint(shade * rgb_of(1.0, 0.97, 0.95), opened)
        s.tint((0.9, 0.6, 0.55), opened * s.inside(p + 0.86, 0.2))  # the inner corner
        ix, iy = x - side * 0.03 * f.gaze_x, y + 0.004 - 0.014 * f.gaze_y
        r = np.sqrt(ix * ix + iy * iy) / size
        depth = np.clip(r / 0.056, 0, 1)
        bowl = 1.0 + 0.55 * np.clip(iy / 0.05, -0.7, 1) - 0.5 * depth**4  # light gathers below, the rim is dark
        rays = 1 + 0.12 * np.sin(10 * ix / (0.03 + r)) * np.sin(12 * iy / (0.03 + r))
        s.paint(np.clip(mix(IRIS, f.iris) * bowl * rays, 0, 1), opened * s.inside(r - 0.056, 0.008))
        s.paint(0.03, opened * s.inside(r - 0.024, 0.006))
        s.tint((0.35, 0.32, 0.34), opened * 0.6 * s.inside(y - upper - 0.012, 0.03))
        towards = 0.02 * side * np.sign(f.light_x)  # the light is mirrored on its own side of both eyes
        s.paint(1.0, opened * 0.95 * s.inside(ellipse(ix - towards, iy + 0.021, 0.0125, 0.0125), 0.004))
        s.paint(1.0, opened * 0.25 * s.inside(ellipse(ix + towards, iy - 0.024, 0.012, 0.008), 0.008))
        weight = (1 - 0.65 * f.male) * (0.5 + 0.5 * np.clip(p + 1.0, 0, 1.6))  # lashes, fuller outwards
        within = np.clip((1.12 + 0.12 * (1 - f.male) - np.abs(p - 0.05)) * 9, 0, 1)
        s.paint(0.07 * (1 + s.skin), within * 0.95 * s.line(lid - 0.004, 0.0085 * weight + 0.003, 0.004))
        s.tint((0.45, 0.3, 0.3), within * (0.3 + 0.35 * (1 - f.male)) * s.line(floor - 0.002, 0.004, 0.008))
        s.paint(1.0, 0.10 * s.line(floor - 0.014, 0.004, 0.014) * np.clip(1 - p * p, 0, 1))  # wet edge of the lower lid


def draw_brows(scene: Scene) -> None:
    """Brows in the colour of the hair."""
    for side in (-1, 1):
        s = scene.window(-0.55 if side < 0 else 0.0, 0.55 if side > 0 else 0.0, -0.38, -0.04)
        f = s.f
        x = side * s.w - 0.25 - 0.02 * f.eye_spacing
        p = x / 0.185
        curve = -0.172 - 0.03 * f.brow_height - 0.012 * (1 - f.male) + 0.05 * f.brow_arch * (p * p - 0.5) - 0.008 * p + 0.012 * p * p
        thick = (0.013 + 0.0145 * f.brow_thickness) * (1 + 0.25 * f.male) * np.clip(1.2 - 0.35 * p - 0.5 * p * p, 0.08, 1.5)
        hairs = 1 + 0.25 * s.strands(x + 0.7 * (s.v - curve), 90.0)
        alpha = s.line(s.v - curve, thick, 0.02) * np.clip((1 - np.abs(p)) * 3.5, 0, 1)
        s.paint(s.hair * 0.62 * hairs * (0.7 + 0.3 * (1 - f.age)) + 0.04, 0.88 * alpha)


def draw_nose(scene: Scene) -> None:
    """The nose is mostly relief; here its shadow, highlights, nostrils and wings."""
    s = scene.window(-0.25, 0.25, -0.15, 0.38)
    f = s.f
    tip = 0.225 + 0.035 * f.nose_length
    nose_scale = 1 + 0.25 * f.nose_width
    s.tint((0.62, 0.47, 0.45), 0.85 * glow(s.w + 0.05 * f.light_x, s.v - tip - 0.075, 0.13 * nose_scale, 0.05))  # underneath
    s.paint(1.0, 0.17 * glow(s.w - 0.02 * f.light_x, s.v - tip + 0.015, 0.036, 0.036))
    s.paint(1.0, 0.06 * glow(s.w - 0.02 * f.light_x, s.v - tip + 0.14, 0.026, 0.12))
    for side in (-1, 1):
        x, y = side * s.w, s.v - tip
        s.tint(
            (0.28, 0.15, 0.15),
            0.85 * s.inside(ellipse(x - 0.046 * nose_scale, y - 0.052 + 0.25 * (x - 0.046), 0.026 * nose_scale, 0.0135), 0.016),
        )
        wing = ellipse(x - 0.07 * nose_scale, y - 0.02, 0.05 * nose_scale, 0.05)
        s.tint((0.6, 0.42, 0.4), 0.5 * s.line(wing, 0.004, 0.03) * s.inside(0.085 * nose_scale - x, 0.04) * s.inside(-y, 0.05))


def draw_mouth(scene: Scene) -> None:
    """Lips, and between them, if open, teeth and tongue."""
    s = scene.window(-0.38, 0.38, 0.24, 0.74)
    f = s.f
    joy, agape = np.clip(f.smile, -0.4, 1), np.clip(f.mouth_open, 0, 1)
    happy = np.clip(joy, 0, 1)
    half = 0.155 + 0.02 * f.mouth_width + 0.058 * happy - 0.012 * agape
    p = np.clip(s.w / half, -1.2, 1.2)
    arc = 1 - p * p
    round_arc = arc * (1 + 0.45 * p * p)  # fuller towards the corners
    y = s.v - 0.415 - 0.012 * joy + 0.06 * joy * p * p
    full = 1 + 0.3 * f.lip_fullness
    bow = 1 - 0.24 * np.clip(1 - np.abs(p) * 4.5, 0, 1) + 0.1 * np.clip(1 - np.abs(np.abs(p) - 0.26) * 4, 0, 1)
    raised = 0.012 * agape  # heights over the middle of the mouth: top of the lips, gap, bottom of the lips
    top = -(0.036 * full * bow * (1 - 0.25 * happy) + raised) * arc
    gap_top = -raised * arc
    gap_low = agape * (0.075 + 0.01 * joy) * round_arc
    bottom = gap_low + 0.05 * full * arc * (1 - 0.2 * happy)
    s.tint((0.66, 0.5, 0.48), 0.7 * glow(s.w, y - bottom - 0.035, 0.16, 0.045))  # under the lower lip
    for side in (-1, 1):
        corner = glow(side * s.w - half - 0.012, y, 0.05, 0.05)
        s.tint((0.6, 0.42, 0.4), corner * (0.35 + 0.4 * happy))
        fold = side * s.w - half - 0.045 + 0.9 * (s.v - 0.4) ** 2 / (0.3 + half)
        s.tint((0.68, 0.5, 0.48), 0.6 * happy * s.line(fold, 0.008, 0.05) * glow(0, s.v - 0.38, 1, 0.12))
    natural = s.skin * rgb_of(0.86, 0.58, 0.56) * (1 - 0.05 * f.male)
    painted = rgb(0.93 + 0.09 * f.lipstick_hue, 0.68, 0.36 + 0.06 * f.lipstick_hue)
    lip = natural + f.lipstick * (painted - natural)
    soft = 0.012 - 0.006 * f.lipstick
    lips = s.inside(np.maximum(top - y, y - bottom), soft) * s.inside(np.abs(s.w) - half)
    lower = s.inside(gap_low * 0.5 + 0.002 - y, 0.01)
    s.paint(lip * (0.82 + 0.24 * lower + 0.06 * f.light_x * p), lips * (0.82 + 0.18 * f.lipstick - 0.2 * f.male * (1 - f.lipstick)))
    middle = (gap_low + bottom) / 2
    s.paint(1.0, lips * (0.2 + 0.16 * f.lipstick) * glow(s.w - 0.03 * f.light_x, y - middle + 0.004, 0.085, 0.018 * full))
    s.tint((0.45, 0.25, 0.25), lips * 0.85 * s.line(y - 0.5 * (gap_low + gap_top), 0.006, 0.006) * s.inside(gap_low - 0.02, 0.02))
    mouth = lips * s.inside(np.maximum(gap_top - y, y - gap_low), 0.004) * np.clip(agape * 12, 0, 1)
    s.paint(rgb_of(0.24, 0.06, 0.07), mouth)
    s.paint(rgb_of(0.72, 0.32, 0.33), mouth * 0.8 * glow(s.w, y - gap_low, 0.12, 0.045))  # tongue
    teeth = y - gap_top - 0.004 - 0.042 * np.clip(agape * 1.6, 0, 1) * np.sqrt(np.maximum(arc, 0.05))
    seams = 1 - 0.1 * s.line(np.abs((s.w * 28) % 1 - 0.5) / 28, 0.0015, 0.004)
    s.paint(seams * (0.97 - 0.3 * p * p) * rgb_of(1.0, 0.98, 0.94), mouth * s.inside(teeth, 0.004))
    s.tint((0.5, 0.3, 0.32), mouth * 0.45 * s.inside(y - gap_top - 0.006, 0.014))
