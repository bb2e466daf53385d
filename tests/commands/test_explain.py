"""What `genbench explain` says, and that it fits the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shared import EXPERIMENTS, shipped

from genbench import compose, registry
from genbench.catalogue import pages
from genbench.catalogue.files import offered
from genbench.catalogue.keys import key_names
from genbench.commands.explain import explain
from genbench.commands.help import help_text, introduction
from genbench.commands.text import names, paragraphs, terms
from genbench.errors import ConfigError

CATALOGUE = offered()


@pytest.fixture(autouse=True)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of so many columns."""
    count: int = getattr(request, "param", 80)
    monkeypatch.setenv("COLUMNS", str(count))
    return count


def told(*words: str) -> str:
    """On one line, without what only aligns it."""
    return " ".join("\n".join(explain(CATALOGUE, word) for word in words).split())


def test_a_key() -> None:
    assert told("regularizer.every") == (
        "regularizer.every k: the penalty at every k-th critic update, with k times the coefficient "
        "of regularizer=gp regularizer=lp regularizer=r1 regularizer=r1r2 regularizer=r2 "
        "values whole number ≥ 1 default 1 changed by 16: cifar10-ns-r1-resnet"
    )


def test_a_key_that_differs_from_component_to_component() -> None:
    text = told("optimizer.lr")
    for component, default in (("adam", "0.001"), ("rmsprop", "0.01"), ("sgd", "0.1")):
        assert f"of optimizer={component} values number > 0 default {default} changed by" in text


def test_a_key_as_it_stands_on_a_command_line_and_by_its_last_part() -> None:
    assert told("regularizer.every=16") == told("every") == told("regularizer.every")
    assert told("lr") == told("optimizer.lr")  # the critic's optimizer has the same options


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_is_published_and_under_which_protocol(name: str) -> None:
    text, config = told(name), shipped(name)
    assert text.startswith(f"experiment={name} {CATALOGUE.experiments[name].description}")
    assert f"command genbench experiment={name}" in text
    for reference in config.reference:
        protocol = ", ".join(f"{key} {value}" for key, value in reference.protocol.items())
        arrow = "↓" if reference.better == "lower" else "↑"
        assert f"{reference.metric} {reference.value:.10g} {arrow} {reference.source}; {reference.at} value" in text
        assert protocol in text
    assert ("published" in text.split(" command ")[1]) == bool(config.reference)


def test_an_experiment_says_how_long_it_takes_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"vae-mnist5k": [pages.Time("73 s", "cpu", "results.md"), pages.Time("9 s", "NVIDIA", "results.md")]}
    monkeypatch.setattr(pages, "times", lambda name: measured.get(name, []))
    assert "takes 73 s on cpu, measured: results.md 9 s on NVIDIA, measured: results.md" in told("vae-mnist5k")
    assert "takes" not in told("vae-binmnist-L100")
    twin = CATALOGUE.description("experiment", "vae-mnist5k")
    expected = f"small twin genbench experiment=vae-mnist5k {twin} 73 s on cpu, measured: results.md 9 s"
    assert expected in told("vae-binmnist-L100")
    assert "twin of iwae-" not in told("vae-mnist5k")
    assert "twin of vae-binmnist-L2, vae-binmnist-L20, vae-binmnist-L100, vae-binmnist-L100-fast" in told(
        "vae-mnist5k"
    )


def test_an_experiment_says_what_it_sets_and_why() -> None:
    text = told("cifar10-w1-3")
    assert "made of task=image-gan model=dcgan loss=w1 regularizer=r1 dataset=cifar10 optimizer=adam" in text
    assert "optimizer@critic_optimizer=adam" in text
    assert "critic_optimizer.lr=0.0004" in text
    assert "task.fid_samples=5000 of every evaluation; report 000 does not state its numbers of images" in text
    assert "regularizer.coefficient" not in text  # its default
    assert "source report 000: IFT6135 Representation Learning, Université de Montréal" in text
    assert "small twin genbench experiment=cifar10-w1-3-small CIFAR-10 DCGAN of width 32" in text


def test_an_ensemble_says_what_it_trains() -> None:
    text = told("flow-toy-suite")
    assert "trains flow-*-k2, flow-*-k8, flow-*-k32; seeds of each: 4" in text
    assert "settings" not in text
    assert "takes" not in text  # earlier results are of another suite, which was one run


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "jsd",
            ["loss=jsd", "JSD(P, Q) = ½ · max_C", "Goodfellow et al. 2014", "used by cifar10-jsd-*, dirac-jsd-*"],
        ),
        (
            "r1",
            ["R1 = E_p ‖∇C(x)‖²", "arXiv 1801.04406", "coefficient weight c of the penalty", "number ≥ 0; default 1"],
        ),
        ("kl", ["∫ p log(p/q)", "Nowozin, Cseke & Tomioka 2016"]),
        ("dcgan", ["Radford, Metz & Chintala 2016", "width channels of the layers", "used by", "svhn-w1-lp"]),
        ("adam", ["Kingma & Ba 2015", "for critics by cifar10-*, svhn-w1-lp"]),
        ("slurm", ["hydra/launcher=slurm", "An array of jobs in a Slurm queue", "timeout_min time limit"]),
    ],
)
def test_a_component_says_its_equation_its_options_and_who_uses_it(name: str, said: list[str]) -> None:
    text = told(name)
    for words in said:
        assert words in text


def test_a_component_says_nothing_of_errors_that_it_raises_nor_what_a_dataclass_generates() -> None:
    text = told("dcgan", "gp", "hinge", "binmnist")
    assert "Raises" not in text
    assert "GradientPenalty(*" not in text
    assert "Hinge()" not in text


def test_a_name_in_several_groups_is_explained_in_each() -> None:
    text = explain(CATALOGUE, "dirac")
    assert re.findall(r"^\S.*", text, re.MULTILINE) == ["task=dirac", "dataset=dirac"]
    assert (
        told("dataset=dirac")
        == told("dirac").partition("dataset=dirac")[1] + told("dirac").partition("dataset=dirac")[2]
    )


def test_a_group_lists_its_components_and_the_trainer_its_keys() -> None:
    text = told("regularizer")
    for name in registry.known("regularizer"):
        assert f" {name} " in text
    assert text.startswith("regularizer chosen by regularizer=NAME; none where nothing is chosen")
    batch_size = "batch_size samples in a batch; a step of a GAN takes task.critic_steps batches"
    assert f"{batch_size} whole number ≥ 1 and ≤ 100000; default 64" in told("trainer")


@pytest.mark.parametrize("name", ["vae-mnist5", "regularizer.evry", "optimizer.learning_rate", "loss=jds"])
def test_an_unknown_name_gives_the_nearest_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"nothing is called '{name}'\n  similar: ") as refusal:
        explain(CATALOGUE, name)
    near = str(refusal.value).partition("similar: ")[2].split(", ")
    assert 1 <= len(near) <= 5
    for each in near:
        assert explain(CATALOGUE, each)


def everything() -> Iterator[str]:
    groups = (*compose.GROUPS, *compose.HYDRA_GROUPS)
    yield from groups
    for group in groups:
        yield from CATALOGUE.names(group) if group != "trainer" else ()
    yield from key_names(CATALOGUE)


@pytest.mark.parametrize("columns", [60, 80, 200], indirect=True)
def test_what_is_printed_fits_the_terminal(columns: int) -> None:
    """At most 80 columns; in a narrower terminal only what cannot be broken, words and equations, is wider."""
    texts = [*(explain(CATALOGUE, name) for name in everything()), help_text(), introduction()]
    wide = {line for text in texts for line in text.splitlines() if len(line) > min(columns, 80)}
    assert {line for line in wide if columns > 60 or len(line.split()) > 2} == set()
    assert not any("\x1b" in text or re.search(r" $", text, re.MULTILINE) for text in texts)


def test_it_is_printed_and_an_experiment_of_ones_own_too(
    genbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    text = (
        "# @package _global_\n# Mine\ndefaults: [dirac-w1-3, _self_]\nname: mine\nregularizer: {coefficient: 0.5}\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert genbench("explain", "--config-dir", str(tmp_path), "mine", "regularizer.coefficient") == 0
    output = capsys.readouterr().out
    assert "experiment=mine\n  Mine\n" in output
    assert "regularizer.coefficient=0.5" in output
    assert "0.5: mine" in output
    assert genbench("explain") == genbench("explain", "--help") == 0
    assert "genbench explain optimizer.lr" in capsys.readouterr().out


def test_names_are_shortened_to_patterns_that_stand_for_them_alone() -> None:
    known = ["a-1", "a-1-small", "a-2", "a-2-small", "b-1", "b-2", "c"]
    assert names(["a-1", "a-1-small", "a-2", "a-2-small"], known) == "a-*"
    assert names(["a-1-small", "a-2-small", "b-1"], known) == "a-*-small, b-1"
    assert names(["a-1", "b-1", "b-2", "c"], known) == "a-1, b-*, c"
    assert names([], known) == ""


def test_aligned_lines_are_kept_and_words_never_broken() -> None:
    text = "One\nparagraph.\n\n    x = 1    y = 2\n    z = 3\n\nAnother."
    assert paragraphs(text, 40) == ["  One paragraph.", "", "      x = 1    y = 2", "      z = 3", "", "  Another."]
    long = "--an-option-that-is-longer-than-the-line"
    assert terms([("a", f"see {long}"), ("much-longer-term", "b")], 24) == [
        "  a  see",
        f"     {long}",
        "  much-longer-term",
        "     b",
    ]


@pytest.mark.parametrize("key", ["ensemble.replicas", "reference", "name"])
def test_what_experiments_set_for_themselves_is_not_called_unchanged(key: str) -> None:
    assert "changed by" not in told(key)
