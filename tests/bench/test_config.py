"""Configurations: one line per mistake, one spelling, no drift from what the Balancer takes."""

from __future__ import annotations

import json

import pytest

from accord.bench import config as configuration
from accord.bench.config import RunConfig, configure
from accord.errors import AccordError


def test_defaults_come_from_the_problem():
    config = configure(problem="digits(lr=0.5, epochs=3)")
    assert (config.epochs, config.lr, config.method, config.tasks) == (3, 0.5, "Sum()", None)
    assert config.problem == "digits(epochs=3, lr=0.5)"
    assert config.label == "Sum()"


def test_epochs_become_part_of_the_problem():
    assert configure(problem="digits", epochs=4).problem == "digits(epochs=4)"
    assert configure(problem="digits(epochs=4)", epochs=12).problem == "digits"


def test_a_single_task_has_its_own_folder():
    config = configure(problem="digits", tasks=("left",), seed=2)
    assert config.place.as_posix() == "digits/single-left/seed-2"


def test_what_is_stored_is_read_back(tmp_path):
    config = configure(problem="digits(width=3)", method="CAGrad(c=0.1)", tasks=("left", "sum"), heads="plain")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    assert configuration.read(path) == config
    assert {"machine", "versions"}.isdisjoint(config.settings())


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        configure(problem="digits").seed = 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs the field 'problem'"),
        ({"problem": "digts"}, "Did you mean 'digits'?"),
        ({"problem": 3}, "problem is 3: input should be a valid string"),
        ({"problem": "digits", "method": "UPgrad()"}, "Did you mean 'UPGrad'?"),
        ({"problem": "digits", "method": "CAGrad(k=1)"}, "CAGrad has no argument 'k'"),
        ({"problem": "digits", "tasks": ("lft",)}, "digits has no task 'lft'. Did you mean 'left'?"),
        ({"problem": "digits", "tasks": ()}, "at least one, each once"),
        ({"problem": "digits", "tasks": ("sum", "sum")}, "each once"),
        ({"problem": "digits", "seed": -1}, "seed is -1: input should be greater than or equal to 0"),
        ({"problem": "digits", "epochs": 0}, "epochs is 0"),
        ({"problem": "digits", "epochs": "3"}, "epochs is '3'"),
        ({"problem": "digits", "epochs": True}, "epochs"),
        ({"problem": "digits", "lr": float("nan")}, "lr is nan"),
        ({"problem": "digits", "lr": -1.0}, "lr is -1.0"),
        ({"problem": "digits", "monitor_every": -1}, "monitor_every is -1"),
        ({"problem": "digits", "optimizer": "Adamw"}, "Did you mean 'AdamW'?"),
        ({"problem": "digits", "scale": "sun"}, "scale='sun'"),
        ({"problem": "digits", "heads": "plan"}, "Did you mean 'plain'?"),
        ({"problem": "digits", "engine": "stackd"}, "Did you mean 'stacked'?"),
        ({"problem": "digits", "method": "DWA()", "heads": "plain"}, "heads='plain' is not possible"),
        ({"problem": "digits", "sed": 1}, "no field 'sed'. Did you mean 'seed'?"),
    ],
)
def test_mistakes(values, message):
    with pytest.raises(AccordError) as error:
        configure(**values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"problem": "digits", "seed": -3}', '{"problem": "gone"}', "\xff"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(AccordError, match=r"config\.json is damaged: .*Remove the folder") as error:
        configuration.read(path)
    assert "\n" not in str(error.value)


def test_every_field_is_documented():
    text = RunConfig.__doc__ or ""
    assert all(f"\n        {name}: " in text for name in RunConfig.model_fields)
