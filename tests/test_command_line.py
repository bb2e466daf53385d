"""What the command line accepts, refuses, and says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml

from genbench import registry
from genbench.compose import CONFIG_DIRECTORY, GROUPS, configuration
from genbench.data import loading, mnist5k
from genbench.engine.trainer import Trainer
from genbench.errors import DataError
from genbench.identity import changes

Genbench = Callable[..., int]
QUICK = ("experiment=dirac-w1-1", "trainer.max_steps=2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=vae-binmnst-L100"], ["unknown experiment", "did you mean 'vae-binmnist-L100'"]),
        (["experiment=dirac-w1-11"], ["unknown experiment 'dirac-w1-11'", "known: dirac-w1-", "see genbench --help"]),
        (["experiment=dirac-*"], ["experiment=dirac-* is a pattern", "genbench -m 'experiment=glob(dirac-*)'"]),
        (["-m", "experiment=dirac-*"], ["experiment=dirac-* is a pattern", "-m 'experiment=glob(dirac-*)'"]),
        (["vae-mnist5k"], ["'vae-mnist5k' is not of the form KEY=VALUE", "did you mean experiment=vae-mnist5k?"]),
        (["vae-mnst5k", "seed=2"], ["did you mean experiment=vae-mnist5k?"]),
        (["dirac-*"], ["genbench -m 'experiment=glob(dirac-*)'"]),
        ([*QUICK, "-m", "dcgan"], ["'dcgan' is not of the form KEY=VALUE"]),
        ([*QUICK, "dcgan"], ["'dcgan' is not of the form KEY=VALUE", "did you mean model=dcgan?"]),
        ([*QUICK, "dirac"], ["did you mean task=dirac or dataset=dirac?"]),
        ([*QUICK, "explain"], ["explain comes first: genbench explain NAME"]),
        (["explain", "vae-mnst5k"], ["nothing is called 'vae-mnst5k'", "similar: vae-mnist5k, "]),
        (["explain", "seed", "xyzzy"], ["nothing is called 'xyzzy'", "see genbench --help"]),
        (["explain", "--fast"], ["unrecognized arguments: --fast", "genbench explain [--config-dir DIRECTORY]"]),
        (["explain", "--config-dir", "nowhere", "seed"], ["--config-dir nowhere: there is no such directory"]),
        ([*QUICK, "loss=w2"], ["unknown loss 'w2'", "did you mean 'w1'"]),
        ([*QUICK, "trainer.epoch=3"], ["unknown key 'trainer.epoch'", "did you mean 'trainer.epochs'"]),
        ([*QUICK, "sed=3"], ["unknown key 'sed'", "did you mean 'seed'"]),
        ([*QUICK, "+model.depht=3"], ["unknown key 'model.depht'", "known: init_std"]),
        ([*QUICK, "+colour=red"], ["unknown key 'colour'"]),
        ([*QUICK, "seed=one"], ["seed", "'one'", "could not be converted to Integer"]),
        ([*QUICK, "seed=-1"], ["seed must be ≥ 0", "not -1"]),
        ([*QUICK, "trainer.epochs=2.5"], ["trainer.epochs", "2.5"]),
        ([*QUICK, "trainer.epochs=0"], ["trainer.epochs must be ≥ 1, not 0"]),
        ([*QUICK, "task.ema=1"], ["task.ema must be > 0 and < 1, not 1"]),
        ([*QUICK, "task.updates=sometimes"], ["task.updates must be one of alternating, simultaneous"]),
        ([*QUICK, "optimizer.lr=0"], ["optimizer.lr must be > 0, not 0"]),
        (["experiment=dirac-w1-3", "regularizer.coefficient=-1"], ["regularizer.coefficient must be ≥ 0, not -1"]),
        (["experiment=dirac-w1-3", "regularizer.coefficient=big"], ["regularizer.coefficient", "'big'"]),
        (["experiment=vae-mnist5k", "loss.kl=exact"], ["loss.kl must be one of analytic, mc"]),
        (["experiment=vae-mnist5k", "model.activation=tanhh"], ["model.activation must be one of"]),
        (
            ["experiment=vae-mnist5k", "dataset=mnist"],
            ["MNIST/raw/train-images-idx3-ubyte", "https://ossci-datasets"],
        ),
        (["experiment=vae-mnist5k", "loss=jsd"], ["task=variational cannot use this loss", "has no objective"]),
        (["experiment=vae-mnist5k", "regularizer=r1"], ["mlp-vae has no critic", "set regularizer=none"]),
        (["experiment=vae-mnist5k", "optimizer@critic_optimizer=adam"], ["has no critic", "critic_optimizer"]),
        (
            ["experiment=vae-mnist5k", "reference=[{metric: test/elbo, value: 1, source: me, better: lower}]"],
            ["reference: of test/elbo, higher values are better, not lower ones", "add better: higher"],
        ),
        (
            ["experiment=vae-mnist5k", "objective=test/elboo"],
            ["objective=test/elboo", "one of valid/elbo, test/elbo"],
        ),
        (["experiment=vae-mnist5k", "optimizer.anneal=1500"], ["last of 2,520 updates", "set optimizer.anneal=2520"]),
        (
            ["experiment=vae-mnist5k", "optimizer.anneal=${trainer.max_steps}"],
            ["optimizer.anneal=${trainer.max_steps}, and trainer.max_steps is null", "set trainer.max_steps=VALUE"],
        ),
        ([*QUICK, "trainer.epochs=null", "trainer.log_every=${trainer.epochs}"], ["trainer.epochs is null"]),
        (
            ["experiment=mnist5k-gan", "task.critic_steps=2", "trainer.max_steps=9", "optimizer.anneal=9"],
            ["last of 18 updates"],
        ),
        ([*QUICK, "loss=elbo"], ["task=adversarial cannot use this loss", "ELBO has no metric"]),
        ([*QUICK, "device=cuda:99"], ["device 'cuda:99' is not available", "device=auto"]),
        ([*QUICK, "device=toaster"], ["'toaster' is not a device"]),
        ([*QUICK, "seed=1,2"], ["seed has several values", "add -m"]),
        ([*QUICK, "seed"], ["'seed' is not of the form KEY=VALUE"]),
        ([*QUICK, "--fast"], ["unknown option --fast"]),
        (["name=mine", "trainer.epochs=1"], ["no task chosen", "known: "]),
        (["-m", *QUICK, "seed=1,-2"], ["seed must be ≥ 0", "not -2"]),
        (["-m", "experiment=glob(diarc-*)"], ["the sweep is empty"]),
        (["-m", *QUICK, "trainer.epohcs=1,2"], ["unknown key 'trainer.epohcs'", "'trainer.epochs'"]),
        ([*QUICK, "reference=5"], ["reference must be a list of published values, not 5"]),
        ([*QUICK, "reference=[5]"], ["reference[0] must be a mapping", "not 5"]),
        ([*QUICK, "ensemble=5"], ["ensemble must be a mapping", "not 5"]),
        (
            [*QUICK, "critic_optimizer=5"],
            ["critic_optimizer.name is missing", "optimizer@critic_optimizer=NAME; known: adam"],
        ),
        ([*QUICK, "name=???"], ["name has no value", "set name=NAME"]),
        ([*QUICK, "optimizer.lr=???"], ["optimizer.lr has no value", "set optimizer.lr=VALUE"]),
        ([*QUICK, "~seed"], ["seed has no value", "set seed=VALUE"]),
        ([*QUICK, "output_root=null"], ["output_root has no value", "set output_root=VALUE"]),
        ([*QUICK, "trainer.threads=9999999999999"], ["trainer.threads must be ≥ 1 and ≤ 1024"]),
        ([*QUICK, "trainer.log_every=1" + 21 * "0"], ["trainer.log_every must be finite"]),
        (["experiment=vae-mnist5k", "model.width=1000000000000"], ["model.width must be ≥ 1 and ≤ 1048576"]),
        (["experiment=vae-mnist5k", "model.width=1000000"], ["GiB of memory", "choose a smaller model"]),
        (["experiment=vae-mnist5k", "task.importance_samples=1" + 21 * "0"], ["task.importance_samples must be"]),
        (["experiment=dirac-w1-3", "dataset=mnist5k"], ["dirac-gan is for points on a line", "1 × 28 × 28"]),
        (["experiment=mnist5k-gan", "task.final_samples=4", "task.fid_reference=5000"], ["4000 training images"]),
        (["experiment=mnist5k-gan", "task.final_samples=4", "dataset.binarized=true"], ["images of 256 levels"]),
        (["experiment=mnist5k-gan", "trainer.drop_last=false", "trainer.batch_size=3"], ["a batch of one"]),
        (["experiment=mnist5k-gan", "dataset=plane"], ["task=image-gan is for images"]),
        ([*QUICK, "output_root=/dev/null"], ["/dev/null is no directory", "choose another output_root"]),
        ([*QUICK, "output_root=" + 300 * "x"], ["cannot be written", "choose another output_root"]),
        ([*QUICK, "output_root=" + 2400 * "x/"], ["cannot be written", "choose another output_root"]),
        (["-m", *QUICK, "seed=1,2", "hydra.sweep.dir=/dev/null/x"], ["/dev/null is no directory"]),
        ([*QUICK, "hydra.run.dir=/dev/null/x"], ["Not a directory", "/dev/null/x"]),
        ([*QUICK, "hydra.verbose=null"], ["Hydra cannot do this", "--cfg hydra"]),
        ([*QUICK, "--resolve"], ["--resolve is for --cfg"]),
        ([*QUICK, "--package=a"], ["--package is for --cfg"]),
        ([*QUICK, "--cfg=nothing"], ["invalid choice: 'nothing'"]),
        ([*QUICK, "--cfg=job", "-m"], ["exclude one another"]),
        ([*QUICK, "--config-name=foo"], ["there is one configuration", "--config-dir DIRECTORY"]),
        ([*QUICK, "--config-path=foo"], ["there is one configuration", "--config-dir DIRECTORY"]),
        ([*QUICK, "--config-dir=nowhere"], ["nowhere: there is no such directory"]),
        ([*QUICK, "hydra.searchpath=[nowhere]"], ["genbench: nowhere: there is no such directory"]),
        (["experiment=nothing", "--cfg=job"], ["unknown experiment 'nothing'"]),
        (["-m", *QUICK, "hydra/sweeper=grid", "seed=-1"], ["seed must be ≥ 0"]),
        ([*QUICK, "hydra/sweeper=null"], ["unknown hydra/sweeper None", "known: basic, grid, optuna"]),
        (["-m", *QUICK, "device=cpu,cuda:99"], ["device 'cuda:99' is not available"]),
        (["-m", "experiment=vae-mnist5k", "dataset=mnist5k,mnist"], ["-ubyte"]),
        (["-m", "experiment=vae-mnist5k", "model.posterior=normal,iaf", "loss.kl=analytic"], ["no closed form"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in " ".join(value) else "",
)
def test_bad_input(
    genbench: Genbench, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: list[str]
) -> None:
    """Exit code 2, one message that says what would be right, nothing left behind."""
    assert genbench(*words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("genbench: ") == 1
    assert "Traceback" not in output.err
    assert len(output.err.splitlines()) <= 3
    for part in said:
        assert part in output.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        ".sweep",
        "../up",
        "a/b",
        "'a b'",
        "' '",
        "''",
        "'a\nb'",
        "'a\tb'",
        "'a\x1b[31m'",
        "'größe'",
        101 * "x",
    ],
)
def test_a_name_that_is_no_directory_is_refused(
    genbench: Genbench, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    assert genbench(*QUICK, f"name={name}") == 2
    error = capsys.readouterr().err
    assert "name must be a letter or digit, followed by" in error
    assert error.count("genbench: ") == 1
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_no_optimizer_of_its_own_for_the_critic(genbench: Genbench, capsys: pytest.CaptureFixture[str]) -> None:
    """As the remedy says where a model has no critic; and a run's title says that its experiment's is left out."""
    words = ("experiment=vae-mnist5k", "optimizer@critic_optimizer=adam", "trainer.max_steps=1")
    assert genbench(*words) == 2
    assert "set critic_optimizer=null" in capsys.readouterr().err
    assert genbench(*words, "critic_optimizer=null") == 0
    with_one = configuration(*QUICK, "optimizer@critic_optimizer=sgd")
    without = configuration(*QUICK, "optimizer@critic_optimizer=sgd", "critic_optimizer=null")
    assert changes(without, with_one) == {"critic_optimizer": "null"}


def test_an_experiment_of_ones_own(genbench: Genbench, tmp_path: Path) -> None:
    """In a directory that --config-dir names: alone, and in a sweep by a pattern."""
    own = tmp_path / "mine" / "experiment"
    own.mkdir(parents=True)
    for number in (1, 2):
        text = (
            f"# @package _global_\ndefaults: [dirac-w1-1, _self_]\nname: mine-{number}\ntrainer: {{max_steps: 2}}\n"
        )
        (own / f"mine-{number}.yaml").write_text(text)
    assert genbench("--config-dir", str(tmp_path / "mine"), "experiment=mine-1") == 0
    assert [path.name.split("-")[0] for path in (tmp_path / "outputs" / "mine-1").iterdir()] == ["seed=1"]
    assert genbench("--config-dir=mine", "-m", "experiment=glob(mine-*)") == 0
    assert (tmp_path / "outputs" / "mine-2").is_dir()
    assert genbench("experiment=mine-1") == 2  # it is looked for nowhere else


def test_all_of_a_sweep_is_checked_before_its_first_job(
    genbench: Genbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data sets are read once each, and nothing is trained where the last of them is missing."""
    loaded = []
    build = registry.build

    def counted(group: str, config: dict[str, object], *context: object) -> object:
        loaded.extend([config["name"]] if group == "dataset" else [])
        return build(group, config, *context)

    monkeypatch.setattr(registry, "build", counted)
    assert genbench("-m", "experiment=vae-mnist5k", "seed=1,2,3", "dataset=mnist5k,mnist") == 2
    assert list(tmp_path.iterdir()) == []
    assert sorted(loaded) == ["mnist"] or sorted(loaded) == ["mnist", "mnist5k"]


def test_runs_of_a_sweep_share_their_data(genbench: Genbench, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(mnist5k, "_read", lambda *arguments, real=mnist5k._read: read.append(1) or real(*arguments))
    small = ("trainer.max_steps=1", "model.width=8", "task.importance_samples=1")
    assert genbench("-m", "experiment=vae-mnist5k", "seed=1,2", *small) == 0
    assert len(read) == 1


def test_a_finished_run_needs_no_data(genbench: Genbench, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ("experiment=vae-mnist5k", "trainer.max_steps=1", "model.width=8", "task.importance_samples=1")
    assert genbench(*small) == 0
    loading.forget()

    def missing() -> Path:
        raise DataError("gone")

    monkeypatch.setattr(mnist5k, "_source", missing)
    assert genbench(*small) == 0
    assert genbench(*small, "seed=2") == 2


def test_too_little_memory_is_one_message(
    genbench: Genbench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only training finds out: of PyTorch, and of NumPy and Python."""

    def of_pytorch(*_: object) -> None:
        torch.empty(2**60)

    def of_python(*_: object) -> None:
        raise MemoryError

    for fit in (of_pytorch, of_python):
        monkeypatch.setattr(Trainer, "fit", fit)
        assert genbench(*QUICK) == 1
        error = capsys.readouterr().err
        assert error.count("genbench: ") == 1
        assert "there is not enough memory\n  reduce trainer.batch_size" in error
        assert "Traceback" not in error


def test_a_run_leaves_its_directory(genbench: Genbench, tmp_path: Path) -> None:
    assert genbench(*QUICK, "seed=4") == 0
    (run,) = (tmp_path / "outputs" / "dirac-w1-1").iterdir()
    assert run.name.startswith("max_steps=2,seed=4-")
    names = {path.name for path in run.iterdir()}
    assert names >= {"config.yaml", "status.json", "summary.json", "metrics.jsonl", "checkpoints", "figures"}
    assert [name for name in names if name.startswith("events.out.tfevents")]
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    status, summary = (json.loads((run / name).read_text()) for name in ("status.json", "summary.json"))
    assert (status["status"], status["step"]) == ("done", 2)
    assert summary["schema"] == 2
    assert summary["metrics"]["eval/distance"].keys() == {"final", "best", "protocol"}
    assert "protocol" not in summary  # each value has its own
    assert summary["metrics"]["eval/multiplier_error"]["truth"] == 0
    assert summary["reference"] == []
    assert [row["from"] for row in summary["stretches"]] == [0]
    assert summary["versions"]["torch"]
    assert summary["device"]
    assert summary["steps_per_second"] > 0
    assert summary["wall_seconds"] >= summary["training_seconds"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=dirac-w1-3", "regularizer=none"),
        ("experiment=dirac-w1-3", "regularizer=gp"),
        ("experiment=dirac-w1-1", "loss=jsd"),
        ("experiment=dirac-w1-1", "optimizer=adam"),
        ("experiment=dirac-w1-1", "optimizer@critic_optimizer=sgd", "critic_optimizer.lr=0.2"),
    ],
)
def test_a_component_can_be_replaced(genbench: Genbench, tmp_path: Path, words: tuple[str, ...]) -> None:
    """What the experiment had set for the replaced component is no stumbling block."""
    assert genbench(*words, "trainer.max_steps=2") == 0
    (path,) = tmp_path.glob("outputs/*/*/config.yaml")
    group, name = words[1].split("@")[-1].split("=")
    assert yaml.safe_load(path.read_text())[group]["name"] == name


def test_a_finished_run_of_another_version_is_named(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert genbench(*QUICK) == 0
    (path,) = (tmp_path / "outputs" / "dirac-w1-1").glob("*/summary.json")
    written = {
        key: value for key, value in json.loads(path.read_text()).items() if key not in ("schema", "quantities")
    }
    path.write_text(json.dumps(written))
    assert genbench(*QUICK) == 1
    error = capsys.readouterr().err
    assert "written by another version of genbench\n  delete it to repeat the run" in error
    assert "Traceback" not in error


def test_a_finished_run_is_skipped(genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert genbench(*QUICK) == 0
    (run,) = (tmp_path / "outputs" / "dirac-w1-1").iterdir()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert genbench(*QUICK) == 0
    assert "is done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_the_run_directory_depends_on_what_is_computed_and_not_on_paths(genbench: Genbench, tmp_path: Path) -> None:
    for words in ([], ["optimizer.lr=0.2"], ["output_root=elsewhere"], ["data_root=elsewhere"]):
        assert genbench(*QUICK, *words) == 0
    ours = {path.name for path in (tmp_path / "outputs" / "dirac-w1-1").iterdir()}
    elsewhere = {path.name for path in (tmp_path / "elsewhere" / "dirac-w1-1").iterdir()}
    assert len(ours) == 2
    assert elsewhere < ours


def test_a_run_says_what_it_is_from_its_start(
    genbench: Genbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one that fails can be told from others, too."""

    def fail(trainer: Trainer) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", fail)
        assert genbench(*QUICK) == 1
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    begun = json.loads(path.read_text())
    assert json.loads(path.with_name("status.json").read_text())["status"] == "failed"
    assert genbench(*QUICK) == 0
    ended = json.loads(path.read_text())
    end = {"status", "note", "step", "metrics", "reference", "steps_per_second", "wall_seconds", "finished"}
    assert end <= ended.keys() - begun.keys()
    assert {"schema", "title", "changes", "settings", "family", "quantities", "curves", "cover"} <= begun.keys()
    assert ended | begun == ended


@pytest.mark.parametrize("place", [0, 1, 3])
def test_options_may_stand_anywhere(genbench: Genbench, tmp_path: Path, place: int) -> None:
    """Hydra alone takes no overrides on both sides of an option."""
    words = [*QUICK, "seed=1,2"]
    words.insert(place, "-m")
    assert genbench(*words) == 0
    assert len(list((tmp_path / "outputs" / "dirac-w1-1").iterdir())) == 2


def test_a_sweep_goes_on_after_a_diverged_job(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("experiment=dirac-w1-3", "trainer.max_steps=400", "regularizer.coefficient=1e12,0.1")
    assert genbench("-m", *words) == 3
    said = capsys.readouterr().out
    assert "sweep: 1 of 2 jobs done" in said
    statuses = sorted(
        json.loads(path.read_text())["status"] for path in tmp_path.glob("outputs/dirac*/*/status.json")
    )
    assert statuses == ["diverged", "done"]
    assert genbench("-m", *words) == 3  # the same again: nothing is trained twice
    assert "are over already" in capsys.readouterr().out


def test_a_sweep_takes_patterns_of_experiments(genbench: Genbench, tmp_path: Path) -> None:
    assert genbench("-m", "experiment=glob([dirac-*-1,dirac-*-6])", "trainer.max_steps=2") == 0
    names = {path.name for path in (tmp_path / "outputs").iterdir() if not path.name.startswith(".")}
    pictures = {"sweep-dirac-jsd.png", "sweep-dirac-w1.png"}
    assert names == {f"dirac-{loss}-{number}" for loss in ("jsd", "w1") for number in (1, 6)} | pictures


def test_another_process_is_refused(genbench: Genbench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from filelock import FileLock

    assert genbench(*QUICK) == 0
    (run,) = (tmp_path / "outputs" / "dirac-w1-1").iterdir()
    (run / "status.json").unlink()
    hold = f"lock = FileLock({str(run / '.lock')!r}); lock.acquire()"
    code = f"from filelock import FileLock; {hold}; print('locked', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert genbench(*QUICK) == 4
        assert "another process is training this run" in capsys.readouterr().err
        other.kill()
    with FileLock(run / ".lock", timeout=5):
        pass
    assert genbench(*QUICK) == 0


def test_help_is_quick_and_lists_every_choice() -> None:
    begin = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", "genbench.train", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - begin < 2
    assert result.returncode == 0
    rest = result.stdout[result.stdout.index("\ntask=") :]
    listed = {
        group: re.split(r"[,\s]+", names.strip()) for group, names in re.findall(r"^(\w+)=([^=]*)$", rest, re.M)
    }
    for group in GROUPS:
        for path in (CONFIG_DIRECTORY / group).glob("*.yaml"):
            if group == "experiment":
                assert re.search(rf"^ *{re.escape(path.stem)}( |$)", result.stdout, re.M), path.stem
            else:
                assert path.stem in listed[group]


def test_help_lists_the_choices_of_the_user(
    genbench: Genbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "of-mine.yaml").write_text("# What I do\nname: of-mine\n", encoding="utf-8")
    for words in (("--config-dir", "mine", "--help"), ("-h", "hydra.searchpath=[mine]")):
        assert genbench(*words) == 0
        assert re.search(r"^ *of-mine +What I do$", capsys.readouterr().out, re.M)
    assert genbench("--help", "--config-dir", "yours") == 2


def test_version_is_that_of_genbench(genbench: Genbench, capsys: pytest.CaptureFixture[str]) -> None:
    assert genbench("--version") == 0
    assert capsys.readouterr().out == f"genbench {version('genbench')}\n"


def test_without_arguments_genbench_says_where_to_begin(
    genbench: Genbench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert genbench() == 2
    lines = capsys.readouterr().out.splitlines()
    assert 15 <= len(lines) <= 22
    text = "\n".join(lines)
    for words in ("genbench experiment=vae-mnist5k", "genbench --help", "genbench explain", "docs/usage.md"):
        assert words in text
    assert list(tmp_path.iterdir()) == []


def test_help_and_pieces_import_nothing_heavy() -> None:
    """Pieces in one process: what a later one may bring, an earlier one must not."""
    help_, functional, fidelity = (
        ("import genbench.train as t\ntry: t.main(['--help'])\nexcept SystemExit: pass", {"torch", "tensorboard"}),
        ("import genbench.functional", {"hydra", "omegaconf", "tensorboard", "matplotlib", "torchvision"}),
        ("import genbench.metrics.fidelity", {"torch_fidelity"}),
    )
    for steps in ((help_,), (functional, fidelity)):
        check = "import sys\n" + "".join(
            f"{code}\nprint('loaded:', sorted({heavy!r} & set(sys.modules)))\n" for code, heavy in steps
        )
        result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        assert re.findall(r"^loaded: (.*)$", result.stdout, re.M) == ["[]"] * len(steps)


def test_the_configuration_can_be_shown(
    genbench: Genbench, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("experiment=vae-binmnist-L100", "--cfg", "job")
    assert genbench(*words) == 0
    assert "data_root: ${oc.env:GENBENCH_DATA" in capsys.readouterr().out
    assert genbench(*words, "--resolve") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["model"]["latent_dim"], shown["data_root"]) == (100, str(data_root))
    assert list(tmp_path.iterdir()) == []


def test_infinitely_many_values_are_refused_before_anything_runs(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweeper that draws values is for those."""
    assert genbench("-m", "experiment=vae-mnist5k", "optimizer.lr=interval(1e-4,1e-2)") == 2
    error = capsys.readouterr().err
    assert "optimizer.lr has infinitely many values" in error
    assert "hydra/sweeper=" in error
    assert not (tmp_path / "outputs").exists()
