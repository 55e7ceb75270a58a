"""Draws faces from factors: painted back to front with soft edges and a little light, in numpy.

The background comes first, then hair behind the head, body, head with its features (`face_parts`), hair, glasses, hat.
"""

import numpy as np

from zoo.data.faces.face_parts import draw_brows, draw_ears, draw_eyes, draw_head, draw_mouth, draw_nose, face_distance
from zoo.data.faces.scene import Array, Scene, ellipse, glow, rgb, scene_of

_PIXELS_AT_ONCE = 1 << 17  # small enough for the cache, large enough for numpy (measured)


def render(factors: np.ndarray, size: int | tuple[int, int] = 64, square: float | None = None) -> np.ndarray:
    """Draws faces: factors (N, F) in the order of FACTOR_NAMES to images (N, 3, H, W) uint8.

    `size` is the height and width in pixels, or (height, width). `square` is the side in pixels of the centred square that the picture of a
    face fills, by default the smaller of the two; a smaller one shows more around it. Each face depends on its own factors only.
    """
    height, width = (size, size) if isinstance(size, int) else size
    factors = np.asarray(factors, np.float32)
    images = np.empty((len(factors), 3, height, width), np.uint8)
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    for start in range(0, len(factors), step):
        scene = scene_of(factors[start : start + step], height, width, square or min(height, width))
        _draw(scene)
        images[start : start + step] = np.clip(scene.canvas * 255 + 0.5, 0, 255)
    return images


def _draw(s: Scene) -> None:
    """Everything, back to front. What a face does not have is not drawn at all."""
    f = s.f
    _background(s)
    s.only((f.bald < 0.5) & (f.hair_length > 0.3), _hair_behind)
    _body(s)
    draw_head(s)
    draw_eyes(s)
    draw_nose(s)
    draw_mouth(s)
    s.only(f.beard > 0.5, _beard)
    s.only(f.moustache > 0.5, _moustache)
    draw_brows(s)
    s.only(f.glasses > 0.5, _arms_of_glasses)
    s.only(f.bald < 0.5, _hair)
    s.only((f.hair_length < 0.36) | (f.bald > 0.5), draw_ears)
    s.only(f.glasses > 0.5, _glasses)
    s.only((f.hat > 0.5) & (f.hat_style < 0.5), _knitted_cap)
    s.only((f.hat > 0.5) & (f.hat_style >= 0.5), _brimmed_hat)


def _background(s: Scene) -> None:
    f = s.f
    x, y = s.x * f.zoom, s.y * f.zoom
    t = np.clip(0.5 + 0.42 * (np.cos(f.back_angle) * x + np.sin(f.back_angle) * y), 0, 1)
    near = rgb(f.back_hue, f.back_saturation, f.back_lightness)
    far = rgb(f.back_hue + f.back_hue_shift, f.back_saturation, 0.62 * f.back_lightness)
    s.canvas[:] = near + t * (far - near)
    for i in range(4):  # lights out of focus
        angle = f.back_angle + 1.7 * i
        spot = glow(x - np.cos(angle * 2.3), y + 0.75 * np.sin(angle * 1.7) + 0.1, 0.5 + 0.1 * i, 0.5 + 0.1 * i)
        s.paint(1.0, 0.14 * spot)
    s.tint((0.62, 0.6, 0.66), 0.5 * np.clip((x * x + y * y - 0.6) * 0.6, 0, 1))


def _body(s: Scene) -> None:
    f = s.f
    lit = 0.5 + 0.5 * np.clip(s.light[0] * s.x * 1.5 + 0.25, -1, 1)
    neck = np.abs(s.x - 0.08 * f.yaw) - (0.205 + 0.07 * f.male) - 0.25 * np.clip(s.y - 0.78, 0, 1) ** 2
    neck = np.maximum(neck, 0.3 - s.y)
    width = np.abs(s.x) / (0.92 + 0.1 * f.male)
    slope = s.y - (0.77 + 0.42 * width * width / (0.25 + width) + 1.2 * np.maximum(width - 0.95, 0) ** 2)
    skin = s.skin * (0.66 + 0.34 * lit)
    flesh = s.inside(np.minimum(neck, 0.03 - slope))
    s.paint(skin, flesh)
    s.tint((0.5, 0.36, 0.36), flesh * 0.75 * glow(s.x, s.y - 0.62, 0.5, 0.32))  # the shadow of the chin
    s.tint((0.8, 0.7, 0.68), flesh * 0.5 * s.line(np.abs(s.x - 0.08 * f.yaw) - 0.1 - 0.1 * (1 - s.y), 0.012, 0.06))  # tendons
    cloth = rgb(f.cloth_hue, f.cloth_saturation, f.cloth_lightness)
    deep = 0.17 + 0.1 * f.cloth_neck
    opening = ellipse(s.x, s.y - 0.83, 0.29 + 0.03 * f.male, deep)
    pointed = np.abs(s.x) * 0.8 + (s.y - 0.83 - deep * 1.45) * 0.6
    opening = opening + f.cloth_neck * (np.maximum(pointed, opening) - opening)
    covered = s.inside(np.maximum(-slope, -opening))
    folds = 0.05 * np.sin(9 * s.x + 5 * s.y + 6 * f.hair_detail) * np.clip(s.y - 0.85, 0, 1)
    s.paint(cloth * (0.62 + 0.45 * lit + folds), covered)
    s.tint((0.6, 0.6, 0.66), covered * 0.8 * s.line(opening - 0.055, 0.006))  # the seam of the collar
    s.tint((0.55, 0.5, 0.55), covered * 0.6 * s.inside(slope - 0.02, 0.08))
    s.tint((0.5, 0.42, 0.42), flesh * (1 - covered) * 0.6 * s.inside(-opening, 0.1))


def _beard(s: Scene) -> None:
    """Stubble, goatee or full beard (style below 1/3, 2/3, 1)."""
    f = s.f
    stubble, full = f.beard_style < 1 / 3, (f.beard_style >= 2 / 3).astype(np.float32)
    texture = 0.6 * s.strands(s.w * (1.3 - 0.6 * s.v) + 0.03 * np.sin(23 * s.v), 95.0) + 0.4 * s.strands(s.v + 0.6 * s.w, 70.0)
    side = np.abs(s.w)
    # The edge runs from the mouth up to the ear.
    below = 0.41 + 0.5 * np.clip(0.12 - side, 0, 0.12) - 0.42 * np.clip((side - 0.15) / 0.3, 0, 1) ** 1.1 - s.v
    distance = face_distance(s) - 0.04 * full * np.clip(2 * s.v, 0, 1) * (0.5 + f.beard_density)
    lip = s.inside(-ellipse(s.w, s.v - 0.425 + 0.05 * np.clip(f.smile, 0, 1) * (s.w / 0.17) ** 2, 0.17, 0.058), 0.03)
    everywhere = s.inside(below + 0.012 * texture, 0.14) * s.inside(distance + 0.008 * texture, 0.03) * lip
    tuft = ellipse(s.w / (1.15 - np.clip(s.v - 0.55, -0.2, 0.4)), s.v - 0.625, 0.115 + 0.03 * f.beard_density, 0.1 + 0.04 * f.beard_density)
    soul = ellipse(s.w, s.v - 0.51, 0.045, 0.05)
    chin = s.inside(np.minimum(tuft, soul) + 0.014 * texture, 0.07) * s.inside(0.485 - s.v, 0.03)
    cover = np.where(stubble | (full > 0), everywhere, chin)
    weight = np.where(stubble, 0.26 + 0.2 * f.beard_density, 0.8 + 0.18 * f.beard_density)
    lit = 0.84 + 0.3 * np.clip(s.light[0] * s.w * 2, -1, 1) - 0.25 * np.clip(s.v - 0.55, 0, 1)
    s.paint(np.clip(s.hair * 0.8 * lit * (1 + 0.25 * texture) + 0.035 * (1 + texture), 0, 1), cover * weight * (0.93 + 0.07 * texture))


def _moustache(scene: Scene) -> None:
    s = scene.window(-0.34, 0.34, 0.24, 0.52)
    f = s.f
    p = np.abs(s.w) / (0.17 + 0.05 * f.moustache_width)
    middle = 0.345 + 0.05 * p * p - 0.02 * np.clip(p - 0.7, 0, 1) - 0.02 * np.clip(f.smile, 0, 1) * p * p
    thick = (0.022 + 0.014 * f.moustache_thickness) * np.clip(1.1 - p, 0, 1) ** 0.5 * (1 - 0.25 * np.clip(1 - p * 9, 0, 1))
    texture = s.strands(s.w * 0.8 + np.sign(s.w) * 0.9 * s.v, 85.0)
    alpha = s.line(s.v - middle, thick, 0.016 + 0.006 * texture) * np.clip((1.08 - p) * 7, 0, 1)
    shade = 0.8 + 0.25 * texture - 4 * (s.v - middle)
    s.tint((0.6, 0.5, 0.48), 0.5 * s.line(s.v - middle - 0.025, thick, 0.03) * np.clip((1.05 - p) * 5, 0, 1))
    s.paint(np.clip(s.hair * 0.85 * shade + 0.02, 0, 1), 0.96 * alpha)


def _hair_shape(s: Scene) -> tuple[Array, Array, Array, Array]:
    """Signed distances to the hair's outline and to the opening for the face; where along the strands (down) and across them."""
    f = s.f
    long = np.clip((f.hair_length - 0.3) / 0.7, 0, 1)
    short = np.clip(1 - 4 * long, 0, 1)
    part = s.u - 0.3 * f.hair_part
    drop = s.v + 0.72
    across = part / np.sqrt(part * part + np.clip(drop, 0.0, 0.6) ** 2 + 0.03)
    across = across + f.hair_wave * 0.045 * np.sin(13 * s.v + 4 * np.abs(s.u) + 6 * f.hair_detail) * np.clip(drop * 1.4, 0, 1)
    rough = 0.01 * s.strands(across, 30.0)
    sway = f.hair_wave * 0.03 * np.sin(11 * s.v + 6 * f.hair_detail + np.sign(s.u)) * np.clip(s.v + 0.2, 0, 1)
    volume = (0.4 + 0.6 * f.hair_volume) * np.clip(f.hair_length * 4, 0.2, 1)
    half_width = 0.535 + 0.065 * volume + long * (0.1 * np.clip(s.v + 0.1, 0, 0.6) + 0.02) - short * 0.22 * np.clip(s.v + 0.36, 0, 0.5)
    curls = 0.024 * np.clip(2 * f.hair_wave - 1, 0, 1) * np.sin(17 * s.u + 6 * f.hair_detail) * np.sin(16 * s.v + 5 * s.u)
    outline = curls + ellipse(s.u + 0.05 * f.yaw + sway, np.minimum(s.v + 0.16, 0), half_width, 0.575 + 0.115 * volume)
    end = 0.04 + 0.9 * long + 0.3 * long * long - 0.1 * long * np.cos(3 * s.u) - 2 * rough
    side, tips = outline + rough * np.clip(2 * drop, 0.1, 1) + 0.12 * (1 - short), s.v - end + 0.12 * (1 - short)
    outline = np.sqrt(np.maximum(side, 0) ** 2 + np.maximum(tips, 0) ** 2) + np.minimum(np.maximum(side, tips), 0) - 0.12 * (1 - short)
    line = 0.47 + 0.05 * f.hair_line
    inner = 0.445 + 0.045 * np.clip(1 - f.hair_length * 2.0, 0, 1) + long * 0.02 * np.sin(6 * s.v)
    tilt = 0.35 * f.hair_part * s.w
    temple = -(0.022 + 0.03 * f.hair_line) * np.cos(np.clip(s.w, -0.35, 0.35) * 11)  # the hairline recedes at the temples
    opening = ellipse(s.w, np.minimum(s.v - tilt * 0.6, 0), inner, line + temple * f.male - 0.02)
    curve = s.v + 0.23 - 0.06 * f.bangs_length - 0.25 * s.w * s.w + 0.03 * s.strands(s.w + 0.25 * s.v, 22.0)
    opening = opening + (f.bangs > 0.5) * (np.maximum(opening, -curve) - opening) - rough
    return outline, opening, drop, across


def _hair_color(s: Scene, drop: Array, across: Array) -> Array:
    """Strands with a band of light around the head, (n, 3, h, w)."""
    facing = s.facing(np.clip(s.u / 0.75, -0.9, 0.9), np.clip((s.v + 0.1) / 0.85, -0.8, 0.35))
    texture = s.strands(across, 26.0) * 0.6 + 0.5 * s.strands(across + 0.02 * np.sin(5 * drop), 61.0)
    ring = drop - 0.22 - 0.25 * s.u * s.u + 0.03 * texture
    band = glow(ring, 0, 0.17, 1) + 0.5 * glow(ring - 0.75, 0, 0.25, 1)
    color = s.hair * (0.42 + 0.62 * facing + 0.16 * texture)
    shine = band * facing * (0.55 + 0.45 * texture)
    return np.clip(color + shine * (0.07 + 0.3 * s.hair), 0, 1)


def _hair_behind(s: Scene) -> None:
    """What hangs behind the neck."""
    outline, _, drop, across = _hair_shape(s)
    s.paint(_hair_color(s, drop, across) * 0.55, s.inside(outline))


def _hair(s: Scene) -> None:
    """What frames the face, and its shadow on the skin."""
    outline, opening, drop, across = _hair_shape(s)
    crop = np.clip(1 - s.f.hair_length * 4, 0, 1)  # shorn hair ends softly
    s.tint((0.55, 0.4, 0.38), s.inside(face_distance(s)) * (0.6 - 0.3 * crop) * s.inside(-opening - 0.035, 0.12) * s.inside(s.v - 0.5, 0.5))
    color = _hair_color(s, drop, across) * (1 - 0.35 * s.inside(-opening, 0.16) * s.inside(-0.3 - s.v, 0.5))
    s.paint(color, s.inside(outline) * s.inside(-opening, 0.012 + 0.06 * crop) * (1 - 0.25 * crop))


def _arms_of_glasses(scene: Scene) -> None:
    """They run under the hair, so they are drawn before it."""
    s = scene.window(-1, 1, -0.14, 0.1)
    f = s.f
    x = np.abs(s.w - 0.06 * np.sin(f.yaw))
    arm = s.line(s.v + 0.03 + 0.05 * (x - 0.4), 0.008 + 0.01 * f.glasses_thickness) * s.inside(0.38 - x)
    s.paint(0.8 * rgb(f.glasses_hue, 0.5, f.glasses_lightness), arm * s.inside(face_distance(s) - 0.01))


def _glasses(scene: Scene) -> None:
    """Frames from round to square, their shadow, clear or dark lenses."""
    s = scene.window(-0.68, 0.68, -0.3, 0.34)
    f = s.f
    w = s.w - 0.06 * np.sin(f.yaw)  # they stand off the face
    color = rgb(f.glasses_hue, 0.5, f.glasses_lightness)
    thin = 0.008 + 0.014 * f.glasses_thickness
    a, b = 0.156 + 0.022 * f.glasses_size + 0.012 * f.glasses_shape, 0.15 + 0.028 * f.glasses_size - 0.025 * f.glasses_shape  # half a lens
    radius = np.minimum(b, a) * (0.98 - 0.68 * f.glasses_shape)
    frame, lens, shadow = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for side in (-1, 1):
        x, y = side * w - 0.242, s.v - 0.022 + 0.03 * f.glasses_shape * (side * w - 0.24)
        p, q = np.abs(x) - a + radius, np.abs(y) - b + radius
        rim = np.minimum(np.maximum(p, q), 0) + np.sqrt(np.maximum(p, 0) ** 2 + np.maximum(q, 0) ** 2) - radius
        lens = np.maximum(lens, s.inside(rim))
        top = 1 + 0.5 * f.glasses_shape * s.inside(y, 0.1)
        frame = np.maximum(frame, s.line(rim, thin * top))
        shadow = np.maximum(shadow, s.line(rim + 0.02, thin, 0.04))
    bridge = s.line(s.v + 0.043 - 0.025 * (w / 0.08) ** 2, thin * 0.85) * s.inside(np.abs(w) - 0.242 + a)
    frame = np.maximum(frame, bridge)
    s.tint((0.55, 0.45, 0.45), 0.4 * shadow * s.inside(face_distance(s)))
    s.paint(color * 0.25 + 0.03, lens * (0.06 + 0.86 * f.glasses_tint * np.clip(0.95 - 0.7 * s.v, 0, 1)))
    streak = s.line(s.v + 0.9 * np.abs(w) - 0.1 - 0.1 * np.sign(w), 0.03, 0.03) + 0.6 * s.line(s.v + 0.9 * np.abs(w) - 0.22, 0.01, 0.02)
    s.paint(1.0, lens * streak * (0.10 + 0.1 * f.glasses_tint))
    s.paint(np.clip(color * (0.85 - 1.2 * s.v), 0, 1), frame)
    s.paint(1.0, frame * 0.35 * s.inside(s.v + b * 0.55, 0.06))


def _knitted_cap(s: Scene) -> None:
    f = s.f
    color = rgb(f.hat_hue, f.hat_saturation, f.hat_lightness)
    u = s.u + 0.03 * f.yaw
    edge = s.v + 0.27 + 0.06 * (u / 0.6) ** 2
    dome = np.maximum(ellipse(u, np.minimum(s.v + 0.3, 0), 0.63, 0.56 + 0.12 * f.hat_height), edge)
    cuff = np.maximum(np.abs(edge + 0.085) - 0.085, np.abs(u) - 0.655 + 0.25 * (edge + 0.085) ** 2)
    ribs = np.sin(44 * np.arcsin(np.clip(u / 0.68, -0.98, 0.98))) * np.exp(-((50 * s.px) ** 2))
    facing = s.facing(np.clip(u / 0.72, -0.95, 0.95), np.clip((s.v + 0.35) / 0.75, -0.9, 0.3))
    knit = color * (0.5 + 0.62 * facing + 0.06 * ribs)
    s.tint((0.45, 0.36, 0.38), 0.75 * s.inside(face_distance(s)) * s.inside(edge - 0.03, 0.1))
    s.paint(knit, s.inside(dome))
    s.tint((0.5, 0.45, 0.5), 0.6 * s.inside(dome) * s.inside(cuff - 0.02, 0.05))
    s.paint(np.minimum(knit * 1.12, 1), s.inside(cuff, 0.01))


def _brimmed_hat(s: Scene) -> None:
    f = s.f
    color = rgb(f.hat_hue, f.hat_saturation, f.hat_lightness)
    u = s.u + 0.03 * f.yaw
    edge = s.v + 0.26 + 0.1 * (u / 0.6) ** 2
    crown = ellipse(u, np.minimum(s.v + 0.42, 0), 0.56 - 0.1 * np.clip(-s.v - 0.4, 0, 1), 0.44 + 0.12 * f.hat_height)
    crowned = s.inside(np.maximum(crown, edge))
    brim = ellipse(u, s.v + 0.37 + 0.1 * u * u, 0.9, 0.125)
    felt = color * (0.52 + 0.6 * s.facing(np.clip(u / 0.72, -0.95, 0.95), np.clip((s.v + 0.35) / 0.75, -0.9, 0.3)))
    s.tint((0.45, 0.36, 0.38), 0.75 * s.inside(face_distance(s)) * s.inside(edge - 0.14, 0.2))
    s.paint(felt * 0.95, s.inside(brim))
    s.tint((0.5, 0.45, 0.48), 0.7 * s.inside(brim) * s.inside(np.maximum(crown, edge) - 0.02, 0.06))
    s.paint(felt, crowned)
    s.paint(felt * 0.35, crowned * s.inside(np.abs(edge + 0.13) - 0.06))  # ribbon
    s.paint(1.0, 0.12 * s.line(brim + 0.012, 0.008, 0.01))
