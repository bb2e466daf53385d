"""Random overrides: every one ends done, diverged, or with one message and nothing written.

The fast suite tries a few, the same ones always; GENBENCH_FUZZ=3000 tries as many others.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared import smaller

from genbench import registry
from genbench.compose import GROUPS, configuration
from genbench.config import COMPONENTS, flatten, group_of, to_dict
from genbench.data import files, loading
from genbench.errors import DataError
from genbench.train import main

EXAMPLES = int(os.environ.get("GENBENCH_FUZZ", "0"))
FEW = 6

EXPERIMENTS = (
    "dirac-w1-3",
    "dirac-jsd-2",
    "divergence-hellinger",
    "flow-arcs-samples-k2",
    "flow-sine-density-k2",
    "vae-mnist5k",
    "vae-mnist5k-gaussian-mc",
    "vae-mnist5k-iaf",
    "iwae-mnist5k-k50",
    "pixelcnn-mnist5k",
    "pixelvae-mnist5k",
    "mnist5k-gan",
    "realnvp-mnist5k",
    "flow-toy-suite",
)

# Sizes are tiny, or such as nobody can want: between them lie runs that are valid and take days.
INTEGERS = st.sampled_from(["0", "1", "2", "3", "-1", "-7", str(2**31), str(2**40), str(2**63), "1" + 21 * "0"])
FLOATS = st.sampled_from(["0.0", "0.5", "-0.5", "1e-3", "1e-320", "3e38", "1e39", "1e308", "-1e308", "1e999"])
NO_NUMBERS = st.sampled_from(["inf", "-inf", "nan", "true", "false", "null", "???", "''", "", "~", "0x10", "1_0"])
REFERENCES = st.sampled_from(
    ["${seed}", "${nothing}", "${oc.env:NOTHING}", "${hydra:runtime.cwd}", "${name}", "${", "$", "${oc.env:HOME}"]
)
NESTED = st.sampled_from(["[]", "[1]", "[1,2]", "[[1]]", "[null]", "{}", "{a:1}", "{1:2}", "[{metric:a}]", "[inf]"])
SWEEPS = st.sampled_from(["1,2", "a,b", "range(1,3)", "interval(0,1)", "glob(*)", "choice(1,null)", "1,inf"])
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["a b", "'a b'", '"a"', "x" * 300, "'" + 5000 * "x" + "'", "..", ".", ".sweep", "a\nb", "'a\nb'"]
    ),
    st.sampled_from(
        ["'a\x00b'", "a\x1b[31m", "größe", "'日本'", "a=b", "a:b", "a/b", "\\", "'", '"', "(", "#", "%s"]
    ),
)
VALUES = st.one_of(INTEGERS, FLOATS, NO_NUMBERS, REFERENCES, NESTED, SWEEPS, TEXTS)

# What a path may be, so that nothing is written outside of the example's own directory.
PATHS = st.sampled_from(
    [
        "out",
        "out/deep",
        "'out put'",
        "occupied",
        "occupied/below",
        "/dev/null",
        "/dev/null/x",
        "x" * 300,
        "x/" * 2400,
        "null",
        "???",
        "''",
        "[]",
        "5",
        "'a\nb'",
        "'a\x00b'",
        "${nothing}",
        "${name}",
        "größe",
    ]
)
NAMES = st.one_of(
    st.text(max_size=12).filter(lambda text: not text.strip(" '\"").startswith("/") and ".." not in text),
    st.sampled_from(
        ["..", ".", "../up", ".sweep", "''", "' '", "a b", "x" * 101, "x" * 100, "a-1.b_2", "???", "null"]
    ),
)
REFERENCE = st.sampled_from(
    [
        "[]",
        "5",
        "null",
        "{}",
        "[5]",
        "[{metric: a}]",
        "[{metric: test/elbo, value: 1, source: a}]",
        "[{metric: eval/distance, value: inf, source: a}]",
        "[{metric: eval/distance, value: 1, source: '$\\\\frac$'}]",
        "[{metric: eval/distance, value: 1, source: a, tolerance: -1}]",
        "[{metric: eval/distance, value: 1, source: a, protocol: {a: 1}}]",
        "[{metric: eval/distance, value: 1, source: a, at: never}]",
    ]
)
ENSEMBLE = st.sampled_from(
    [
        "5",
        "null",
        "{}",
        "[]",
        "{experiments: []}",
        "{experiments: [flow-arcs-samples-k2], replicas: 2}",
        "{experiments: [flow-arcs-samples-k2, vae-mnist5k]}",
        "{experiments: [nothing]}",
        "{experiments: [flow-toy-suite]}",
        "{experiments: flow-arcs-samples-k2}",
        "{experiments: [flow-arcs-samples-k2], replicas: 99999999}",
    ]
)
OF_HYDRA = {
    "hydra.run.dir": PATHS,
    "hydra.sweep.dir": PATHS,
    "hydra.sweep.subdir": st.sampled_from([".", "a", "null", "5"]),
    "hydra.output_subdir": st.sampled_from(["null", ".hydra", "5"]),
    "hydra.mode": st.sampled_from(["RUN", "MULTIRUN", "5", "null", "nothing"]),
    "hydra.job.chdir": st.sampled_from(["true", "false", "5", "null"]),
    "hydra.verbose": st.sampled_from(["true", "false", "null", "5", "[]"]),
    "hydra.nothing": VALUES,
    "hydra/launcher": st.sampled_from(["basic", "nothing", "null"]),
    "hydra/sweeper": st.sampled_from(["basic", "nothing", "null"]),
    "hydra/job_logging": st.sampled_from(["none", "default", "stdout", "nothing"]),
}
SPECIAL = {
    "name": NAMES,
    "output_root": PATHS,
    "data_root": PATHS,
    "reference": REFERENCE,
    "ensemble": ENSEMBLE,
    "device": st.sampled_from(
        ["auto", "cpu", "cpu:7", "cuda:99", "mps:5", "toaster", "''", "null", "5", "cpu:1" + 30 * "0"]
    ),
    "trainer.max_steps": st.one_of(NO_NUMBERS, REFERENCES, NESTED, TEXTS, st.sampled_from(["0", "-1", "1e3", "1"])),
    "seed": st.one_of(VALUES, st.sampled_from(["0", "4294967295", "4294967296"])),
    **OF_HYDRA,
}


@cache
def keys_of(experiment: str) -> list[str]:
    """All keys of its configuration, and of the components that it is made of."""
    config = configuration(f"experiment={experiment}")
    found = set(flatten(to_dict(config))) - {"reference"}
    for component in COMPONENTS:
        if (chosen := getattr(config, component)) is not None:
            parameters = registry.parameters(registry.lookup(group_of(component), chosen["name"]))
            found |= {component, *(f"{component}.{name}" for name in parameters)}
    return sorted((found | SPECIAL.keys()) - {"ensemble.experiments", "ensemble.replicas"})


_smaller = cache(smaller)


def value_of(key: str) -> st.SearchStrategy[str]:
    if key in SPECIAL:
        return SPECIAL[key]
    if (group := group_of(key)) in (*GROUPS, "optimizer") and "." not in key:
        known = (
            sorted({*registry.known(group), "null", "nothing"}) if group in registry.PACKAGES else ["default", "5"]
        )
        return st.one_of(st.sampled_from(known), VALUES)
    return VALUES


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """An experiment in a size for tests, with up to three overrides of any keys."""
    experiment = draw(st.sampled_from(EXPERIMENTS))
    words = [f"experiment={experiment}", "device=cpu", "trainer.max_steps=2", "trainer.log_every=1"]
    words += [*_smaller(experiment), *SMALLER.get(experiment, ())]
    if experiment == "flow-toy-suite":
        words += ["ensemble.experiments=[flow-arcs-samples-k2,flow-sine-density-k2]", "ensemble.replicas=1"]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        key = draw(st.sampled_from(keys_of(experiment)))
        prefix = draw(st.sampled_from(["", "", "", "", "", "", "+", "++", "~"]))
        end = draw(st.sampled_from([""] * 20 + ["x", ".x", " "]))
        words.append(f"{prefix}{key}{end}={draw(value_of(key))}" if prefix != "~" else f"~{key}")
    return words + draw(st.sampled_from([[], [], [], ["-m"]]))


SMALLER = {
    "iwae-mnist5k-k50": ("loss.samples=2", "task.importance_samples=2"),
    **dict.fromkeys(("vae-mnist5k", "vae-mnist5k-gaussian-mc", "vae-mnist5k-iaf"), ("task.importance_samples=2",)),
    "realnvp-mnist5k": ("task.importance_samples=1",),
}


@contextlib.contextmanager
def a_directory_of_its_own() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "here"
        directory.mkdir()
        os.chdir(directory)
        Path("occupied").touch()
        try:
            yield directory
        finally:
            os.chdir(before)


def written(directory: Path) -> set[str]:
    """In the directory, and beside it, where nothing belongs."""
    return {os.path.relpath(path, directory) for path in directory.parent.rglob("*")} - {".", "occupied"}


def stray(words: list[str], left: set[str]) -> set[str]:
    """What was written elsewhere than below the output root, or wherever a word moved it to."""
    moved = any(word.lstrip("+~").startswith(("output_root", "data_root", "hydra.")) for word in words)
    return {path for path in left if path.startswith("..") or not (moved or Path(path).parts[0] == "outputs")}


@pytest.fixture
def cheap(tiny_planes: None, tiny_instruments: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No downloads, and data that stay in memory from one example to the next."""

    def refuse(path: Path, file: files.DataFile) -> None:
        raise DataError(f"{path} is missing")

    monkeypatch.setattr(files, "_download", refuse)
    monkeypatch.setenv("GENBENCH_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["genbench"])


def complaint(words: list[str]) -> str:
    """What is wrong with how a command line ended; nothing where it ended as it should."""
    loading.forget()
    said = io.StringIO()
    with a_directory_of_its_own() as directory:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(words)
                code: object = "none"
            except SystemExit as stop:
                code = stop.code
        left = written(directory)
    text = said.getvalue()
    if code not in (0, 2, 3):
        return f"exit code {code}: {text}"
    if "Traceback" in text:
        return text
    if code == 2 and sum(line.startswith("genbench: ") for line in text.splitlines()) != 1:
        return f"not one message: {text}"
    if stray(words, left):
        return f"written elsewhere: {stray(words, left)}"
    return f"left behind: {left}" if code == 2 and left else ""


@pytest.mark.usefixtures("cheap")
@settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(words=command_lines())
def test_random_overrides(words: list[str]) -> None:
    assert complaint(words) == ""
