"""Runs that begin with another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shared import assert_same, judged_less, smaller

from genbench.compose import configuration
from genbench.engine import checkpoint
from genbench.identity import fingerprint
from genbench.loaded import LoadedRun
from genbench.pack import pack
from genbench.tasks.divergence import Divergence

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("few_digits")
FEW = ("trainer.batch_size=20", "trainer.log_every=3", "trainer.evaluate_every=5")
# Small, and judged seldom and by few images: how good they are is no question here.
KINDS = {
    "vae-mnist5k": ("model.width=20",),
    "mnist5k-gan": ("task.grid=9", "trainer.batch_size=8"),
    "realnvp-mnist5k": ("model.couplings=2", "task.importance_samples=1"),
    "dirac-jsd-8": (),
}


def only(root: str, name: str) -> Path:
    (run,) = Path(root, name).iterdir()
    return run


def state(run: Path) -> dict[str, Any]:
    newest = checkpoint.newest_first(run / "checkpoints")[0]
    return dict(torch.load(newest, weights_only=True))


def without_empty(state: Any) -> Any:
    """An optimizer without memory remembers nothing, or that it has nothing to remember, which is the same."""
    if not isinstance(state, dict):
        return state
    kept = {key: without_empty(value) for key, value in state.items()}
    return {key: value for key, value in kept.items() if not isinstance(value, dict) or value}


def trained(words: tuple[str, ...], root: str, steps: int) -> tuple[str, ...]:
    return (*words, f"output_root={root}", "trainer.epochs=null", f"trainer.max_steps={steps}")


@pytest.mark.usefixtures("tiny_instruments")
@pytest.mark.parametrize("name", KINDS)
def test_two_halves_are_a_whole(genbench: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Bit for bit: weights, averages, optimizers, generators, the position in the data."""
    words = (
        f"experiment={name}",
        *smaller(name),
        *judged_less(name),
        *FEW,
        "trainer.evaluate_every=10",
        *KINDS[name],
    )
    assert genbench(*trained(words, "whole", 20)) == 0
    assert genbench(*trained(words, "half", 10)) == 0
    parent = only("half", name)
    assert genbench(*trained(words, "more", 20), f"extend={parent}") == 0
    told = capsys.readouterr().out
    assert "at step 10: 20 steps in all, 10 more" in told
    whole, more = state(only("whole", name)), state(only("more", name))
    for key in ("task", "batches", "rng"):
        assert_same(without_empty(more[key]), without_empty(whole[key]), key)
    rows = [json.loads(line) for line in (only("more", name) / "metrics.jsonl").read_text().splitlines()]
    whole_rows = [json.loads(line) for line in (only("whole", name) / "metrics.jsonl").read_text().splitlines()]
    final = {
        row["metric"]: row["value"]
        for row in whole_rows
        if row["step"] == 20 and not row["metric"].startswith("train/")
    }
    assert {row["metric"]: row["value"] for row in rows if row["step"] == 20 and row["metric"] in final} == final
    assert min(row["step"] for row in rows) < 10
    assert [row for row in rows if row["metric"].startswith("test/") and row["step"] < 20] == []
    said = LoadedRun(only("more", name)).summary["parent"]
    assert (said["kind"], said["step"], said["run"]) == ("extend", 10, parent.name)


@pytest.mark.parametrize("kind", ["extend", "init_from"])
def test_a_run_that_has_begun_needs_the_other_no_more(
    genbench: Run, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words = ("experiment=divergence-w1", *FEW, "trainer.checkpoint_every=5")
    assert genbench(*trained(words, "first", 10)) == 0
    second = (*trained(words, "second", 20), f"{kind}={only('first', 'divergence-w1')}")
    assert genbench(*second) == 0
    assert {"extend": "goes on from", "init_from": "begins with the weights of"}[kind] in capsys.readouterr().out
    run = only("second", "divergence-w1")
    end, parent = state(run), LoadedRun(run).summary["parent"]
    (run / "checkpoints" / "step-000000020.pt").unlink()
    (run / "status.json").unlink()
    shutil.rmtree("first")
    assert genbench(*second) == 0
    assert "resumes from step 15" in capsys.readouterr().out
    assert LoadedRun(run).summary["parent"] == parent
    assert_same(without_empty(state(run)["task"]), without_empty(end["task"]))
    shutil.rmtree(run)
    assert genbench(*second) == 2  # without a checkpoint it does
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["1,2", "2,1"])
def test_seeds_cannot_share_a_parent(genbench: Run, capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    """Or seed 2 would go on with the weights, data and random numbers of seed 1."""
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "half", 10)) == 0
    assert genbench("-m", *trained(words, "more", 20), "extend=half/*/*", f"seed={seeds}") == 2
    assert "seed (was 1, is 2)" in capsys.readouterr().err
    assert not Path("more").exists()


def test_a_run_that_began_with_weights_can_be_extended(genbench: Run) -> None:
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "first", 10)) == 0
    begun = f"init_from={only('first', 'divergence-w1')}"
    assert genbench(*trained(words, "half", 10), begun) == 0
    assert genbench(*trained(words, "whole", 20), begun) == 0
    assert genbench(*trained(words, "more", 20), f"extend={only('half', 'divergence-w1')}") == 0
    whole, more = (state(only(root, "divergence-w1"))["task"] for root in ("whole", "more"))
    assert_same(without_empty(more), without_empty(whole))


@pytest.mark.parametrize("kind", ["extend", "init_from"])
def test_a_renamed_run_is_refused(genbench: Run, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """Two of one name would be taken for the same."""
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "first", 10)) == 0
    run = only("first", "divergence-w1")
    digits = run.name.rpartition("-")[2]
    run.rename("best")
    assert genbench(*trained(words, "second", 20), f"{kind}=best") == 2
    assert f"best has been renamed\n  its directory's name must end in -{digits}" in capsys.readouterr().err
    run.symlink_to(Path("best").absolute())
    assert genbench(*trained(words, "second", 20), f"{kind}={run}") == 2
    Path("best").rename(f"best-{digits}")
    assert genbench(*trained(words, "second", 20), f"{kind}=best-{digits}") == 0


def test_the_end_of_a_run_does_not_fit_changed_code(
    genbench: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "half", 10)) == 0
    more = (*trained(words, "more", 20), f"extend={only('half', 'divergence-w1')}")
    monkeypatch.setattr("genbench.provenance._digest", lambda packages: "0badc0de")
    monkeypatch.setattr(Divergence, "load_state_dict", lambda self, found: found["no such key"])
    assert genbench(*more) == 1
    said = capsys.readouterr().err
    assert "the end of the run that is extended does not fit the code, which has changed since" in said
    assert "Traceback" not in said


def test_packed_models_are_told_apart_by_their_weights(tmp_path: Path) -> None:
    """Their folders may have any name, and the same one."""
    for number, name in enumerate(("jan/vae", "feb/vae", "jan-vae", "feb-vae")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(bytes([number]))
    packs = [path.parent for path in tmp_path.rglob("model.safetensors")]
    configs = [configuration("experiment=vae-mnist5k", f"init_from={path}") for path in packs]
    assert len({fingerprint(config) for config in configs}) == 4
    before = fingerprint(configs[1])
    (packs[1] / "model.safetensors").write_bytes(b"trained anew")
    assert fingerprint(configs[1]) != before
    shutil.copytree(packs[0], tmp_path / "moved")
    assert fingerprint(configuration("experiment=vae-mnist5k", f"init_from={tmp_path}/moved")) == fingerprint(
        configs[0]
    )


def test_a_run_that_began_with_a_packed_model_is_read_without_it(
    genbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "first", 10)) == 0
    first = LoadedRun(only("first", "divergence-w1"))
    for name in ("one", "two"):
        pack(first, Path(name))
    assert genbench(*trained(words, "second", 20), "init_from=one") == 0
    run = only("second", "divergence-w1")
    before = LoadedRun(run).state()
    Path("one").rename("moved")
    Path("two").rename("one")
    (Path("one") / "model.safetensors").write_bytes(b"something else")
    for directory in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(directory)
        assert_same(LoadedRun(tmp_path / run).state(), before)
    packed = pack(LoadedRun(tmp_path / run), tmp_path / "packed")
    said = yaml.safe_load((packed / "config.yaml").read_text())["init_from"]
    assert said == LoadedRun(tmp_path / run).settings["init_from"] != "one"


def test_what_cannot_be_extended_is_told(genbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("experiment=divergence-w1", *FEW)
    assert genbench(*trained(words, "half", 10)) == 0
    parent = only("half", "divergence-w1")
    for more, said in (
        (("extend=nowhere",), "nowhere is not a run directory"),
        (("extend=half/*/*", "trainer.max_steps=10"), "has 10 steps"),
        (("extend=half/*/*", "trainer.max_steps=20", "optimizer.lr=0.1"), "optimizer.lr (was"),
        (("extend=half/*/*", "optimizer.anneal=20"), "falls to 0 after 20 updates"),
        (("extend=half/*/*", "init_from=half/*/*"), "set extend or init_from, not both"),
        (("extend=none*",), "nothing matches"),
        (("init_from=half/*/*", "model.width=7"), "of other networks: critic"),
    ):
        capsys.readouterr()
        assert genbench(*trained(words, "more", 20), *more) == 2
        told = capsys.readouterr().err
        assert said in told
        assert sum(line.startswith("genbench: ") for line in told.splitlines()) == 1
    assert not Path("more").exists()
    (parent / "status.json").write_text('{"status": "running", "step": 5}')
    assert genbench(*trained(words, "more", 20), "extend=half/*/*") == 2
    assert "is running, not done" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_instruments")
def test_weights_alone_are_taken(genbench: Run) -> None:
    """Averages begin with them; optimizers, data and random numbers begin anew."""
    words = ("experiment=mnist5k-gan", *smaller("mnist5k-gan"), *judged_less("mnist5k-gan"), *FEW)
    assert genbench(*trained(words, "first", 5)) == 0
    parent = only("first", "mnist5k-gan")
    taken = ("init_from=first/*/*", "optimizer.lr=1e-30", "seed=2")
    assert genbench(*trained(words, "second", 1), *taken) == 0
    assert genbench(*trained(words, "other", 1), "seed=2") == 0
    first, second, other = (state(only(root, "mnist5k-gan")) for root in ("first", "second", "other"))
    before, after = first["task"], second["task"]
    for player in ("generator", "critic"):
        for name, value in before[player].items():
            if name.endswith(("weight", "bias")):
                assert torch.equal(after[player][name], value), name
                if player == "generator":
                    torch.testing.assert_close(after["average"][name], value)
        moments = after[f"{player}_optimizer"]["state"].values()
        assert {float(moment["step"]) for moment in moments} == {1.0}
    assert_same(second["batches"], other["batches"])
    said = LoadedRun(only("second", "mnist5k-gan")).summary["parent"]
    assert said["kind"] == "init_from"
    assert said["fingerprint"] == parent.name.rpartition("-")[2]
