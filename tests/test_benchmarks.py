"""The benchmarks compare like with like, and count their arithmetic right."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import arithmetic, common, flows, gan, gpu, likelihoods, peak, scale, start
from genbench import run
from genbench.bijections.planar import Planar
from genbench.compose import configuration
from genbench.config import Config
from genbench.engine.rundir import RunDirectory
from genbench.engine.trainer import Trainer
from genbench.errors import ConfigError
from genbench.metrics.importance import importance_sampled_log_likelihood
from genbench.models.pixelcnn import PixelCnn
from genbench.models.vae import MlpVae
from genbench.report.reading import read

CPU = torch.device("cpu")
BATCH, WIDTH = 4, 4

# The critic's loss from what a training step of genbench logs.
CRITIC_LOSS = {
    "cifar10-jsd-3": lambda values: math.log(2) - values["train/jsd"] + values["train/penalty"],
    "cifar10-hinge-sn-resnet": lambda values: 2 * (1 - values["train/total_variation"]),
}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config]:
    """The configuration of an experiment, on a few random images."""
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(gan, "NOISE_ROWS", (400, 10))
    options = argparse.Namespace(width=WIDTH, batch=BATCH, precision="fp32")
    return lambda name: gan.experiment(name, options, CPU)


@pytest.mark.parametrize("name", gan.EXPERIMENTS)
def test_both_loops_take_the_same_first_step(tiny: Callable[[str], Config], name: str) -> None:
    config = tiny(name)
    config.task["critic_steps"] = 1
    for optimizer in (config.optimizer, config.critic_optimizer):
        assert optimizer is not None
        optimizer["lr"] = 1e-12  # both players' gradients are compared at the same point
    task, plain = gan.build(config, CPU), gan.PlainGan(gan.build(config, CPU), config)
    for own, other in ((task.generator, plain.generator), (task.critic, plain.critic)):
        torch.testing.assert_close(own.state_dict(), other.state_dict(), rtol=0, atol=0)

    torch.manual_seed(5)  # the same latents
    task.prepare_step()
    values = task.training_step(task.dataset.train[:BATCH])
    torch.manual_seed(5)
    images = gan.Images(task.dataset.train)
    loss = plain.critic_step(torch.stack([images[i] for i in range(BATCH)]))
    compare_gradients(task.critic, plain.critic)
    plain.generator_step(BATCH)
    compare_gradients(task.generator, plain.generator)
    plain.update_average()

    assert loss.item() == pytest.approx(CRITIC_LOSS[name](values).item(), rel=1e-5)
    torch.testing.assert_close(task.average.network.state_dict(), plain.average.state_dict())


def compare_gradients(own: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, parameter), plain in zip(own.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad, plain.grad, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_counted_arithmetic_is_that_of_a_count_by_hand(tiny: Callable[[str], Config]) -> None:
    """DCGAN with R1. A layer's weights, its input's gradient and its output cost the same."""
    config = tiny("cifar10-jsd-3")
    updates, latents = config.task["critic_steps"], config.model["latent_dim"]
    w = WIDTH  # of 4 × 4 kernels at each of a layer's positions, on its coarser side
    critic = [flops(3, w, 16), flops(w, 2 * w, 8), flops(2 * w, 4 * w, 4), flops(4 * w, 1, 1)]
    generator = [flops(latents, 4 * w, 1), flops(4 * w, 2 * w, 4), flops(2 * w, w, 8), flops(w, 3, 16)]
    c, g = sum(critic), sum(generator)
    # Forward, and backward to weights and features; what goes in needs no gradient.
    trained_critic, trained_generator = 3 * c - critic[0], 3 * g - generator[0]
    # ∇ₓC; then its own backward pass, to the weights and to the gradients of the features.
    penalty = c + 2 * c
    # In the plain loop alone: a pass for the penalty, and back through it the zeros of LeakyReLU's second derivative.
    wasted = 3 * c

    # The generator's gradients go through the critic: in the plain loop, to its weights too.
    plain = updates * (g + 2 * trained_critic + penalty + wasted) + trained_generator + 3 * c
    own = updates * (g + 2 * trained_critic + penalty) + trained_generator + 2 * c
    task = gan.build(config, CPU)
    assert gan.plain_flops(gan.PlainGan(task, config), task, BATCH) == pytest.approx(plain, rel=0.02)
    assert gan.genbench_flops(task, BATCH) == pytest.approx(own, rel=0.02)


def flops(inputs: int, outputs: int, side: int) -> int:
    """Multiplications and additions of a batch's side × side positions."""
    return 2 * BATCH * 4 * 4 * inputs * outputs * side**2


def test_tables_of_both_experiments(
    tiny: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gan, "WARM_UP", 5)
    monkeypatch.setattr(arithmetic, "SIDE", {"cpu": 32, "cuda": 32})
    gan.main(["--width", "2", "--batch", "4", "--rounds", "2", "--steps", "1"])
    printed = capsys.readouterr().out
    for name in gan.EXPERIMENTS:
        assert f"{name} on random images, width 2, batch 4, fp32" in printed
    for loop in (gan.PLAIN, gan.EAGER):
        assert printed.count(f"│ {loop} ") == 2
    assert printed.count("GFLOP/s in float32") == 2
    rows = printed.count(f"│ {gan.CAPTURED} ")
    assert rows == 2 if torch.cuda.is_available() else f"Left out: {gan.CAPTURED}" in printed


def test_the_pending_page_names_runs_that_there_are(tmp_path: Path) -> None:
    """In its order; a command that nobody could run would be found out."""
    jobs = gpu.jobs_of(gpu.PENDING.read_text(encoding="utf-8"), tmp_path)
    names = [job.name for job in jobs]
    assert names[:2] == ["cifar10-jsd-1", "cifar10-jsd-2"]
    assert "realnvp-mnist-conv model.dequantization=variational" in names
    assert len({job.directory for job in jobs}) == len(jobs)
    with pytest.raises(ConfigError, match="unknown"):
        gpu.jobs_of("`genbench experiment=cifar10-jsd-1 task.fid_smaples=3`", tmp_path)


RUN = """
import json, pathlib, signal, sys, time
directory = pathlib.Path(sys.argv[-1].removeprefix("output_root=")) / sys.argv[1] / "run"
(directory / "figures").mkdir(parents=True)
(directory / "figures" / "samples.png").write_text("a picture")
(directory / "checkpoint.pt").write_text("large")

def stop(*_):
    (directory / "status.json").write_text(json.dumps({"status": "interrupted", "step": 7}))
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
time.sleep(float(sys.argv[2]))
(directory / "status.json").write_text(json.dumps({"status": "done", "step": 9}))
sys.exit(3 if sys.argv[1] == "diverging" else 0)
"""


def test_experiments_share_the_time_and_are_stopped_when_it_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "SAVING", 10)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    names = {"short": "0", "diverging": "0", "long": "60", "longer": "60", "late": "0"}
    jobs = [gpu.Job((name, length), tmp_path / "runs" / name / "run") for name, length in names.items()]
    out = tmp_path / "out"
    out.mkdir()
    console = Console(record=True, width=100)
    plan = gpu.Plan((10 + 3) / 60, out, console)  # three seconds, and ten for saving
    plan.runs(jobs, 2, tmp_path / "runs", [sys.executable, str(script)])
    assert [job.outcome for job in jobs] == ["done", "diverged", "interrupted", "interrupted", "not started"]
    assert plan.seconds > 5  # nobody waited for the end of what could be stopped
    gpu.collect(jobs, out)
    gpu.report(plan, jobs)
    printed = console.export_text()
    assert "1 of 5 experiments are done, 4 are left" in printed
    assert "interrupted, at step 7" in printed
    kept = {str(path.relative_to(out)) for path in (out / "runs").rglob("*") if path.is_file()}
    assert {"runs/long/run/status.json", "runs/short/run/figures/samples.png"} <= kept
    assert not any("checkpoint" in path for path in kept)
    assert (out / "short_0.log").read_text() == "started\n"


def test_a_tool_that_fails_or_takes_too_long_is_named(tmp_path: Path) -> None:
    plan = gpu.Plan(1.0, tmp_path, Console(quiet=True))
    plan.tool("fine", ["-c", "print('well')"])
    assert plan.failed == []
    assert (tmp_path / "fine.txt").read_text() == "well\n"
    plan.tool("broken", ["-c", "raise SystemExit(5)"])
    plan.deadline = time.monotonic() + 1
    plan.tool("slow", ["-c", "import time; time.sleep(60)"])
    assert [line.split(":")[0] for line in plan.failed] == ["broken ended with 5", "slow ended with -15"]


def test_both_planar_maps_are_the_same_map() -> None:
    plain, own = flows.PlainPlanar(), Planar(2)
    own.load_state_dict({"w": plain.w, "u": plain.u, "b": plain.b[0]})
    x = torch.randn(7, 2)
    torch.testing.assert_close(plain(x), own(x), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("tiny_planes")
def test_the_table_of_flows(capsys: pytest.CaptureFixture[str]) -> None:
    flows.main(["--rounds", "2", "--steps", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "48 models in the ensemble" in printed
    assert printed.count(f"│ {flows.PLAIN} ") == printed.count(f"│ {flows.SUITE} ") == 1


def test_the_plain_pixelcnn_is_the_same_network() -> None:
    own = PixelCnn((1, 9, 9), channels=3, blocks=2)
    for parameter in own.parameters():  # biases, too, that would start at 0
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    x = torch.bernoulli(torch.full((4, 1, 9, 9), 0.5))
    plain = likelihoods.PlainPixelCnn(own)
    torch.testing.assert_close(plain(x), own(x), rtol=1e-5, atol=1e-6)


def test_the_plain_sampler_draws_the_same_images() -> None:
    model = PixelCnn((1, 5, 4), channels=3, blocks=1)
    torch.nn.init.normal_(model.last.weight)
    uniforms = torch.rand(6, 1, 5, 4)
    passes = likelihoods.naive_passes(model, uniforms)
    for _ in range(5 * 4):
        next(passes)
    assert passes.gi_frame is not None
    torch.testing.assert_close(passes.gi_frame.f_locals["images"], model.sample(uniforms=uniforms), rtol=0, atol=0)


def test_both_estimates_are_of_the_same_likelihood() -> None:
    """Of a posterior near the prior, where a few thousand samples are many."""
    torch.manual_seed(0)
    model = MlpVae((1, 6, 6), latent_dim=2, width=8, depth=1)
    stored = (torch.rand(16, 1, 6, 6) < 0.5).to(torch.uint8)
    with torch.no_grad():
        plain = likelihoods.log_likelihood_by_particle(model, stored.float(), 5000)
    own = importance_sampled_log_likelihood(model, stored, lambda images: images.float(), 5000).value
    torch.testing.assert_close(plain.double(), own, rtol=0, atol=0.15)
    assert own.std() > 0.2  # images differ by more than that


def test_the_table_of_likelihoods(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(likelihoods, "PARTICLES", 5)
    monkeypatch.setattr(likelihoods, "PASSES", 1)
    likelihoods.main(["--rounds", "2", "--steps", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "log p(x), K = 5, 64 images" in printed
    assert "49 samples" in printed and "training, batch 100" in printed


def test_the_table_of_shares_of_the_peak(
    tiny: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arithmetic, "SIDE", {"cpu": 32, "cuda": 32})
    peak.main(["vae-mnist5k-conv", "--rounds", "2", "--steps", "1", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "│ vae-mnist5k-conv " in printed
    assert "channels_last" in printed
    assert "Inception" not in printed  # its weights are not there


@pytest.mark.parametrize("name", peak.EXPERIMENTS)
def test_where_there_are_no_data_others_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On digits that need none instead of binarized MNIST; other networks cannot take them."""
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    own, found = configuration(f"experiment={name}"), common.experiment(name)
    assert found.dataset["name"] == own.dataset["name"].replace("binmnist", "mnist5k")


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of it, without pictures."""
    root = tmp_path_factory.mktemp("game")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_draw", lambda self, stage: None)
        patch.setattr(run, "draw_curves", lambda task, logbook: None)
        return run.run(configuration(*scale.GAME, "trainer.max_steps=2", f"output_root={root}")).directory


def test_a_repeated_run_is_a_whole_run_of_its_own(game: Path, tmp_path: Path) -> None:
    """As a report and a sweep see it: a sweep would not train it again."""
    found = [scale.repeat(game, job, tmp_path) for job in islice(scale.jobs("settings"), 11)]
    assert len(set(found)) == 11
    seen = [read(path) for path in found]
    assert [(each.seed, each.words) for each in seen[:2]] == [(2, "max_steps=20"), (3, "max_steps=20")]
    assert (seen[10].seed, seen[10].words) == (2, "lr=0.1001, max_steps=20")
    for job, path in zip(scale.jobs("settings"), found, strict=False):
        assert run.run_directory(configuration(*job, f"output_root={tmp_path}")) == path
        assert RunDirectory(path).status == "done"


def test_the_cost_of_a_process_is_its_own(tmp_path: Path) -> None:
    used = scale.cost(["-c", "x = bytearray(200 * 2**20); print(len(x))"], tmp_path)
    assert (used.printed, 200 <= used.memory < 300) == (f"{200 * 2**20}\n", True)
    assert used.cpu_seconds > 0
    assert scale.cost(["-c", ""], tmp_path).memory < 100  # not that of this process
    with pytest.raises(subprocess.CalledProcessError):
        scale.cost(["-c", "raise SystemExit(3)"], tmp_path)


def test_files_of_a_run_are_counted(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"67")
    assert scale.size(tmp_path) == scale.Size(files=2, inodes=4, bytes=7)


def test_what_is_timed_as_a_start_ends_at_the_first_step(tmp_path: Path) -> None:
    words = ["experiment=dirac-jsd-1", f"output_root={tmp_path}"]
    subprocess.run([sys.executable, "-c", start.FIRST_STEP, *words], check=True, stdout=subprocess.DEVNULL)
    (directory,) = (tmp_path / "dirac-jsd-1").iterdir()
    assert RunDirectory(directory).status == "running"  # a process that ends its run writes another
