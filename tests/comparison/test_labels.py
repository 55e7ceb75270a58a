import pytest

from zoo.comparison.labels import Settings, described, differing_of, flat, labels_of, overrides_of, settings_of


def settings(name: str = "vae", overrides: str = "", /, **values) -> Settings:
    own = {"name": name, "_target_": f"zoo.models.{name}.X"}
    config = {"model": own | values.pop("model", {}), "data": {"name": "faces"}, "optimizer": {"lr": 0.002}} | values
    return settings_of(config, f"python -m zoo.train model={name} {overrides}")


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([settings("ae"), settings("vae")], ["ae", "vae"]),
        ([settings(model={"beta": 1.0}), settings("vae", "model.beta=4", model={"beta": 4})], ["vae", "vae beta=4"]),
        (  # a sweep of both
            [settings("vae", f"model.beta={beta}", model={"beta": beta}) for beta in (1, 4)],
            ["vae beta=1", "vae beta=4"],
        ),
        (  # what all were told tells nothing
            [settings(name, "model.latent_dim=16", model={"latent_dim": 16}) for name in ("ae", "vae")],
            ["ae", "vae"],
        ),
        (  # another latent size than others have
            [settings("udt", "model.latent_dim=48", model={"latent_dim": 48}), settings("ae", model={"latent_dim": 32})],
            ["udt latent_dim=48", "ae"],
        ),
        (  # the only one of its model
            [settings("vae", "model.gamma=0.2", model={"gamma": 0.2}), settings("ae")],
            ["vae gamma=0.2", "ae"],
        ),
        (  # what all rows of a model were told
            [settings("vae", f"model.gamma=0.2 model.beta={b}", model={"gamma": 0.2, "beta": b}) for b in (1, 2)] + [settings("ae")],
            ["vae beta=1", "vae beta=2", "ae"],
        ),
        (  # settings outside of the model, in rows of the same model only
            [
                settings("vae", "optimizer.lr=0.01", optimizer={"lr": 0.01}),
                settings(),
                settings("ae", "optimizer.lr=0.1", optimizer={"lr": 0.1}),
            ],
            ["vae lr=0.01", "vae", "ae"],
        ),
        (  # equal last parts
            [
                settings("vae", "model.backbone.width=8 model.flow.width=4", model={"backbone": {"width": 8}, "flow": {"width": 4}}),
                settings(model={"backbone": {"width": 1}, "flow": {"width": 1}}),
            ],
            ["vae backbone.width=8 flow.width=4", "vae"],
        ),
        (  # a group
            [settings("vae", "model/flow=residual", model={"flow": {"_target_": "zoo.nets.Residual"}}), settings()],
            ["vae flow=residual", "vae"],
        ),
        (  # commands say nothing: few settings that tell them apart
            [
                settings(model={"beta": 1, "gamma": 1}),
                settings(model={"beta": 2, "gamma": 2}),
                settings(model={"beta": 2, "gamma": 3}),
            ],
            ["vae gamma=1", "vae gamma=2", "vae gamma=3"],
        ),
        (
            [settings(scheduler={"_target_": "zoo.A"}), settings(scheduler={"_target_": "zoo.B"})],
            ["vae scheduler=A", "vae scheduler=B"],
        ),
        ([settings(max_images=100_000), settings(max_images=50_000)], ["vae max_images=100_000", "vae max_images=50_000"]),
    ],
)
def test_a_row_is_called_by_what_tells_it_from_others(rows, labels):
    assert labels_of(rows) == labels


def test_overrides_that_change_no_number_are_left_out():
    command = "python -m zoo.train model=vae seed=3 logger=none data.root=/x 'model.beta=4' +experiment=y; then resume=RUN max_images=9"
    assert overrides_of(command) == {"model": "vae", "model.beta": "4", "experiment": "y"}
    assert overrides_of("unknown") == {}
    assert overrides_of("python -m zoo.train 'torn") == {}


def test_settings_that_differ():
    rows = [
        settings("ae", model={"latent_dim": 32, "width": 8}, data={"name": "faces", "image_size": 64, "cache": "/a"}, ema=None, seed=0),
        settings(
            "vae",
            "model.beta=4",
            model={"latent_dim": 32, "beta": 4, "gamma": 1, "net": {"image_size": 32}},
            data={"name": "faces", "image_size": 32},
            ema=0.9,
            seed=1,
        ),
    ]
    assert differing_of(rows) == {
        "model.beta": ["–", "4"],  # set by a command
        "ema": ["null", "0.9"],
        "data.image_size": ["64", "32"],
    }  # not what one model has and the other has not, nor seeds and caches


def test_settings_of_one_model_that_differ():
    rows = [settings(model={"beta": beta, "gamma": 1}) for beta in (1, 2)] + [settings("ae")]
    assert differing_of(rows) == {"model.beta": ["1", "2", "–"]}


def test_a_longer_key_that_repeats_a_shorter_one_is_left_out():
    rows = [settings(data={"name": "faces", "image_size": size, "source": {"image_size": size}}) for size in (32, 64)]
    assert differing_of(rows) == {"data.image_size": ["32", "64"]}


def test_a_published_row_says_what_its_command_says():
    command, same = "ema_decay=0.9 trainer.gradient_clip_val=1", {"max_images": 1000, "ema_decay": 0.9, "trainer": {"gradient_clip_val": 1}}
    rows = [settings("vae", command, model={"beta": beta}, **same) for beta in (2, 1)]
    rows += [settings("ae", command, model={"width": 3}, **same)]
    rows += [Settings("vae", {}, {"max_images": "2_000", "trainer.gradient_clip_val": "1.0"})]
    assert differing_of(rows) == {
        "model.beta": ["2", "1", "–", "default"],
        "max_images": ["1_000", "1_000", "1_000", "2_000"],
        "ema_decay": ["0.9", "0.9", "0.9", "default"],
    }


def test_what_a_run_started_from_is_told_by_its_command():
    summary = {"pretrain": {"command": "python -m zoo.train model=vae model.beta=4 seed=1", "checkpoint": "/a/b.ckpt"}}
    config = {"model": {"name": "gan"}, "pretrain": {"run": "/a", "share": 0.5}}
    assert described(config, summary)["pretrain"] == {"run": "model=vae model.beta=4", "share": 0.5}
    assert described(config, {})["pretrain"]["run"] == "/a"
    assert described({"pretrain": {"run": None}}, summary)["pretrain"]["run"] is None


def test_flat():
    assert flat({"a": {"b": 1, "c": {}}, "d": [1, 2]}) == {"a.b": 1, "d": [1, 2]}
