import base64
from io import BytesIO

import numpy as np
from PIL import Image

from tests.comparison import toys
from zoo.comparison.html import IMAGE_BYTES, embedded


def test_large_pictures_become_small(tmp_path):
    path = toys.faces(tmp_path / "faces.png", 0, 9, 9)
    most = IMAGE_BYTES // 105
    picture = embedded(path, most)
    data = base64.b64decode(picture["url"].split(",")[1])
    assert path.stat().st_size > 4 * most
    assert len(data) <= most
    error = np.asarray(Image.open(BytesIO(data)).convert("RGB"), float) - np.asarray(Image.open(path), float)
    assert (error**2).mean() < 13  # of 65025: 37 dB, of which 6.5 is noise that was drawn
    assert (picture["width"], picture["height"]) == (9 * 66 + 2, 9 * 66 + 2)
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(noise)
    assert embedded(noise, 10**6)["url"].startswith("data:image/")
    assert len(embedded(noise, 1000)["url"]) < len(embedded(noise, 10**6)["url"]) / 3
