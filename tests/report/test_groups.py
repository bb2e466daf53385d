"""Seeds are averaged, protocols are not, and every published value has its verdict."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genbench import registry
from genbench.config import Reference
from genbench.report import pictures, tables
from genbench.report.catalog import Catalog
from genbench.report.families import expected_protocol, protocol_of
from genbench.report.groups import group
from genbench.report.reading import Problem, find, read
from genbench.report.results import Result, compare, results
from genbench.report.tables import Table, number, result_tables

MakeRun = Callable[..., Path]
VAE = {"dataset": "binmnist", "binarization": "fixed (Larochelle)", "split": "50000/10000/10000", "kl": "analytic"}


def judge(outputs: Path, catalog: Catalog) -> tuple[list[Result], list[Problem]]:
    groups, twice = group([read(path) for path in find([outputs], [])], catalog)
    rows, mixed = results(groups, catalog)
    return rows, [*twice, *mixed]


def measured(rows: list[Result], metric: str) -> list[Result]:
    return [row for row in rows if row.members and row.quantity.metric == metric]


# Verdicts


@pytest.mark.parametrize(
    ("better", "value", "verdict"),
    [
        ("higher", -100.0, "reached"),
        ("higher", -101.5, "reached"),
        ("higher", -101.51, "missed"),
        ("lower", -102.0, "reached"),
        ("lower", -100.5, "reached"),
        ("lower", -100.49, "missed"),
    ],
)
def test_a_value_within_the_tolerance_is_reached(better: str, value: float, verdict: str) -> None:
    found = compare(Reference("m", -101.0, "someone", tolerance=0.5, better=better), value)
    assert found.verdict == verdict
    assert found.difference == pytest.approx(value + 101.0)


def test_what_was_not_measured_has_no_difference() -> None:
    found = compare(Reference("m", 1.0, "someone"), None, "not run")
    assert (found.verdict, found.difference) == ("not run", None)


def test_verdicts_are_of_the_mean_over_seeds(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    """−101.0, −101.4 and −102.1: the last seed alone misses −100.99 ± 0.5, their mean −101.5 too, by 0.01."""
    for seed, value in enumerate((-101.0, -101.4, -102.1), 1):
        make_run("vae-binmnist-L100", seed, {"valid/elbo": [(10, value + 0.3), (20, value)]})
    (row,) = measured(judge(outputs, catalog)[0], "valid/elbo")
    assert row.final
    assert (row.final.n, row.final.mean) == (3, pytest.approx(-101.5))
    assert row.final.low is not None
    assert row.best
    assert row.best.mean == pytest.approx(-101.2)
    assert row.gap == pytest.approx(0.3)
    assert [(c.reference.value, c.verdict) for c in row.comparisons] == [(-100.99, "missed"), (-101.37, "reached")]


def test_a_published_best_value_is_held_against_the_best(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    fid = {"n_generated": 5000, "n_reference": 50000, "inception_weights": "f0de"}
    protocol = {"dataset": "cifar10", "eval/fid": fid}
    make_run("cifar10-jsd-3", 1, {"eval/fid": [(2000, 26.0), (4000, 48.0)]}, protocol=protocol)
    (row,) = measured(judge(outputs, catalog)[0], "eval/fid")
    (comparison,) = row.comparisons
    assert (comparison.reference.at, comparison.measured, comparison.verdict) == ("best", 26.0, "reached")


# Every published value


def test_every_published_value_is_measured_or_said_not_to_be(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    make_run("vae-binmnist-L100", 1)
    rows, _ = judge(outputs, catalog)
    told = {
        (row.experiment, row.quantity.metric, c.reference.value, c.verdict) for row in rows for c in row.comparisons
    }
    expected = {
        (experiment.name, reference.metric, reference.value)
        for experiment in catalog
        for reference in experiment.references
        if experiment.task != "flow-suite"  # its members have experiments of their own
    }
    found = {(name, metric, value) for name, metric, value, _ in told}
    assert {(metric, value) for _, metric, value in found} == {(metric, value) for _, metric, value in expected}
    # One that is of another coefficient is told of the experiment that has this one.
    assert {name for name, _, _ in expected - found} == {"cifar10-w1-3", "cifar10-w1-3-lambda10"}
    assert ("cifar10-w1-3", "test/fid", 33.621) in found
    assert ("cifar10-w1-3-lambda10", "test/fid", 59.469) in found
    assert ("vae-binmnist-L100", "valid/elbo", -100.99, "reached") in told
    assert ("vae-binmnist-L100", "test/log_likelihood", -95.31, "not measured") in told
    assert ("pixelcnn-binmnist", "test/log_likelihood", -80.5, "not run") in told


def test_the_values_of_an_ensemble_are_those_of_its_members_experiments(catalog: Catalog) -> None:
    suite = catalog.get("flow-toy-suite")
    assert suite
    of_members = {
        (f"test/nll/{experiment.name.removeprefix('flow-')}", reference.value, reference.source)
        for experiment in catalog
        if experiment.name.startswith("flow-") and experiment.task == "density"
        for reference in experiment.references
    }
    assert {(r.metric, r.value, r.source) for r in suite.references} <= of_members


def test_what_is_not_run_stands_in_the_table_that_it_would_join(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    protocol = VAE | {"importance_samples": 1000}
    make_run("vae-binmnist-conv", 1, {"test/log_likelihood": [(20, -90.0)]}, protocol=protocol)
    rows, _ = judge(outputs, catalog)
    found = result_tables([row for row in rows if row.quantity.metric == "test/log_likelihood"])
    (table,) = [table for table in found if any(row[0].lines == ("vae-binmnist-conv",) for row in table.rows)]
    names = [row[0].lines[0] for row in table.rows]
    assert "iwae-binmnist-k50" in names  # M = 1000 too
    assert "vae-binmnist-L100" not in names  # M = 200


def test_a_shorter_run_is_not_the_one_that_was_published(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    values = {"test/log_likelihood": [(20, -90.0)]}
    make_run("pixelcnn-binmnist", 1, values, changed=["trainer.epochs=3"])
    rows = [row for row in judge(outputs, catalog)[0] if row.experiment == "pixelcnn-binmnist"]
    assert [(row.variant, [c.verdict for c in row.comparisons]) for row in rows if row.comparisons] == [
        ("trainer.epochs 40 → 3", ["missed", "missed"]),
        ("", ["not run", "not run"]),
    ]


@pytest.mark.parametrize("status", ["interrupted", "failed", "diverged"])
def test_a_run_without_a_measurement_joins_the_table_of_its_own_data(
    status: str, make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    make_run(
        "iwae-binmnist-k50", 1, {"test/log_likelihood": [(20, -87.0)]}, protocol=VAE | {"importance_samples": 1000}
    )
    dynamic = ["dataset.name=binmnist-dynamic"]
    make_run("iwae-binmnist-k50", 2, {"valid/elbo": [(20, -90.0)]}, changed=dynamic, status=status)
    rows = [row for row in judge(outputs, catalog)[0] if row.quantity.metric == "test/log_likelihood"]
    places = {c.reference.value: (row.protocol["dataset"], c.verdict) for row in rows for c in row.comparisons}
    assert places[-84.78] == ("binmnist-dynamic", status)
    assert places[-86.82] == ("binmnist", "missed")


def test_dequantizations_share_no_table(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    protocol = {"dataset": "mnist", "dequantization": "uniform", "alpha": "1e-05", "importance_samples": {"test": 8}}
    make_run("realnvp-mnist-conv", 1, {"test/bits_per_dim": [(20, 1.2)]}, protocol=protocol)
    rows = [row for row in judge(outputs, catalog)[0] if row.quantity.metric == "test/bits_per_dim"]
    found = {row.experiment + row.variant: row.protocol["dequantization"] for row in rows}
    assert found == {
        "realnvp-mnist-conv": "uniform",
        "realnvp-mnist-convmodel.dequantization variational": "variational",
        "realnvp-mnist-multiscale": "variational",
    }


@pytest.mark.parametrize("name", ["realnvp", "realnvp-conv", "realnvp-multiscale"])
def test_what_is_said_of_dequantization_is_what_the_models_do(name: str) -> None:
    model = registry.build("model", {"name": name, "width": 8}, (1, 28, 28))
    flat = {
        "model.name": name,
        "model.alpha": 1e-5,
        **({"model.dequantization": "uniform"} if "conv" in name else {}),
    }
    assert expected_protocol("test/bits_per_dim", flat) == model.protocol


# Groups


def test_only_runs_of_one_configuration_are_averaged(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for seed in (1, 2):
        make_run("vae-binmnist-L100", seed)
    make_run("vae-binmnist-L100", 3, changed=["model.width=50"])
    make_run("vae-binmnist-L100", 4, changed=["trainer.log_every=7", "device=cpu"])  # computes the same
    rows = measured(judge(outputs, catalog)[0], "valid/elbo")
    assert [([m.seed for m in row.members], row.variant) for row in rows] == [
        ([1, 2, 4], ""),
        ([3], "model.width 300 → 50"),
    ]


def test_the_same_run_counts_once(make_run: MakeRun, outputs: Path, catalog: Catalog, tmp_path: Path) -> None:
    make_run("vae-binmnist-L100", 1)
    make_run("vae-binmnist-L100", 1, root=outputs / "copy")
    rows, problems = judge(outputs, catalog)
    (row,) = measured(rows, "valid/elbo")
    assert len(row.members) == 1
    assert "same configuration and seed as" in problems[0].reason


@pytest.mark.parametrize("status", ["failed", "interrupted", "running", "diverged"])
def test_runs_that_are_not_done_are_no_part_of_a_mean(
    status: str, make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    make_run("vae-binmnist-L100", 1)
    make_run("vae-binmnist-L100", 2, {"valid/elbo": [(10, -500.0)]}, status=status)
    make_run("iwae-binmnist-k50", 1, {"valid/elbo": [(10, -500.0)]}, status=status)
    rows, _ = judge(outputs, catalog)
    (row,) = measured(rows, "valid/elbo")
    assert row.final
    assert (row.final.n, row.final.mean) == (1, -101.0)
    (alone,) = [row for row in rows if row.experiment == "iwae-binmnist-k50" and row.group]
    assert [comparison.verdict for comparison in alone.comparisons] == [status]


def test_members_of_an_ensemble_are_runs_of_the_experiments_that_they_name(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    values = {"theory/entropy/arcs": [(20, 2.66)], "valid/nll/arcs-samples-k8": [(10, 3.0), (20, 2.7)]}
    members = [
        {"experiment": "flow-arcs-samples-k8", "target": "arcs", "seed": seed, "metrics": {"test/nll": nll}}
        for seed, nll in enumerate((2.70, 2.71, 2.72, 2.83), 1)
    ]
    protocol = {"dataset": "arcs and sine", "split": "1/1/1 points", "seeds": [1, 2, 3, 4]}
    make_run("flow-toy-suite", 1, values, protocol=protocol, members=members)
    (row,) = measured(judge(outputs, catalog)[0], "test/nll")
    assert (row.experiment, row.variant, row.truth) == ("flow-arcs-samples-k8", "in flow-toy-suite", 2.66)
    assert row.protocol == {"target": "arcs", "split": "1/1/1 points"}
    assert row.final
    assert (row.final.n, row.final.mean) == (4, pytest.approx(2.74))
    assert [(c.reference.value, c.verdict) for c in row.comparisons] == [(2.73, "reached")]
    assert row.members[0].curves["valid/nll"][-1].value == 2.7


def test_divergences_over_theta_have_one_mean_error(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    errors = {(1, 0.5): 0.02, (1, 1.0): 0.04, (2, 0.5): 0.06, (2, 1.0): 0.08, (3, 0.5): 0.9}  # seed 3 lacks a θ
    for (seed, theta), error in errors.items():
        values = {"test/error": [(20, error)], "test/w1": [(20, theta + error)], "theory/w1": [(20, theta)]}
        protocol = {"dataset": "lines", "theta": f"{theta:g}"}
        make_run("divergence-w1", seed, values, changed=[f"dataset.theta={theta}"], protocol=protocol)
    rows, _ = judge(outputs, catalog)
    (whole,) = measured(rows, "test/mean_error")
    assert whole.protocol == {"dataset": "lines", "divergence": "w1"}
    assert whole.values == [pytest.approx(0.03), pytest.approx(0.07)]
    assert [(row.group.theta, row.truth) for row in measured(rows, "test/w1") if row.group] == [
        ("0.5", 0.5),
        ("1", 1.0),
    ]


def test_a_seed_of_two_ensembles_counts_once(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for first in (1, 2):
        members = [
            {"experiment": "flow-arcs-samples-k8", "target": "arcs", "seed": seed, "metrics": {"test/nll": 2.7}}
            for seed in range(first, first + 4)
        ]
        make_run("flow-toy-suite", first, {"x": [(20, 1.0)]}, protocol={"split": "points"}, members=members)
    rows, problems = judge(outputs, catalog)
    (row,) = measured(rows, "test/nll")
    assert [member.seed for member in row.members] == [1, 2, 3, 4, 5]
    assert len(problems) == 3
    assert all("counted once" in problem.reason for problem in problems)


def test_members_that_no_experiment_names_are_told_without_published_values(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    member = {"experiment": "flow-arcs-samples-k4", "target": "arcs", "seed": 1, "metrics": {"test/nll": 2.8}}
    values = {"theory/entropy/arcs": [(20, 2.66)]}
    make_run("flow-toy-suite", 1, values, changed=["model.layers=[4]"], protocol={}, members=[member])
    (row,) = [row for row in judge(outputs, catalog)[0] if row.experiment == "flow-arcs-samples-k4"]
    assert (row.protocol, row.truth, row.comparisons) == ({"target": "arcs"}, 2.66, ())


# Protocols


def test_other_protocols_are_other_rows_and_tables(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    """The same configuration, judged with other Inception weights: two rows, in two tables, and it is said."""
    for seed, weights in enumerate(("tensorflow", "tensorflow", "torchvision"), 1):
        fid = {"n_generated": 5000, "n_reference": 50000, "inception_weights": weights}
        protocol = {"dataset": "cifar10", "eval/fid": fid}
        make_run("cifar10-jsd-3", seed, {"eval/fid": [(10, 90.0), (20, 10.0 * seed)]}, protocol=protocol)
    rows, problems = judge(outputs, catalog)
    found = measured(rows, "eval/fid")
    assert [(row.protocol["inception_weights"], row.final and row.final.mean) for row in found] == [
        ("tensorflow", 15.0),
        ("torchvision", 30.0),
    ]
    assert "judged in 2 ways, never averaged" in problems[0].reason
    assert len(result_tables(found)) == 2


def test_no_table_mixes_protocols_or_quantities(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    cases = itertools.product(("binmnist", "mnist5k"), (200, 1000))
    for seed, (data, draws) in enumerate(cases, 1):
        values = {"valid/elbo": [(10, -120.0), (20, -101.0)], "test/log_likelihood": [(20, -95.0)]}
        protocol = VAE | {"dataset": data, "importance_samples": draws}
        make_run("vae-binmnist-L100", seed, values, protocol=protocol)
    rows = [row for row in judge(outputs, catalog)[0] if row.members]
    found = {(table.title, table.note) for table in result_tables(rows)}
    assert len(found) == 2 + 4  # ELBO does not depend on the number of importance samples


def test_what_a_metric_depends_on() -> None:
    fid = {"n_generated": 50000, "inception_weights": "f0de", "inception_score": "10 splits", "kid": "100 subsets"}
    ten = {"n_generated": 10000, "inception_weights": "f0de"}
    protocol = {"dataset": "cifar10", "ema": 0.998, "test/fid": fid, "test/10k_test_fid": ten, "eval/jsd": "all"}
    common = {"dataset": "cifar10", "n_generated": "50000", "inception_weights": "f0de"}
    assert protocol_of("test/fid", protocol) == common
    assert protocol_of("test/inception_score", protocol) == common | {"inception_score": "10 splits"}
    assert protocol_of("test/10k_test_fid", protocol)["n_generated"] == "10000"
    assert protocol_of("test/classes", protocol) == {"dataset": "cifar10"}
    flow = {"dataset": "mnist", "alpha": "1e-05", "importance_samples": {"valid": 1, "test": 8}}
    assert protocol_of("valid/bits_per_dim", flow)["importance_samples"] == "1"
    assert protocol_of("test/bits_per_dim", flow)["importance_samples"] == "8"


def test_what_a_configuration_alone_says(catalog: Catalog) -> None:
    """Defaults of the code make no difference: experiments that were not run are compared by their YAML."""
    for experiment in catalog:
        for metric in ("test/log_likelihood", "valid/bits_per_dim", "test/fid", "eval/fid"):
            assert expected_protocol(metric, experiment.flat) == expected_protocol(metric, experiment.settings)


# Tables


def column(table: Table, title: str) -> list[tuple[str, ...]]:
    k = [name.split(" ")[0] for name in table.columns].index(title)
    return [row[k].lines for row in table.rows]


def test_the_best_of_a_table_is_bold(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for name, value in (("vae-binmnist-L2", -155.0), ("vae-binmnist-L20", -100.5), ("vae-binmnist-L100", -101.1)):
        make_run(name, 1, {"valid/elbo": [(10, -200.0), (20, value)]})
    (table,) = result_tables(measured(judge(outputs, catalog)[0], "valid/elbo"))
    final = table.columns.index("final ↑")
    assert [(row[0].lines[0], row[final].lines[0]) for row in table.rows if row[final].bold] == [
        ("vae-binmnist-L20", "−100.50")
    ]
    assert column(table, "published") == [("",), ("",), ("−100.99", "−101.37")]
    assert column(table, "verdict") == [("",), ("",), ("✓ reached", "✓ reached")]


def test_families_share_no_column_unless_they_are_judged_alike(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    for name, metric, protocol in (
        ("vae-binmnist-L100", "test/log_likelihood", VAE | {"importance_samples": 200}),
        ("vae-binmnist-L20", "test/log_likelihood", VAE | {"importance_samples": 200}),
        ("iwae-binmnist-k50", "test/log_likelihood", VAE | {"importance_samples": 1000}),
        ("pixelcnn-binmnist", "test/log_likelihood", VAE | {"likelihood": "exact"}),
    ):
        make_run(name, 1, {metric: [(20, -90.0)]}, protocol=protocol)
    groups, _ = group([read(path) for path in find([outputs], [])], catalog)
    (table,) = tables.families_table(groups)
    titles = [title for title in table.columns if title.startswith("log p(x)")]
    assert titles == ["log p(x), M = 200 ↑", "log p(x), M = 1000 ↑", "log p(x), exact ↑"]
    filled = [[row[1].lines[0] for row in table.rows if any(row[table.columns.index(t)].lines)] for t in titles]
    assert filled == [["vae-binmnist-L20", "vae-binmnist-L100"], ["iwae-binmnist-k50"], ["pixelcnn-binmnist"]]
    assert set(column(table, "samples/s")) == {("7.25",)}


def test_seeds_that_were_judged_in_two_ways_have_two_columns(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    for seed, resize in enumerate(("bilinear", "bicubic"), 1):
        fid = {"n_generated": 5000, "n_reference": 50000, "inception_weights": "f0de", "resize": resize}
        protocol = {"dataset": "cifar10", "eval/fid": fid}
        make_run("cifar10-jsd-3", seed, {"eval/fid": [(10, 30.0 * seed)]}, protocol=protocol)
    groups, _ = group([read(path) for path in find([outputs], [])], catalog)
    (table,) = tables.families_table(groups)
    found = [k for k, title in enumerate(table.columns) if "FID" in title]
    assert {table.rows[0][k].lines for k in found} == {("30.00",), ("60.00",)}


def test_where_lower_is_better_the_lowest_is_bold(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for experiment, nll in (
        ("flow-arcs-samples-k2", 3.0),
        ("flow-arcs-samples-k8", 2.7),
        ("flow-arcs-samples-k32", 2.8),
    ):
        make_run(experiment, 1, {"test/nll": [(20, nll)]}, protocol={"dataset": "plane", "target": "arcs"})
    (table,) = result_tables(measured(judge(outputs, catalog)[0], "test/nll"))
    assert [row[0].lines[0] for row in table.rows if any(cell.bold for cell in row)] == ["flow-arcs-samples-k8"]


def test_an_own_run_is_judged_by_the_references_that_it_brings(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    run = make_run("vae-binmnist-L100", 1)
    for file in ("config.yaml", "summary.json"):
        (run / file).write_text((run / file).read_text().replace("vae-binmnist-L100", "mine"))
    (row,) = measured(judge(outputs, catalog)[0], "valid/elbo")
    assert (row.experiment, row.variant) == ("mine", "not an experiment of the configuration")
    assert [comparison.verdict for comparison in row.comparisons] == ["reached", "reached"]


def test_a_single_seed_has_the_standard_error_over_its_split(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    error = "test/log_likelihood_standard_error"
    for seed in (1, 2, 3):
        make_run("vae-binmnist-L100", seed, {"test/log_likelihood": [(20, -95.0 - seed)], error: [(20, 0.26)]})
        (row,) = measured(judge(outputs, catalog)[0], "test/log_likelihood")
        (table,) = result_tables([row])
        (text,) = table.rows[0][[name.split(" ")[0] for name in table.columns].index("final")].lines
        assert text == ("−96.00 ± 0.26", "−96.50 ± 0.26", "−97.00 [−98.00, −96.00]")[seed - 1]
        assert ("standard error" in table.note) == (seed < 3)
        assert row.standard_error == pytest.approx(0.26)


def test_places_of_a_sweep_are_in_their_order(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for theta in (0, 0.1, 0.25, 1, 2, 10):
        values = {"test/error": [(20, 0.1)], "test/w1": [(20, theta + 0.1)], "theory/w1": [(20, float(theta))]}
        make_run("divergence-w1", 1, values, changed=[f"dataset.theta={theta}"], protocol={"dataset": "lines"})
    (table,) = result_tables(measured(judge(outputs, catalog)[0], "test/w1"))
    assert column(table, "θ") == [("0",), ("0.1",), ("0.25",), ("1",), ("2",), ("10",)]


def test_speeds_of_different_machines_have_no_mean(make_run: MakeRun, outputs: Path, catalog: Catalog) -> None:
    for seed, device in enumerate(("cpu", "cpu", "H200"), 1):
        path = make_run("vae-binmnist-L100", seed) / "summary.json"
        summary = json.loads(path.read_text())
        speed = {"cpu": 10.0, "H200": 1000.0}[device]
        path.write_text(json.dumps(summary | {"device": device, "steps_per_second": speed * (1 + seed % 2)}))
    groups, _ = group([read(path) for path in find([outputs], [])], catalog)
    cost = tables.cost_table(groups)
    assert column(cost, "steps/s") == [("15",), ("2,000",)]
    assert column(cost, "device") == [("cpu",), ("H200",)]
    (across,) = tables.families_table(groups)
    assert (column(across, "steps/s"), column(across, "device")) == ([("15", "2,000")], [("cpu", "H200")])


def test_published_values_are_drawn_where_it_is_clear_whose_they_are(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    fid = {"n_generated": 5000, "n_reference": 50000, "inception_weights": "f0de"}
    protocol = {"dataset": "cifar10", "eval/fid": fid}
    for name in ("cifar10-jsd-1", "cifar10-jsd-3"):
        make_run(name, 1, {"eval/fid": [(10, 90.0), (20, 60.0)]}, protocol=protocol)
    first, second = measured(judge(outputs, catalog)[0], "eval/fid")
    assert pictures._published([first], "eval/fid") == [("report 000, Q2.7", 93.984)]
    assert pictures._published([first, second], "eval/fid") == []
    other = dataclasses.replace(second, comparisons=())
    assert pictures._published([first, other], "eval/fid") == [("cifar10-jsd-1, report 000, Q2.7", 93.984)]


def test_numbers() -> None:
    assert number(-101.124, 2) == "−101.12"
    assert number(1.5e-10, 7) == "1.5e−10"
    assert number(None) == ""
    assert number(0.0, 3) == "0.000"
    assert number(float("nan"), 2) == "not finite"


def test_markdown_escapes_what_would_be_markup() -> None:
    table = Table("a|b", "", ("x_y",), ((tables.Cell(("<b>|*",)),),))
    assert tables.markdown(table).splitlines()[-1] == r"| \<b\>\|\* |"
    assert tables.markdown(table).splitlines()[2] == r"| x\_y |"


@pytest.mark.parametrize(("value", "told"), [(-120.0, "Half of the steps."), (-90.0, "")])
def test_a_missed_value_says_why(make_run: MakeRun, outputs: Path, catalog: Catalog, value: float, told: str) -> None:
    make_run("vae-binmnist-L100", 1, {"valid/elbo": [(10, value)]})
    (row,) = measured(judge(outputs, catalog)[0], "valid/elbo")
    noted = [
        dataclasses.replace(c, reference=dataclasses.replace(c.reference, note="Half of the steps."))
        for c in row.comparisons
    ]
    (table,) = result_tables([dataclasses.replace(row, comparisons=tuple(noted))])
    assert table.rows[0][table.columns.index("verdict")].small == told


def test_published_values_of_another_binarization_have_a_table_of_their_own(
    make_run: MakeRun, outputs: Path, catalog: Catalog
) -> None:
    """Run or not run: −84.78 is of dynamic binarization, −86.82 of the fixed one."""
    make_run("vae-binmnist-L100", 1)
    for ran in (False, True):
        if ran:
            make_run("iwae-binmnist-k50", 1, {"test/log_likelihood": [(10, -90.0)]}, protocol=VAE)
        rows = [
            row for row in judge(outputs, catalog)[0] if row.experiment == "iwae-binmnist-k50" and row.comparisons
        ]
        told = {
            c.reference.value: (c.verdict, row.protocol["dataset"], row.variant)
            for row in rows
            for c in row.comparisons
        }
        assert told == {
            -86.82: ("missed" if ran else "not run", "binmnist", ""),
            -84.78: ("not run", "binmnist-dynamic", "dataset.name binmnist-dynamic"),
        }
