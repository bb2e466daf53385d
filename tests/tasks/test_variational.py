from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from genbench.build import build_task
from genbench.commands import figures
from genbench.compose import configuration
from genbench.engine.batches import Batches
from genbench.engine.device import isolated_rng
from genbench.metrics.annealed import annealed_log_likelihood
from genbench.metrics.importance import Bound
from genbench.models import posterior
from genbench.models.vae import ConvVae, MlpVae
from genbench.tasks.vae import draw, judge
from genbench.tasks.vae.draw import Variational

TINY = (
    *(f"model.{network}_{size}=2" for network in ("encoder", "decoder") for size in ("channels", "blocks")),
    "model.pixelcnn_blocks=1",
)


def make_task(data_root: Path, *words: str) -> Variational:
    return build_task(configuration(*words, f"data_root={data_root}", "device=cpu"), torch.device("cpu"))


def test_logit_offset_makes_an_untrained_decoder_say_black() -> None:
    mlp = MlpVae((1, 28, 28), latent_dim=3, width=10, logit_offset=-5.0)
    assert mlp.decode(torch.zeros(1, 3)).mean().item() == pytest.approx(-5, abs=0.2)
    conv = ConvVae((1, 28, 28), decoder_channels=4, decoder_blocks=2, logit_offset=-5.0)
    assert conv.decode(torch.zeros(1, 49)).mean().item() == pytest.approx(-5, abs=0.2)


def step(task: Variational, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    task.prepare_step()
    return task.training_step(batch)


def test_compiled_and_eager_training_agree(data_root: Path, fresh_compiler: None) -> None:
    """With the same noise, the same losses; the last, smaller batch included."""
    losses = []
    for compiled in ("false", "true"):
        # As few kernels as there can be: the C++ compiler takes seconds for each.
        words = ("experiment=vae-mnist5k", f"task.compile={compiled}", "trainer.batch_size=300", "model.depth=1")
        task = make_task(data_root, *words)
        batches = Batches(task.training_data, 300, seed=0)  # 13 full batches and one of 100
        losses.append(torch.stack([step(task, *batches.next())["train/elbo"] for _ in range(20)]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.posterior=planar",), "loss.kl=mc"),
        (("model.posterior=normall",), "one of normal, planar, iaf"),
        (("model.likelihood=poisson",), "one of bernoulli, gaussian"),
        (("model.likelihood=gaussian",), "model.likelihood=bernoulli"),
        (("dataset.binarized=false",), "model.likelihood=gaussian"),
        (("loss.samples=0",), "≥ 1"),
        (("loss.free_bits=-0.1",), "≥ 0"),
        (("task.importance_samples=0",), "≥ 1"),
        (("task.importance_images=1",), "≥ 2"),  # one image has no standard error
        (("task.annealed_images=0",), "≥ 2"),
        (("task.annealed_images=1",), "≥ 2"),
        (("task.annealing_steps=1",), "≥ 2"),  # importance sampling
        (("task.annealing_chains=1",), "≥ 2"),  # one chain has no error by sampling
        (("task.annealed_images=30", "task.importance_images=20"), "task.importance_images=null"),
        (("loss.samples=5",), "loss.kl=mc"),
        (("loss.samples=5", "loss.kl=mc", "loss.free_bits=0.1"), "loss.samples=1"),
        (("loss.samples=5", "loss.kl=mc", "task.compile=true"), "task.compile=false"),
        (("task.pixelcnn_from_step=5",), "model.pixelcnn_channels"),
    ],
)
def test_bad_input(
    genbench: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert genbench("experiment=vae-mnist5k", "device=cpu", *words) == 2
    assert message in capsys.readouterr().err
    assert not list(Path("outputs").glob("*/*/metrics.jsonl"))


@pytest.mark.usefixtures("few_digits")
def test_elbo_is_reconstruction_less_kl_and_units_are_counted(
    genbench: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "PAIRS", {"valid": 280, "test": 520})
    words = ("experiment=vae-mnist5k-planar", "trainer.max_steps=3", "task.importance_images=7", "device=cpu")
    assert genbench(*words, "task.importance_samples=3") == 0
    (path,) = Path("outputs").glob("vae-mnist5k-planar/*")
    summary = json.loads((path / "summary.json").read_text())
    final = {name: entry["final"]["value"] for name, entry in summary["metrics"].items()}
    for split in ("valid", "test"):
        assert final[f"{split}/elbo"] == pytest.approx(final[f"{split}/reconstruction"] - final[f"{split}/kl"])
        assert 0 <= final[f"{split}/active_units"] <= 20
    nats = final["test/bits_per_dim"] * 784 * math.log(2)
    assert nats == pytest.approx(-final["test/log_likelihood"])
    likelihood = summary["metrics"]["test/log_likelihood"]
    assert likelihood["standard_error"] > 0
    expected = {"dataset": "mnist5k", "importance_images": "7", "importance_samples": "3"}
    assert likelihood["protocol"].items() >= expected.items()
    assert "importance_images" not in summary["metrics"]["test/elbo"]["protocol"]  # of all test images
    for name, pairs in (("valid/elbo", 3), ("valid/kl", 3), ("test/elbo", 6), ("test/reconstruction", 6)):
        entry = summary["metrics"][name]
        assert entry["protocol"]["posterior_samples"] == f"{pairs} antithetic pairs"
        assert 0 < entry["monte_carlo_error"] < entry["standard_error"]
    assert summary["metrics"]["test/elbo"]["greatest"] == 0.0
    assert {"collapse-end.png", "latents-end.png"} <= {picture.name for picture in (path / "figures").iterdir()}


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("experiment", ["vae-mnist5k", "vae-mnist5k-planar"])
def test_the_parts_of_the_bound_are_those_of_single_samples(data_root: Path, experiment: str) -> None:
    task = make_task(data_root, f"experiment={experiment}", "model.width=30")
    for _ in range(20):
        step(task, task.dataset.train[:50])
    found, calls = task.evaluate("valid"), 200
    x = task.dataset.to_float(task.dataset.valid)
    with torch.no_grad():
        terms = [task.elbo_terms(x) for _ in range(calls)]
    for name, part in (("reconstruction", "log_likelihood"), ("kl", "kl")):
        measured = found[f"valid/{name}"]
        means = torch.stack([getattr(each, part).mean() for each in terms])
        error = math.hypot(means.std().item() / math.sqrt(calls), measured.monte_carlo_error or 0.0)
        assert abs(measured.value - means.mean().item()) < 4 * error + 1e-4 * abs(measured.value)
        assert measured.value != 0


def test_the_objective_is_logged_apart_from_the_bound(data_root: Path) -> None:
    words = ("experiment=vae-mnist5k", "loss.free_bits=3", "loss.beta=0.5", "loss.kl_anneal_steps=2")
    task = make_task(data_root, *words)
    batch = task.dataset.train[:50]
    for weight in (0.0, 0.25, 0.5, 0.5):
        values = step(task, batch)
        log_likelihood = values["train/elbo"] + values["train/kl"]
        # No latent has 3 nats this early: all twenty are at the floor.
        torch.testing.assert_close(values["train/objective"], log_likelihood - weight * 60, rtol=1e-5, atol=1e-3)


MLP = ("experiment=iwae-mnist5k-k50", "model.width=8", "model.latent_dim=3")
PIXELVAE = ("experiment=pixelvae-mnist5k", "task.pixelcnn_from_step=0", "loss.kl=mc", *TINY)


def in_float64(data_root: Path, *words: str) -> tuple[Variational, torch.Tensor]:
    """A small VAE whose posteriors are not the prior any more, and six images [6, 1, 28, 28]."""
    task = make_task(data_root, *words)
    task.prepare_step()
    task.model.double()
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter *= 2
    return task, task.dataset.to_float(task.dataset.train[:6]).double()


@pytest.mark.parametrize("experiment", [MLP, PIXELVAE], ids=["MLP", "PixelVAE"])
def test_a_step_with_several_samples_follows_the_doubly_reparameterised_gradient(
    data_root: Path, experiment: tuple[str, ...]
) -> None:
    """Tucker et al. 2019, eq. 8: Σ w̄_k ∂log w_k/∂θ for the decoder, Σ w̄_k² ∂log w_k/∂z_k ∂z_k/∂φ for the encoder."""
    count = 5
    task, x = in_float64(data_root, *experiment, f"loss.samples={count}")
    latents = task.model.latent_dim
    parameters = list(task.model.parameters())
    torch.manual_seed(3)
    values = task._gradients(x, task._kl_weight)
    torch.manual_seed(3)
    direction, found = torch.zeros((), dtype=torch.float64), []
    for image, noise in zip(x, torch.randn(len(x), count, latents, dtype=torch.float64), strict=True):
        code = task.model.encode(image[None])
        mu, sigma = code.mu, (0.5 * code.logvar).exp()
        z = mu + sigma * noise
        here = z.detach().requires_grad_()
        logits, from_pixels = task.model.decode(here), task.model.from_pixels(image[None])
        logits = logits if from_pixels is None else logits + from_pixels
        log_p = Bernoulli(logits=logits).log_prob(image).sum((1, 2, 3))
        kl = (Normal(mu.detach(), sigma.detach()).log_prob(here) - Normal(0.0, 1.0).log_prob(here)).sum(1)
        log_weights = log_p - kl
        (slope,) = torch.autograd.grad(log_weights.sum(), here, retain_graph=True)
        share = log_weights.detach().softmax(0)
        direction = direction + share @ log_weights + share.square() @ (slope * z).sum(1)
        bound = log_weights.logsumexp(0) - math.log(count)
        found.append(torch.stack([log_weights.mean(), kl.mean(), bound]).detach())
    expected = torch.autograd.grad(-direction / len(x), parameters)
    torch.testing.assert_close([each.grad for each in parameters], list(expected), rtol=1e-8, atol=1e-10)
    names = ("train/elbo", "train/kl", "train/objective")
    means = dict(zip(names, torch.stack(found).mean(0), strict=True))
    torch.testing.assert_close(values, means, rtol=1e-10, atol=1e-10)


def test_the_kl_term_is_the_closed_form_or_varies_around_it(data_root: Path) -> None:
    """Of a normal posterior, which has both."""
    calls = 400
    found = []
    for kl in ("analytic", "mc"):
        task, x = in_float64(data_root, *MLP, "loss.samples=1", f"loss.kl={kl}")
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(torch.stack([task.elbo_terms(x).kl for _ in range(calls)]))
    analytic, sampled = found
    code = task.model.encode(x)
    q = Normal(code.mu.detach(), (0.5 * code.logvar.detach()).exp())
    truth = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(analytic, truth.expand(calls, -1), rtol=1e-12, atol=1e-12)
    error = sampled.std(0) / math.sqrt(calls)
    assert (sampled.diff(dim=0) != 0).all()
    assert ((sampled.mean(0) - truth).abs() < 4 * error).all()
    assert (truth > 10 * error).all()  # far from zero, so agreeing is not for free


def test_the_pixelcnn_joins_in_at_its_step(data_root: Path) -> None:
    """Before, it is not even computed. And a checkpoint knows whether it has joined in."""
    words = ("experiment=pixelvae-mnist5k", "task.pixelcnn_from_step=2", *TINY)
    task = make_task(data_root, *words)
    passes: list[torch.Tensor] = []
    task.model.pixelcnn.register_forward_hook(lambda pixelcnn, inputs, logits: passes.append(logits))
    pixelcnn = [parameter for name, parameter in task.model.named_parameters() if "pixelcnn" in name]
    before = [parameter.clone() for parameter in pixelcnn]
    batch = task.dataset.train[:20]
    for _ in range(2):
        step(task, batch)
        assert all(torch.equal(old, new) for old, new in zip(before, pixelcnn, strict=True))
        assert task.model.pixelcnn_weight == 0
    assert not passes
    resumed = make_task(data_root, *words)
    resumed.load_state_dict(task.state_dict())
    for either in (task, resumed):
        step(either, batch)
        assert either.model.pixelcnn_weight == 1
    assert not all(torch.equal(old, new) for old, new in zip(before, pixelcnn, strict=True))


@pytest.mark.parametrize("parent", ["joined", "not yet"])
def test_the_pixelcnn_joins_in_at_its_step_whatever_weights_a_run_begins_with(data_root: Path, parent: str) -> None:
    words = ("experiment=pixelvae-mnist5k", *TINY)
    other = make_task(data_root, *words, "task.pixelcnn_from_step=9")
    other.model.switch_pixelcnn(parent == "joined")
    task = make_task(data_root, *words, "task.pixelcnn_from_step=2")
    task.load_weights(other.weights())
    assert [task.prepare_step() for _ in range(2)] == [False, False]
    assert task.model.pixelcnn_weight == 0
    assert task.prepare_step()
    assert task.model.pixelcnn_weight == 1


def test_a_collapse_is_noted(data_root: Path) -> None:
    task = make_task(data_root, "experiment=vae-mnist5k")
    (note,) = task.notes({"test/kl": 0.2, "test/active_units": 3})
    assert "collapse" in note and "0.2 nats" in note and "3 of 20 latents" in note
    assert task.notes({"test/kl": 1.2, "test/active_units": 3}) == []


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("experiment", ["vae-mnist5k", "pixelvae-mnist5k"])
def test_new_samples(genbench: Callable[..., int], experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the prior: the same with the same seed, others with another one, and they fill the picture."""
    small = (*TINY, "task.pixelcnn_from_step=1") if experiment.startswith("pixel") else ()
    assert genbench(f"experiment={experiment}", "trainer.max_steps=3", "task.importance_samples=3", *small) == 0
    (run,) = Path("outputs").glob(f"{experiment}/*")
    assert (run / "figures" / "traversals-end.png").stat().st_size > 5_000
    assert json.loads((run / "summary.json").read_text())["samples_per_second"] > 0
    capsys.readouterr()
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        figures.main(["sample", str(run), "--count", "5", "--seed", seed, "--out", f"{name}.png"])
    first, same, other = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert first == same != other


def test_samples_of_a_pixelvae_tell_how_far_they_are(data_root: Path) -> None:
    words = ("experiment=pixelvae-mnist5k", "task.pixelcnn_from_step=0", *TINY)
    task, told = make_task(data_root, *words), []
    images = task.sample(2, 1, told.append)
    assert told == [pytest.approx((row + 1) / 28) for row in range(28)] + [1.0]
    assert images.shape == (2, 1, 28, 28) and ((images == 0) | (images == 1)).all()


def test_a_traversal_through_the_mean_is_the_reconstruction(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the latent's own value in place of those of the prior, every image is that of the posterior's mean."""
    task, seen = make_task(data_root, "experiment=vae-mnist5k"), []
    monkeypatch.setattr(draw, "traversals", lambda images, *rest: seen.append((images, *rest)))
    task._traversals(torch.arange(20.0), "")
    images, names, values, _ = seen[0]
    assert names[0].startswith("z20 ") and len(names) == draw.TRAVERSED
    mu = task.model.encode(task.dataset.to_float(task.dataset.valid[:1])).mu
    for row, latent in enumerate(range(19, 11, -1)):
        for column, value in enumerate(values):
            z = mu.clone()
            z[0, latent] = value
            expected = task.model.decode(z).sigmoid().detach()[0]
            torch.testing.assert_close(images[row * len(values) + column], expected)


def test_a_manifold_has_z1_along_its_rows_and_z2_along_its_columns(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, seen = make_task(data_root, "experiment=vae-mnist5k", "model.latent_dim=2"), []
    monkeypatch.setattr(draw, "latent_manifold", lambda images, side, title: seen.append((images, side)))
    monkeypatch.setattr(task, "decode", lambda z, label: z)
    task._manifold("")
    (z, side) = seen[0]
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
    torch.testing.assert_close(z.view(side, side, 2)[..., 0], quantiles.expand(side, side))
    torch.testing.assert_close(z.view(side, side, 2)[..., 1], quantiles[:, None].expand(side, side))


def test_bounds_of_a_picture_are_the_elbo_and_log_p_in_this_order(data_root: Path) -> None:
    task = make_task(data_root, "experiment=vae-mnist5k", "model.width=30")
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter *= 2  # so the posterior is not the prior
    elbo, log_p = task._panel_bounds()
    assert elbo + 1 < log_p < 0


def test_a_density_of_grey_values_is_not_told_in_bits(data_root: Path) -> None:
    words = ("experiment=vae-mnist5k-gaussian-mc", "task.importance_samples=2", "task.importance_images=20", *TINY)
    values = make_task(data_root, *words).evaluate("test")
    assert "test/log_likelihood" in values and "test/bits_per_dim" not in values


@pytest.mark.parametrize(
    ("experiment", "kl", "expected"),
    [
        (
            "vae-mnist5k",
            [[2, 4], [2, 4], [2, 4]],
            {"kl": (3, 1, None), "reconstruction": (-2, 1, math.sqrt((4 + 3) / 3) / 2)},
        ),
        (
            "vae-mnist5k-planar",
            [[1, 0], [2, 0], [6, 3]],
            {"kl": (2, 1, math.sqrt((7 + 3) / 3) / 2), "reconstruction": (-3, 3, math.sqrt((1 + 0) / 3) / 2)},
        ),
    ],
)
def test_errors_of_the_bound_by_hand(
    data_root: Path, experiment: str, kl: list[list[int]], expected: dict[str, tuple[float | None, ...]]
) -> None:
    """Three estimates for each of two images, of variances 4 and 3 around −3 and −7."""
    elbo = [[-1, -6], [-3, -6], [-5, -9]]
    bounds = [Bound(*torch.tensor(rows, dtype=torch.float64)) for rows in zip(elbo, kl, strict=True)]
    measured = make_task(data_root, f"experiment={experiment}", "model.width=8")._measured(bounds)
    for name, errors in (expected | {"elbo": (-5, 2, math.sqrt((4 + 3) / 3) / 2)}).items():
        found = measured[name]
        assert (found.value, found.standard_error, found.monte_carlo_error) == pytest.approx(errors, rel=1e-12)


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("words", [("experiment=vae-mnist5k",), ("experiment=vae-mnist5k-planar",)])
def test_the_bound_has_an_error_that_holds(
    words: tuple[str, ...], data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred evaluations with other noise; each has four samples of an image, so half the error of one."""
    monkeypatch.setattr(posterior, "MEAN_SAMPLES", 1)  # half of an evaluation's time, and no part of the bound
    task, count = make_task(data_root, *words), 100
    batches = Batches(task.training_data, 64, seed=0)
    for _ in range(150):
        step(task, *batches.next())
    found = []
    for task.seed in range(count):
        found.append(task.evaluate("valid")["valid/elbo"])
    spread = torch.tensor([one.value for one in found], dtype=torch.float64).std().item()
    told = math.sqrt(sum((one.monte_carlo_error or 0.0) ** 2 for one in found) / count)
    relative_error = 1 / math.sqrt(2 * (count - 1))  # of a standard deviation of so many
    assert spread == pytest.approx(told, rel=3 * relative_error)
    with torch.no_grad():
        x = task.dataset.to_float(task.dataset.valid)
        singles = torch.stack([task.elbo_terms(x).elbo.mean() for _ in range(count)]).double()
    assert spread < singles.std() / 2 * (1 + 3 * math.sqrt(2) * relative_error)
    mean = sum(one.value for one in found) / count
    assert abs(singles.mean().item() - mean) < 4 * math.hypot(singles.std().item(), spread) / math.sqrt(count)


@pytest.mark.usefixtures("few_digits")
def test_evaluations_share_their_noise(data_root: Path) -> None:
    """So the best of many is not the luckiest: equal networks have equal values, others differ by what they are."""
    task = make_task(data_root, "experiment=vae-mnist5k")
    batches = Batches(task.training_data, 64, seed=0)
    for _ in range(150):
        step(task, *batches.next())
    before = {name: found.value for name, found in task.evaluate("valid").items()}
    torch.rand(3)  # whatever training draws in between
    assert {name: found.value for name, found in task.evaluate("valid").items()} == before
    last = task.model.decoder[-1]
    differences = []
    for task.seed in range(12):
        first = task.evaluate("valid")["valid/elbo"]
        last.bias.data += 0.02
        differences.append(task.evaluate("valid")["valid/elbo"].value - first.value)
        last.bias.data -= 0.02
    assert torch.tensor(differences).std() < 0.2 * (first.monte_carlo_error or 0.0)


def test_the_noise_of_the_likelihood_does_not_depend_on_that_of_the_bound(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(data_root, "experiment=vae-mnist5k", "task.importance_samples=3", "task.importance_images=50")
    values = []
    for pairs in (1000, 20_000):
        monkeypatch.setitem(judge.PAIRS, "test", pairs)
        values.append(task.evaluate("test"))
    first, second = values
    assert first["test/elbo"].value != second["test/elbo"].value
    assert first["test/log_likelihood"] == second["test/log_likelihood"]


def test_a_log_probability_above_0_is_impossible_and_a_log_density_is_not(data_root: Path) -> None:
    for words, expected in (
        (("experiment=vae-mnist5k",), True),
        (("experiment=vae-mnist5k-gaussian-mc", *TINY), False),
    ):
        task = make_task(data_root, *words, "task.importance_samples=2", "task.importance_images=20")
        log_likelihood = task.model.log_likelihood
        task.model.log_likelihood = lambda z, x, given, own=log_likelihood: own(z, x, given).abs() + 1e4  # type: ignore[misc]
        judged = task.evaluate("test")
        for name in ("test/elbo", "test/reconstruction", "test/log_likelihood"):
            assert judged[name].value > 0 and judged[name].impossible is expected
        assert expected == ("test/bits_per_dim" in judged and judged["test/bits_per_dim"].impossible)


ANNEALED = (
    "task.importance_samples=20",
    "task.annealed_images=6",
    "task.annealing_steps=4",
    "task.annealing_chains=8",
)


def test_annealing_is_reported_beside_importance_sampling_of_the_same_images(data_root: Path) -> None:
    task = make_task(data_root, "experiment=vae-mnist5k", "model.width=20", *ANNEALED)
    state = torch.get_rng_state()
    judged = task.evaluate("test")
    assert torch.equal(torch.get_rng_state(), state)
    assert "test/annealed_log_likelihood" not in task.evaluate("valid")
    with isolated_rng(task.seed, task.device):
        images = task.dataset.test[:6]
        annealed = annealed_log_likelihood(task.model, images, task.dataset.to_float, 4, 8)
    found = judged["test/annealed_log_likelihood"]
    assert found.value == pytest.approx(annealed.value.mean().item(), rel=1e-6)
    assert found.standard_error == pytest.approx(annealed.value.std().item() / math.sqrt(6), rel=1e-5)
    assert found.monte_carlo_error == pytest.approx(annealed.variance.sum().sqrt().item() / 6, rel=1e-4)
    protocol = {"annealed_images": "6", "annealing_steps": "4", "annealing_chains": "8"}
    assert found.protocol == protocol
    assert judged["test/annealing_acceptance"].value == pytest.approx(annealed.acceptance.mean().item(), rel=1e-5)
    gain = judged["test/annealing_gain"]
    assert gain.protocol == protocol | {"importance_samples": "20"}
    assert 0 < gain.standard_error < found.standard_error  # of differences on the same images
    # The mean of the differences is that of the values, where both are of the same images.
    same = make_task(data_root, "experiment=vae-mnist5k", "model.width=20", *ANNEALED, "task.importance_images=6")
    values = same.evaluate("test")
    difference = values["test/annealed_log_likelihood"].value - values["test/log_likelihood"].value
    assert values["test/annealing_gain"].value == pytest.approx(difference, abs=1e-9)
    errors = [values[f"test/{name}"].monte_carlo_error for name in ("annealed_log_likelihood", "log_likelihood")]
    assert gain.monte_carlo_error == pytest.approx(math.hypot(*errors), rel=1e-4)
    # Without it, nothing else has another value.
    plain = make_task(data_root, "experiment=vae-mnist5k", "model.width=20", ANNEALED[0]).evaluate("test")
    assert {name for name in judged if name not in plain} == {name for name in judged if "anneal" in name}
    assert all(judged[name] == measured for name, measured in plain.items())
