"""What a run is called: words for what was changed from its experiment, and a hash that finds it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from genbench.compose import configuration, experiment
from genbench.identity import LONGEST, changes, directory_name, fingerprint, title
from genbench.run import run_directory

VAE, DIRAC = "experiment=vae-mnist5k", "experiment=dirac-w1-3"

MANY = (
    "model.width=3",
    "optimizer.lr=0.2",
    "trainer.epochs=3",
    "trainer.batch_size=33",
    "loss.beta=0.5",
    "loss.free_bits=3",
    "task.importance_samples=7",
    "task.importance_images=70",
)


def named(*words: str) -> tuple[dict[str, str], str, str]:
    """Changes, title, and directory name without the hash, which is checked."""
    config = configuration(*words)
    changed = changes(config, experiment(config.name))
    name, _, digits = directory_name(config, changed).rpartition("-")
    assert digits == fingerprint(config)
    return changed, title(config, changed), name


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ((), {}),
        (("seed=7",), {}),
        (("optimizer.lr=0.001",), {}),  # what it is anyway
        (("device=cpu", "trainer.log_every=1", "output_root=elsewhere"), {}),  # decides no number
        (("model.latent_dim=2",), {"model.latent_dim": "2"}),
        (("optimizer=rmsprop",), {"optimizer": "rmsprop"}),
        (("optimizer=rmsprop", "optimizer.lr=0.5"), {"optimizer": "rmsprop", "optimizer.lr": "0.5"}),
        (("optimizer@critic_optimizer=sgd",), {"critic_optimizer": "sgd"}),
        (("trainer.epochs=null", "trainer.max_steps=9"), {"trainer.epochs": "null", "trainer.max_steps": "9"}),
    ],
)
def test_changes_are_what_differs_from_the_experiment(words: tuple[str, ...], changed: dict[str, str]) -> None:
    assert named(VAE, *words)[0] == changed


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((VAE,), "seed=1"),
        ((VAE, "seed=12"), "seed=12"),
        ((VAE, "model.latent_dim=2"), "latent_dim=2,seed=1"),
        ((VAE, "optimizer=rmsprop"), "optimizer=rmsprop,seed=1"),
        ((DIRAC, "regularizer=none", "seed=3"), "regularizer=none,seed=3"),
        # Two options of one name: neither goes by it alone.
        (
            (DIRAC, "optimizer@critic_optimizer=sgd", "critic_optimizer.lr=0.2", "optimizer.lr=0.3"),
            "optimizer.lr=0.3,critic_optimizer=sgd,critic_optimizer.lr=0.2,seed=1",
        ),
        ((VAE, *MANY, "seed=4294967295"), "importance_samples=7,importance_images=70,width=3,+5,seed=4294967295"),
        (("experiment=flow-arcs-samples-k2", "dataset.target=two-moons"), "target=two-moons,seed=1"),
    ],
)
def test_directories(words: tuple[str, ...], name: str) -> None:
    found = named(*words)
    assert found[2] == name
    if "+" not in name:  # the same words, and no fewer
        assert found[1] == f"{configuration(*words).name} {name.replace(',', ', ')}"


def test_a_run_of_no_experiment_has_no_changes() -> None:
    assert named(VAE, "name=mine", "model.latent_dim=2") == ({}, "mine seed=1", "seed=1")


@pytest.mark.parametrize("count", range(0, 31, 3))
def test_names_are_short_and_safe_in_a_shell(count: int) -> None:
    """However many changes there are, and whatever they hold."""
    config = configuration(VAE, "seed=4294967295")
    changed = {f"model.option_{k}": f"/a b/'{'ü' * k}'; rm *, [1, 2]{{}}" for k in range(count)}
    name = directory_name(config, changed)
    assert len(name) <= LONGEST == 80
    assert re.fullmatch(r"[\w.,=+-]+", name, re.ASCII)
    assert name.endswith(f"seed=4294967295-{fingerprint(config)}")
    shown = re.findall(r"option_\d+=", name)
    left = re.findall(r"\+(\d+),", name)
    assert len(shown) + sum(map(int, left)) == count


def test_a_run_is_found_by_its_hash_whatever_its_name(genbench: Callable[..., int], tmp_path: Path) -> None:
    """An older name, or one that somebody gave it."""
    words = ("experiment=dirac-w1-1", "trainer.max_steps=2")
    assert genbench(*words) == 0
    (run,) = (tmp_path / "outputs" / "dirac-w1-1").iterdir()
    digits = run.name.rpartition("-")[2]
    renamed = run.rename(run.with_name(f"seed1-{digits}"))
    assert run_directory(configuration(*words)) == Path("outputs/dirac-w1-1") / renamed.name
    before = (renamed / "summary.json").read_bytes()
    assert genbench(*words) == 0
    assert list(renamed.parent.iterdir()) == [renamed]
    assert (renamed / "summary.json").read_bytes() == before
    assert genbench(*words, "seed=2") == 0  # another hash: another run
    assert len(list(renamed.parent.iterdir())) == 2


def test_a_sweeps_table_names_jobs_by_what_the_sweep_chose(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench("-m", "experiment=dirac-w1-3", "trainer.max_steps=2", "regularizer.coefficient=0.5,2") == 0
    said = capsys.readouterr().out
    table = said[said.index("sweep: 2 of 2 jobs done") :].splitlines()
    for coefficient, line in zip(("0.5", "2"), table[1:3], strict=True):
        words = [f"coefficient={coefficient}", "max_steps=2", "seed=1"]
        assert line.startswith(f"regularizer.coefficient={coefficient} ")
        assert f"dirac-w1-3 {', '.join(words)}: done" in said
        (path,) = (tmp_path / "outputs" / "dirac-w1-3").glob(f"{','.join(words)}-*/summary.json")
        summary = json.loads(path.read_text())
        assert summary["title"] == f"dirac-w1-3 {', '.join(words)}"
        assert summary["changes"] == {"regularizer.coefficient": coefficient, "trainer.max_steps": "2"}
