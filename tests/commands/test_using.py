"""A trained model on the command line: samples as files, another protocol, a folder to give away."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shared import judged_less, smaller

import genbench as package
from genbench import foreign_images, identity
from genbench.commands import evaluate, figures, pack, report
from genbench.compose import configuration
from genbench.engine.task import Samples
from genbench.metrics.features import to_bytes

Run = Callable[..., int]
Train = Callable[..., Path]
FEW = ("trainer.max_steps=3", "trainer.log_every=1")
FEWER = {"realnvp-mnist5k": ("task.importance_samples=1", "model.couplings=2")}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and messages of a command."""

    def run(command: Any, *words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            command.main([str(word) for word in words])
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        told = capsys.readouterr()
        return int(code or 0), told.out, told.err

    return run


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that several tests begin with."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def train(genbench: Run, templates: Path, few_digits: None) -> Train:
    """`train(experiment, *words)` leaves a run in `outputs`, as it is trained or as a copy of an earlier test's."""

    def trained(experiment: str, *words: str) -> Path:
        root = templates / "-".join([experiment, *words]).replace("=", "-")
        small = (*FEW, *smaller(experiment), *judged_less(experiment), *FEWER.get(experiment, ()))
        if not root.exists():
            assert genbench(f"experiment={experiment}", *small, *words, f"output_root={root}") == 0
        shutil.copytree(root, "outputs")
        (run,) = Path("outputs").glob("*/*seed=*")
        return run

    return trained


# --- samples as files ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_instruments")
@pytest.mark.parametrize("experiment", ["mnist5k-gan", "pixelcnn-mnist5k", "realnvp-mnist5k"])
def test_every_format_holds_the_same_bytes(train: Train, call: Any, experiment: str) -> None:
    run = train(experiment)
    for form in ("png", "npz", "pt"):
        assert call(figures, "sample", run, "--count", 7, "--seed", 5, "--format", form, "--out", form)[0] == 0
    expected = to_bytes(package.load(run).sample(7, seed=5))
    assert torch.equal(torch.load("pt/samples.pt", weights_only=True), expected)
    with np.load("npz/samples.npz") as stored:
        assert np.array_equal(stored["images"], expected.numpy().transpose(0, 2, 3, 1))
    pictures = [np.asarray(Image.open(path)) for path in sorted(Path("png").glob("*.png"))]
    assert np.array_equal(np.stack(pictures), expected[:, 0].numpy())
    told = json.loads(Path("png/manifest.json").read_text())
    assert (told["seed"], told["count"], told["fingerprint"]) == (5, 7, run.name.rpartition("-")[2])
    assert sorted(path.name for path in Path("npz").iterdir()) == ["manifest.json", "samples.npz"]


@pytest.mark.usefixtures("tiny_instruments")
def test_samples_of_one_class(train: Train, call: Any) -> None:
    run = train("vae-mnist5k-conditional")
    words = ("sample", run, "--count", 6, "--seed", 5)
    assert call(figures, *words, "--label", 3, "--format", "pt")[0] == 0
    expected = to_bytes(package.load(run).sample(6, seed=5, label=3))
    assert torch.equal(torch.load(run / "samples" / "6-class3-pt" / "samples.pt", weights_only=True), expected)
    assert json.loads((run / "samples" / "6-class3-pt" / "manifest.json").read_text())["label"] == 3
    assert call(figures, *words, "--label", 3)[0] == 0
    assert (run / "samples" / "new-seed5-class3.png").is_file()
    for form in (("--format", "png"), ()):
        code, _, said = call(figures, *words, "--label", 10, *form, "--out", "nowhere")
        assert (code, "this model knows 0 to 9" in said, Path("nowhere").exists()) == (2, True, False)


@pytest.mark.parametrize("form", ["png", "npz"])
def test_an_export_goes_on(train: Train, call: Any, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """After an interruption in its third chunk, without drawing the first two again."""
    run = train("mnist5k-gan", "trainer.batch_size=4")
    words = ("sample", run, "--count", 11, "--format", form)
    assert call(figures, *words, "--out", "whole")[0] == 0
    drawn: list[int] = []
    original = Samples.chunks

    def chunks(task: Any, *arguments: Any, **options: Any) -> Any:
        for chunk in original(task, *arguments, **options):
            drawn.append(len(chunk))
            if len(drawn) == 3:
                raise KeyboardInterrupt
            yield chunk

    with monkeypatch.context() as patch:
        patch.setattr(Samples, "chunks", chunks)
        assert call(figures, *words, "--out", "parts")[0] == 130
        assert call(figures, *words, "--out", "parts")[0] == 0
    assert drawn == [4, 4, 3, 3]
    names = sorted(path.name for path in Path("whole").iterdir())
    assert names == sorted(path.name for path in Path("parts").iterdir())
    for name in names:
        if name.endswith(".png"):
            assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()
    if form == "npz":
        with np.load("whole/samples.npz") as whole, np.load("parts/samples.npz") as parts:
            assert np.array_equal(whole["images"], parts["images"])
    assert call(figures, *words, "--out", "parts")[0] == 0  # nothing is left to do
    code, _, said = call(figures, *words, "--seed", 9, "--out", "parts")
    assert (code, "parts holds other samples" in said) == (2, True)
    code, _, said = call(figures, *words, "--label", 1, "--out", "of-one-class")
    assert (code, "knows no classes" in said, Path("of-one-class").exists()) == (2, True, False)


def test_an_export_goes_on_that_was_interrupted_in_its_first_chunk(
    train: Train, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("mnist5k-gan", "trainer.batch_size=4")
    words = ("sample", run, "--count", 3, "--format", "png", "--out", "samples")
    save = Image.Image.save

    def stopped(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", stopped)
        assert call(figures, *words)[0] == 130
    assert {path.name for path in Path("samples").iterdir()} == {"000000.png", "manifest.json"}
    assert call(figures, *words)[0] == 0
    assert len(list(Path("samples").glob("*.png"))) == 3
    Path("killed").mkdir()
    Path("killed", ".manifest.json.0a1b2c3d.part").write_bytes(b"{")
    assert call(figures, *words[:-1], "killed")[0] == 0


def test_an_export_that_was_interrupted_while_it_cleared_up_stays_whole(
    train: Train, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("mnist5k-gan", "trainer.batch_size=4")
    words = ("sample", run, "--count", 11, "--format", "npz", "--out", "samples")

    def stopped(directory: Path, **_: Any) -> None:
        next(directory.iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stopped)
        assert call(figures, *words)[0] == 130
    assert call(figures, *words)[0] == 0
    with np.load("samples/samples.npz") as stored:
        assert len(stored["images"]) == 11
    assert {path.name for path in Path("samples").iterdir()} == {"manifest.json", "samples.npz"}


@pytest.mark.usefixtures("tiny_planes")
def test_points_of_a_flow(train: Train, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("flow-arcs-samples-k8")
    assert call(figures, "sample", run, "--count", 9, "--format", "npz", "--out", "points")[0] == 0
    with np.load("points/samples.npz") as stored:
        assert stored["points"].shape == (9, 2)
    code, _, said = call(figures, "sample", run, "--format", "png", "--out", "no")
    assert (code, "points are no pictures" in said, Path("no").exists()) == (2, True, False)
    for form in ("pdf", "svg"):
        assert call(figures, "sample", run, "--count", 20, "--format", form, "--out", f"points.{form}")[0] == 0
    assert Path("points.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in Path("points.svg").read_text()
    with monkeypatch.context() as patch:
        patch.delattr(Samples, "chunks")  # it is told before a sample is drawn
        code, _, said = call(figures, "sample", run, "--out", "pictures/points.bmp")
    assert (code, "points.bmp: no picture can be written as 'bmp'" in said) == (2, True)
    assert not Path("pictures").exists()


# --- another protocol ----------------------------------------------------------------------------------------


def test_a_run_measured_again_stands_in_the_report_beside_itself(train: Train, call: Any) -> None:
    run = train("vae-mnist5k")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, shown, _ = call(evaluate, run, "task.importance_samples=7")
    assert code == 0
    (path,) = (run / "evaluations").iterdir()
    found = json.loads(path.read_text())["metrics"]
    own = json.loads((run / "summary.json").read_text())["metrics"]
    assert found["test/elbo"]["final"]["value"] == own["test/elbo"]["final"]["value"]  # by the same protocol
    assert found["test/log_likelihood"]["final"]["value"] != own["test/log_likelihood"]["final"]["value"]
    assert found["test/log_likelihood"]["protocol"]["importance_samples"] == "7"
    assert "test/log_likelihood" in shown
    assert {path: path.read_bytes() for path in before} == before
    assert call(report, "outputs", "--out", "report")[0] == 0
    rows = json.loads(Path("report/results.json").read_text())["results"]
    told = {
        json.loads(row["protocol"])["importance_samples"] for row in rows if row["metric"] == "test/log_likelihood"
    }
    assert told == {"7", own["test/log_likelihood"]["protocol"]["importance_samples"]}
    assert [row["n"] for row in rows if row["metric"] == "test/elbo"] == [1]


def test_several_sampling_seeds_have_a_spread(train: Train, call: Any) -> None:
    run = train("vae-mnist5k")
    values = []
    for seeds in ("1", "2", "1,2"):
        assert call(evaluate, run, "--seeds", seeds)[0] == 0
        newest = max((run / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        values.append(json.loads(newest.read_text())["metrics"]["test/log_likelihood"])
    one, two, both = (entry["final"]["value"] for entry in values)
    assert one == package.load(run).metrics["test/log_likelihood"]
    assert both == pytest.approx((one + two) / 2)
    assert values[2]["spread"] == pytest.approx(abs(one - two) / 2**0.5)
    assert values[2]["monte_carlo_error"] == pytest.approx(abs(one - two) / 2)
    assert values[2]["protocol"]["sampling_seeds"] == "1, 2"


@pytest.mark.usefixtures("tiny_instruments")
@pytest.mark.parametrize("experiment", ["vae-mnist5k-conditional", "pixelcnn-gated-mnist5k-conditional"])
def test_classes_may_be_judged_later(train: Train, call: Any, experiment: str) -> None:
    run = train(experiment, "task.classes=false")
    assert call(evaluate, run, "task.classes=true")[0] == 0
    (path,) = (run / "evaluations").iterdir()
    assert "test/class_accuracy" in json.loads(path.read_text())["metrics"]


def test_threads_are_those_asked_for_else_those_of_the_training(train: Train, call: Any) -> None:
    run = train("vae-mnist5k", "trainer.threads=2")
    before = torch.get_num_threads()
    for words, expected in (((), 2), (("task.importance_samples=7", "trainer.threads=3"), 3)):
        assert call(evaluate, run, *words)[0] == 0
        newest = max((run / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert f"{expected} threads" in json.loads(newest.read_text())["made_by"]["device"]
        assert torch.get_num_threads() == before


def test_what_cannot_be_evaluated_is_told(train: Train, call: Any) -> None:
    run = train("vae-mnist5k")
    for words, said in (
        (("model.width=3",), "model.width is fixed by the training"),
        (("task.importance_sample=3",), "did you mean 'task.importance_samples'"),
        (("task.importance_samples=-1",), "task.importance_samples"),
        (("task.importance_samples=[",), "no readable value"),
        (("nowhere",), "nowhere is not a run directory"),
        (("--images", "nowhere", "--against", "mnist5k:train"), "leave out runs"),
        (("--networks", "clip-vit-b-32", "--reference", "10"), "--reference, --networks: for --images alone"),
    ):
        code, _, told = call(evaluate, run, *words)
        assert code == 2
        assert said in told
        assert told.count("genbench-evaluate:") == 1
    assert not (run / "evaluations").exists()


def test_grey_pictures_of_16_bits_keep_the_highest_eight(tmp_path: Path) -> None:
    for name, level in (("a", 20_000), ("b", 40_000)):
        Image.fromarray(np.full((4, 4), level, np.uint16)).save(tmp_path / f"{name}.png")
    assert foreign_images.read(tmp_path).flatten(1).unique(dim=1).flatten().tolist() == [78, 156]


@pytest.mark.usefixtures("tiny_images", "tiny_instruments")
def test_images_from_elsewhere_have_the_scores_of_the_run_that_drew_them(train: Train, call: Any) -> None:
    """To the last digit, through PNG files."""
    scored = ("model.width=8", "task.final_samples=12", "task.fid_reference=16")
    run = train("cifar10-jsd-3", *scored)
    own = package.load(run).metrics
    assert call(figures, "sample", run, "--count", 12, "--format", "png", "--out", "drawn")[0] == 0
    words = ("--images", "drawn", "--against", "cifar10:train", "--reference", 16, "--name", "theirs")
    assert call(evaluate, *words)[0] == 0
    code, _, told = call(evaluate, *words[:4], "--reference", 0)
    assert (code, "0 reference images" in told) == (2, True), told
    (row,) = (row for row in package.runs("outputs") if row.experiment == "theirs")
    for name in ("test/fid", "test/kid", "test/precision", "test/recall"):
        assert row.metrics[name] == pytest.approx(own[name], rel=1e-9), name
    # Against another split it is another result, and both stand in the report.
    assert call(evaluate, "--images", "drawn", "--against", "cifar10:test", "--name", "theirs")[0] == 0
    assert call(report, "outputs", "--out", "report")[0] == 0
    said = Path("report/results.md").read_text()
    assert "theirs<br>dataset=cifar10, split=train, reference=16" in said
    assert "theirs<br>dataset=cifar10, split=test" in said
    assert "## Left out" not in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "is not there"),
        (lambda: Path("images").mkdir(), "holds 0 images"),
        (lambda: Path("images").write_text("no archive"), "cannot be read"),
        (lambda: np.savez("images", images=np.zeros((3, 4, 4, 3))), "no `images` of bytes"),
    ],
)
def test_images_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, make: Callable[[], object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make()
    path = next(Path().glob("images*"), "images")
    code, _, told = call(evaluate, "--images", path, "--against", "mnist5k:train")
    assert (code, said in told) == (2, True), told
    assert not Path("outputs").exists()


# --- packed models -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_instruments")
@pytest.mark.parametrize("experiment", ["mnist5k-gan", "pixelvae-iaf-mnist5k", "realnvp-mnist5k"])
def test_a_packed_model_is_the_run(train: Train, call: Any, experiment: str) -> None:
    run = train(
        experiment, "name=mine", "optimizer@critic_optimizer=adam" if "gan" in experiment else "optimizer=sgd"
    )
    assert call(pack, run, "--out", "packed/model")[0] == 0
    mine, theirs = package.load(run), package.load("packed/model")
    assert torch.equal(mine.sample(4), theirs.sample(4))
    assert theirs.metrics == mine.metrics
    assert theirs.status == "done"
    card = Path("packed/model/README.md").read_text()
    assert str(Path.cwd()) not in Path("packed/model/config.yaml").read_text() + card
    (command,) = re.findall(r"genbench (experiment=[^|`]*[^|` ])", card)
    again = configuration(*shlex.split(command))
    assert identity.settings(again) == mine.summary["settings"]
    from safetensors.torch import load_file

    kinds = {name.partition("/")[0] for name in load_file("packed/model/model.safetensors")}
    assert kinds == ({"model", "averaged"} if experiment == "mnist5k-gan" else {"model"})
    assert call(figures, "sample", "packed/model", "--count", 4, "--format", "pt", "--out", "drawn")[0] == 0


def test_a_folder_that_cannot_be_packed_is_told(train: Train, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("divergence-w1")
    Path("there").mkdir()
    Path("there/file").touch()
    assert call(pack, run, "--out", "there")[0] == 2
    assert call(pack, "nowhere", "--out", "new")[0] == 2
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert call(pack, run, "--out", "new")[0] == 1
    (run / "status.json").write_text('{"status": "diverged", "step": 2}')
    code, _, told = call(pack, run, "--out", "new")
    assert (code, "is diverged, not done" in told) == (2, True)
    assert sorted(path.name for path in Path().iterdir()) == ["outputs", "there"]
    assert call(pack, run.parent, "--out", "new")[0] == 2


def test_an_empty_folder_may_be_filled_from_inside(
    train: Train, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("divergence-w1").absolute()
    empty = tmp_path / "my-model"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert call(pack, run, "--out", ".")[0] == 0
    assert os.getcwd() == str(empty)
    assert package.load(empty).status == "done"
    assert "my-model" in (empty / "README.md").read_text()


def test_a_damaged_pack_is_told(train: Train, call: Any) -> None:
    assert call(pack, train("divergence-w1"), "--out", "packed")[0] == 0
    Path("packed/model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        package.load("packed")


def test_why_weights_do_not_fit_is_told(train: Train, call: Any) -> None:
    """PyTorch's first line says only that there is an error."""
    from safetensors.torch import load_file, save_file

    assert call(pack, train("divergence-w1"), "--out", "packed")[0] == 0
    weights = load_file("packed/model.safetensors")
    name = max(weights)
    save_file({key: value for key, value in weights.items() if key != name}, "packed/model.safetensors")
    with pytest.raises(ValueError, match=rf"Missing key.*{name.partition('/')[2]}"):
        package.load("packed")
