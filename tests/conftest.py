from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.io
import torch
import torch._dynamo  # torch.compile, whose import is seconds long, is part of every optimizer
import yaml
from hydra._internal.hydra import Hydra
from matplotlib.figure import Figure
from PIL import Image

from genbench import summary
from genbench.data import binmnist, cifar10, loading, mnist, mnist5k, plane, svhn
from genbench.figures import grids, style
from genbench.metrics import classifier, inception
from genbench.metrics.features import Features
from genbench.tasks import autoregressive, density, energy
from genbench.tasks.gan import image_gan, latent_figures
from genbench.tasks.vae import draw, judge, use
from genbench.train import main

# Many independent tests each; any other file's tests share what they set up, so one process runs them all.
SPREAD = ("test_experiments", "test_image_gan", "test_adversarial", "test_command_line", "test_simulated_device")

# Files and folders of tests that look at pictures, or that are there to draw all of them; for the others a picture is
# there, and blank.
DRAWN = {
    *("figures", "report", "test_autoregressive", "test_divergence", "test_experiments", "test_figures"),
    *("test_flows", "test_image_flow", "test_image_gan", "test_plugins", "test_simulated_device"),
    *("test_tensorboard", "test_using", "test_variational"),
}

SAVEFIG = Figure.savefig


def _one_pixel() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1), 255).save(buffer, "PNG")
    return buffer.getvalue()


BLANK = _one_pixel()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="take over the numbers of today's short runs")


def pytest_configure() -> None:
    # Tests send these, which a job in the background or under nohup ignores.
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        own = item.get_closest_marker("xdist_group")
        if own is None and (item.path.stem not in SPREAD or getattr(item, "cls", None)):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    """A command that was interrupted ignores further SIGINTs: it is about to end, and the tests are not."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(autouse=True, scope="session")
def _nothing_outlives_a_power_cut() -> Iterator[None]:
    """Runs wait for the disk dozens of times, milliseconds each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _quick_yaml() -> Iterator[None]:
    """Hydra reads two dozen files for every configuration, with a parser in Python; libyaml's reads them alike."""
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(yaml, "CSafeLoader"):
            patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_composition_less() -> Iterator[None]:
    """Hydra composes everything, a fifth of a second long, only to look for `hydra.mode`, before it does so again."""
    find = Hydra.get_mode

    def mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        return find(hydra, config_name, overrides) if any("hydra" in word for word in overrides) else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", mode)
        yield


@pytest.fixture(autouse=True, scope="module")
def _blank_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """A third of a short run's time would be spent on pictures that nobody looks at."""
    if request.path.stem in DRAWN or request.path.parent.name in DRAWN:
        yield
        return

    def blank(figure: Figure, file: Any, **options: Any) -> None:
        if options.get("format") == "png" and hasattr(file, "write"):
            file.write(BLANK)
        else:
            SAVEFIG(figure, file, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures with all that is in them, of few pixels."""
    for module in (style, grids):
        monkeypatch.setattr(module, "DPI", 30)


@pytest.fixture(autouse=True, scope="session")
def _digits_read_once() -> Iterator[None]:
    """From a text file, a quarter of a second long, for every run."""
    read = functools.cache(mnist5k._read)

    def copied(source: Path, binarized: bool) -> dict[str, Any]:
        return {name: array.copy() for name, array in read(source, binarized).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist5k, "_read", copied)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One for each of the processes that share the tests."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_data_of_another_test() -> None:
    """Tests change what data sets consist of."""
    loading.forget()


@pytest.fixture(autouse=True, scope="session")
def _few_samples() -> Iterator[None]:
    """Bounds of a VAE are means over thousands of samples; those of the tests may be as noisy as they like."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "PAIRS", {"valid": 20, "test": 40})
        patch.setattr(draw, "PANEL_IMAGES", 20)
        patch.setattr(draw, "PANEL_SAMPLES", 10)
        patch.setattr(summary, "SAMPLED", 4)
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything is built in float64, from the same random numbers."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for what data sets cache during the tests."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def genbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> Callable[..., int]:
    """`genbench(*words)` runs the command line in an empty directory and returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENBENCH_DATA", str(data_root))

    def call(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["genbench"])
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        return int(stop.value.code or 0)

    return call


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 5000, the first 200 for training, and 100 for each of the other splits."""
    read = mnist5k._read

    def cut(source: Path, binarized: bool) -> dict[str, Any]:
        arrays = read(source, binarized)
        return {name: array[: 200 if name.startswith("train") else 100] for name, array in arrays.items()}

    monkeypatch.setattr(mnist5k, "_read", cut)


@pytest.fixture
def tiny_binmnist(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty random binary images in each of the three `.amat` files that the data set expects."""
    files = {}
    for split, file in binmnist.FILES.items():
        rows = np.random.RandomState(len(split)).randint(0, 2, (20, 784))
        text = "".join(" ".join(map(str, row)) + " \n" for row in rows)
        path = data_root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # written anew, it would only invalidate the cache
            path.write_text(text)
        files[split] = replace(file, md5=hashlib.md5(text.encode()).hexdigest())
    monkeypatch.setattr(binmnist, "FILES", files)


@pytest.fixture
def tiny_images(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in the files of CIFAR-10 (100 + 20), SVHN (100 + 20) and MNIST (80 + 20 + 20)."""
    random = np.random.RandomState(0)
    for module in (cifar10, svhn, mnist):
        monkeypatch.setattr(module, "ensure", lambda root, file: root / file.path)
    monkeypatch.setattr(mnist, "VALIDATION", 20)

    def target(path: str) -> Path:
        (data_root / path).parent.mkdir(parents=True, exist_ok=True)
        return data_root / path

    for file in cifar10.VERSIONS[0].files:
        rows = random.randint(0, 256, (20, 1 + cifar10.PIXELS), dtype=np.uint8)
        rows[:, 0] %= 10
        target(file.path).write_bytes(rows.tobytes())
    for split, count in (("train", 100), ("test", 20)):
        pixels = random.randint(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = random.randint(1, 11, (count, 1), dtype=np.uint8)
        scipy.io.savemat(target(svhn.FILES[split].path), {"X": pixels, "y": labels})
    for name in mnist.MNIST.md5:
        count = 100 if name.startswith("train") else 20
        if "images" in name:
            header, content = (2051, count, 28, 28), random.randint(0, 256, count * 28 * 28, dtype=np.uint8)
        else:
            header, content = (2049, count), np.arange(count, dtype=np.uint8) % 10
        target(f"MNIST/raw/{name}").write_bytes(struct.pack(f">{len(header)}I", *header) + content.tobytes())


@pytest.fixture
def tiny_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few points in the plane, and a coarse grid for the mass of a density."""
    monkeypatch.setattr(plane, "SPLITS", {"train": 2000, "valid": 200, "test": 400})
    for task in (density.Density, energy.Energy):
        monkeypatch.setattr(task, "mass_side", 100)


@pytest.fixture
def tiny_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random projection in Inception's place, and a classifier that hardly trains and sees few images."""

    class Projection:
        weights_id = layer = "random"
        protocol: ClassVar = {"inception": "random"}

        def __init__(self, weights: Path | None, device: torch.device) -> None:
            self.device = device
            generator = torch.Generator().manual_seed(0)
            self.pool, self.logits = (torch.randn(3 * 32 * 32, n, generator=generator).to(device) for n in (8, 5))
            self.logits /= 20  # else the class of every image is as good as certain

        def features(self, batches: Iterable[torch.Tensor]) -> Features:
            pixels = torch.cat([batch.to(self.device).float() / 255 for batch in batches]).flatten(1)
            return Features(pixels @ self.pool, pixels @ self.logits)

    monkeypatch.setattr(inception, "Inception", Projection)
    monkeypatch.setattr(classifier, "IMAGES_SEEN", 200)
    monkeypatch.setattr(latent_figures, "WALK_CANDIDATES", 10)
    for module in (autoregressive, image_gan, use):
        monkeypatch.setattr(module, "CLASSIFIED", 20)


@pytest.fixture
def fresh_tracer() -> Iterator[None]:
    """torch.compile with the random numbers of eager mode, no graphs of other tests, and none left for them."""
    import torch._dynamo
    from torch._inductor import config

    if not _traces_gradients():
        pytest.skip("this PyTorch cannot compile the gradients of a critic")
    # Assigned, not monkeypatched: what monkeypatch puts back into this module is gone for good.
    config.fallback_random = True
    torch._dynamo.reset()
    yield
    config.fallback_random = False
    torch._dynamo.reset()


@functools.cache
def _traces_gradients() -> bool:
    """Versions differ in what torch.compile traces."""

    def slope(x: torch.Tensor) -> torch.Tensor:
        points = x.detach().requires_grad_()
        return torch.autograd.grad(points.square().sum(), points)[0]

    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return False
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        try:
            torch.compile(slope, fullgraph=True, backend="eager")(torch.ones(1))
        except torch._dynamo.exc.Unsupported:
            return False
    return True


@pytest.fixture
def fresh_compiler(fresh_tracer: None) -> Iterator[None]:
    """As `fresh_tracer`, with a compiler for what was traced."""
    from torch._inductor import config

    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    with config.patch(compile_threads=1):  # no worker processes for a handful of kernels
        yield
