"""Devices that are not here: PyTorch's answers about them are replaced."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from simulated import DEVICE, simulated_device
from torch import nn

import genbench
from genbench import jobs
from genbench.build import build_task
from genbench.compose import configuration
from genbench.engine import device as devices
from genbench.engine.interrupts import Interrupts
from genbench.engine.trainer import take_steps
from genbench.errors import ConfigError
from genbench.optimizers.adam import adam
from genbench.optimizers.rmsprop import rmsprop
from genbench.optimizers.sgd import sgd

CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[mock.Mock]:
    """PyTorch's CUDA with two devices, as strict as PyTorch's own where it is asked too early or without an index."""
    calls = mock.Mock()
    initialised = False

    def init() -> None:
        nonlocal initialised
        initialised = True
        calls.init(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))

    def indexed(name: str) -> mock.Mock:
        def call(device: torch.device) -> None:
            if not initialised:
                raise RuntimeError(f"{name} before CUDA is initialised")
            if device.index is None:
                raise ValueError("Expected a torch.device with a specified index or an integer, but got:cuda")
            getattr(calls, name)(device)

        return mock.Mock(side_effect=call)

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    replaced = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "init": init,
        "current_device": lambda: 0,
        "set_device": indexed("set_device"),
        "reset_peak_memory_stats": indexed("reset_peak_memory_stats"),
        "get_device_name": lambda device: f"a GPU, number {device.index}",
        "get_device_capability": lambda device: (7, 5) if device.index else (9, 0),
    }
    for name, replacement in replaced.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield calls
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_cuda_device_has_an_index_and_is_the_current_one(cuda: mock.Mock, name: str, index: int) -> None:
    device = devices.resolve(name)
    assert device == torch.device("cuda", index)
    devices.reset_peak_memory(device)
    # In this order; and what deterministic cuBLAS needs was there before anything else.
    assert cuda.mock_calls == [
        mock.call.init(":4096:8"),
        mock.call.set_device(device),
        mock.call.reset_peak_memory_stats(device),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:7", "device 'cuda:7' is not available: there are 2 here"),
        ("cuda:-1", "is not a device"),
        ("mps", "device 'mps' is not available: there is no mps device here"),
        ("cpu:3", "device 'cpu:3' is not available: there is 1 cpu device here"),
        ("meta", "genbench does not train on device 'meta'"),
        ("xpu", "genbench does not train on device 'xpu'"),
        ("toaster", "device 'toaster' is not a device"),
        ("", "is not a device"),
    ],
)
def test_a_device_that_is_not_there(cuda: mock.Mock, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message) + r"[^\n]*\n  \S+ "):
        devices.resolve(name)
    assert not cuda.mock_calls


def test_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve("auto") == devices.resolve("cpu") == devices.resolve("cpu:0") == torch.zeros(1).device
    with pytest.raises(ConfigError, match="there is no cuda device here"):
        devices.resolve("cuda")


def test_a_cuda_device_that_does_not_start(cuda: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA driver initialization failed\nand more")

    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(ConfigError, match="device cuda:0 cannot be used: CUDA driver initialization failed\n"):
        devices.resolve("cuda")


def test_a_run_asks_for_its_device_in_the_right_order(
    cuda: mock.Mock, monkeypatch: pytest.MonkeyPatch, data_root: Path, tmp_path: Path
) -> None:
    """As far as a run gets without a GPU: to the first tensor on it."""

    def here(config: object, device: torch.device, dataset: object) -> None:
        assert device == torch.device("cuda", 1)
        raise ConfigError("so far, so good")

    monkeypatch.setattr("genbench.build.build_task", here)
    config = configuration("experiment=dirac-w1-1", "device=cuda:1", f"output_root={tmp_path}")
    outcome = jobs.do(lambda: config, checked=True)
    assert outcome.headline == "so far, so good"
    assert [call[0] for call in cuda.mock_calls] == ["init", "set_device", "reset_peak_memory_stats"]


# Apple GPUs


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_an_apple_gpu_is_used_only_where_it_is_asked_for(apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checked: list[torch.device] = []
    monkeypatch.setattr(devices, "check_gradients", checked.append)
    assert devices.resolve("auto") == CPU
    assert checked == []
    assert devices.resolve("mps") == torch.device("mps", 0)
    assert checked == [torch.device("mps", 0)]
    with pytest.raises(ConfigError, match="there is 1 mps device here"):
        devices.resolve("mps:1")


def test_an_apple_gpu_has_no_float64() -> None:
    assert devices.float64_device(torch.device("mps", 0)) == CPU
    assert devices.float64_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_right_gradients_pass() -> None:
    devices.check_gradients(CPU)
    with simulated_device(float64=False):
        devices.check_gradients(DEVICE)


@pytest.mark.parametrize(("wrong", "named"), [(0, "the input"), (1, "the weight"), (2, "squared gradient")])
@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_wrong_gradients_are_found_out(
    wrong: int, named: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a device whose convolution has one of them wrong by a thousandth, its values being right."""
    true_grad = torch.autograd.grad
    calls = 0

    def grad(*arguments: object, **options: object) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        found = list(true_grad(*arguments, **options))  # type: ignore[arg-type]
        for i in range(len(found)):
            found[i] = found[i] * factor if calls + i == wrong else found[i]
        calls += len(found)
        return tuple(found)

    monkeypatch.setattr(torch.autograd, "grad", grad)  # the first three gradients are the device's
    with pytest.raises(ConfigError, match=rf"computes wrong gradients: .*{named} is off by"):
        devices.check_gradients(CPU)


# Precision


def test_float32_means_float32(cuda: mock.Mock) -> None:
    """PyTorch lets cuDNN's convolutions round to TF32 by itself."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    devices.resolve("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_tf32_in_a_block() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with devices.tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        with pytest.raises(KeyError), devices.tf32(False):
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
            raise KeyError
        assert torch.backends.cudnn.allow_tf32
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


@pytest.mark.parametrize(("precision", "expected"), [("tf32", True), ("fp32", False), ("bf16", False)])
def test_tf32_is_for_training_steps_alone(precision: str, expected: bool) -> None:
    seen: list[bool] = []
    with devices.tf32(False):
        with Interrupts() as interrupts:
            take_steps(lambda: seen.append(torch.backends.cudnn.allow_tf32), 2, interrupts, precision, CPU)
        assert seen == [expected, expected]
        assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "experiment",
    [
        "vae-mnist5k",
        "pixelcnn-mnist5k",
        "realnvp-mnist5k",
        "flow-arcs-samples-k2",
        "flow-arcs-density-k2",
        "dirac-w1-1",
    ],
)
def test_only_image_gans_compute_in_bf16(experiment: str) -> None:
    with pytest.raises(ConfigError, match="does not compute in bf16"):
        build_task(configuration(f"experiment={experiment}", "trainer.precision=bf16"), CPU)


def test_tf32_where_there_is_none(cuda: mock.Mock) -> None:
    devices.check_precision(torch.device("cuda", 0), "tf32")
    for device in (CPU, torch.device("cuda", 1)):
        devices.check_precision(device, "fp32")
        devices.check_precision(device, "bf16")
        with pytest.raises(ConfigError, match=r"tf32 needs an NVIDIA GPU .*\n.*precision=fp32"):
            devices.check_precision(device, "tf32")


# Randomness


def test_only_the_devices_own_generator_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, no GPU's."""
    seeded = mock.Mock()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded)
    with devices.isolated_rng(3, CPU):
        torch.rand(2)
    assert not seeded.called


def test_measuring_on_a_gpu_leaves_its_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.tensor([5], dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: state)
    calls = mock.Mock()
    monkeypatch.setattr(torch.cuda, "manual_seed", calls.manual_seed)
    monkeypatch.setattr(torch.cuda, "set_rng_state", calls.set_rng_state)
    with devices.isolated_rng(3, torch.device("cuda", 0)):
        calls.measure()
    assert calls.mock_calls == [mock.call.manual_seed(3), mock.call.measure(), mock.call.set_rng_state(state)]


@pytest.mark.parametrize(("saved", "loaded"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda"), ("cuda", "mps")])
def test_generators_of_another_device(saved: str, loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a checkpoint has of this kind of device is put back, and all the rest."""
    state = torch.tensor([5], dtype=torch.uint8)
    put_back: list[torch.Tensor] = []
    for module in (torch.cuda, torch.mps):
        monkeypatch.setattr(module, "get_rng_state", lambda: state)
        # Not `put_back.append` itself: torch._dynamo, imported meanwhile, refuses an object of two names.
        monkeypatch.setattr(module, "set_rng_state", lambda state: put_back.append(state))
    devices.seed_everything(3, deterministic=False)
    kept = devices.rng_state(torch.device(saved))
    expected = torch.rand(3)
    devices.set_rng_state(kept, torch.device(loaded))
    assert torch.equal(torch.rand(3), expected)
    assert put_back == ([state] if saved == loaded else [])


# From one device to another


@pytest.mark.parametrize("build", [adam, rmsprop, sgd])
@pytest.mark.parametrize("layouts", [(torch.channels_last, torch.contiguous_format), (torch.contiguous_format,) * 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_optimizer_goes_on_where_weights_are_laid_out_otherwise(
    build: object, layouts: tuple[torch.memory_format, torch.memory_format], backwards: bool, tmp_path: Path
) -> None:
    """Fused kernels go through memory whatever the strides: a moment of another layout would meet other weights."""
    there, here = reversed(layouts) if backwards else layouts
    options = {"lr": 0.1, "weight_decay": 0.01} | ({} if build is adam else {"momentum": 0.9})
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 5, 5), torch.randn(6, 4, 3, 5, 5)

    def steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for gradient in gradients[first:last]:
            weight.grad = torch.empty_like(weight).copy_(gradient)
            optimizer.step()

    first = nn.Parameter(start.clone(memory_format=there))
    optimizer = build([first], **options)  # type: ignore[operator]
    steps(first, optimizer, 0, 3)
    torch.save({"weight": first.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    steps(first, optimizer, 3, 6)

    state = torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    second = nn.Parameter(torch.zeros_like(start, memory_format=here))
    resumed = build([second], **options)  # type: ignore[operator]
    with torch.no_grad():
        second.copy_(state["weight"])
    resumed.load_state_dict(state["optimizer"])
    steps(second, resumed, 3, 6)
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-6)
    assert all(moment.stride() == second.stride() for moment in resumed.state[second].values() if moment.dim() == 4)


@pytest.mark.parametrize("build", [adam, rmsprop, sgd])
def test_an_optimizer_moves_to_a_device_that_captures_and_back(build: object) -> None:
    """The learning rate is a tensor there and a number here; it falls on as it would have."""
    options = {"lr": 0.5, "milestones": [2, 4], "decay": 0.5}

    def steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
        rates = []
        for _ in range(count):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        return rates

    rates, weights, state = [], torch.zeros(3), None
    for captures, count in ((False, 1), (True, 2), (False, 1), (True, 1)):
        with simulated_device(captures=captures):
            weight = nn.Parameter(weights.to(DEVICE if captures else CPU))
            optimizer = build([weight], **options)  # type: ignore[operator]
            if state is not None:
                optimizer.load_state_dict(state)
            rates += steps(weight, optimizer, count)
            (group,) = optimizer.param_groups
            assert isinstance(group["lr"], torch.Tensor) == captures
            assert group["updates"].device == weight.device
            assert group.get("capturable", captures) == captures
            weights = weight.detach().cpu()
            state = optimizer.state_dict()
            state["state"] = {
                key: {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in row.items()}
                for key, row in state["state"].items()
            }
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]
    alone = nn.Parameter(torch.zeros(3))
    steps(alone, build([alone], **options), 5)  # type: ignore[operator]
    torch.testing.assert_close(weights, alone.detach())


# One home for all questions


def test_nothing_else_asks_what_kind_of_device_it_is() -> None:
    root = Path(genbench.__file__).parent
    asks = re.compile(r"device\.type|\.is_cuda|\.is_mps|\.is_cpu|torch\.(cuda|mps|backends|accelerator)\b")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).as_posix() not in ("engine/device.py", "engine/capture.py", "functional.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if asks.search(line)
    ]
    assert found == []


def test_a_deterministic_run_builds(data_root: Path) -> None:
    task = build_task(configuration("experiment=dirac-w1-1", "deterministic=true", f"data_root={data_root}"), CPU)
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    assert task is not None
