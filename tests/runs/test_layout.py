"""The files of a run's folder: written whole, read with a sentence for what is damaged or of another format."""

import errno
import os
from types import SimpleNamespace

import pytest
import yaml

from zoo.errors import ZooError
from zoo.runs.layout import FORMAT, config_of, read_config, write_config

PLAIN = {"max_images": 64, "batch_size": 8, "seed": 0, "model": {"name": "vae", "lr": 1e-5}, "data": {"name": "mnist"}}


def settings(**changes):
    return SimpleNamespace(plain=lambda: PLAIN | changes)


def test_what_is_written_is_read_and_carries_its_format(tmp_path):
    write_config(settings(), tmp_path / "run")
    assert read_config(tmp_path / "run") == PLAIN
    assert config_of(tmp_path / "run" / "config.yaml")["format"] == FORMAT


def test_settings_are_written_whole(tmp_path, monkeypatch):
    write_config(settings(), tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_config(settings(max_images=128), tmp_path)
    assert read_config(tmp_path)["max_images"] == 64


@pytest.mark.parametrize("torn", ["", "a", "max_images: 64\nmodel: {name: 'va", "max_images:", "max_images: 64"])
def test_torn_settings_are_one_sentence(tmp_path, torn):
    (tmp_path / "config.yaml").write_text(torn)
    with pytest.raises(ZooError, match=r"config\.yaml is damaged"):
        read_config(tmp_path)


@pytest.mark.parametrize(("number", "remedy"), [(None, "train it anew"), (1, "train it anew"), (FORMAT + 1, "update the zoo")])
def test_a_run_of_another_format_is_refused_by_its_number(tmp_path, number, remedy):
    written = PLAIN if number is None else {"format": number} | PLAIN
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(ZooError, match=rf"is of format {number or 1}, and this version reads format {FORMAT}; {remedy}"):
        read_config(tmp_path)
