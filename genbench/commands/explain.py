"""`genbench explain NAME …`: what an experiment, a component, a group or a key is."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from genbench import compose, registry
from genbench.arguments import Parser
from genbench.catalogue import pages
from genbench.catalogue.files import NO_CHANGE, Catalogue, Experiment, offered
from genbench.catalogue.keys import GROUPS, changed, key_names, keys, options, shown
from genbench.commands.text import COMMANDS, names, paragraphs, terms, width
from genbench.engine.measurement import ARROWS
from genbench.errors import ConfigError
from genbench.naming import nearest

__all__ = ["explain", "main"]

CHOSEN_FROM = (*compose.GROUPS, *compose.HYDRA_GROUPS)
TRAINER = "trainer"
"""A group without components: its one file holds the settings of the training."""


USES = (
    ("genbench explain vae-mnist5k", "an experiment: its source, what is published, how long it takes, its settings"),
    ("genbench explain jsd", "a component: its equation, its options, the experiments with it"),
    ("genbench explain regularizer", "a group: its components"),
    ("genbench explain optimizer.lr", "a key: what it means, what it may be, the experiments that change it"),
    ("genbench explain --config-dir DIR NAME", "with your own experiments, DIR/experiment/NAME.yaml"),
)


def main(words: Sequence[str]) -> None:
    """Print what the words name. Raises ConfigError for a name that nothing has."""
    parser = Parser("genbench explain [--config-dir DIRECTORY] NAME …")
    parser.add_argument("names", nargs="*")
    parser.add_argument("-cd", "--config-dir", type=Path)
    parser.add_argument("-h", "--help", action="store_true")
    asked = parser.parse_args(list(words))
    if asked.config_dir is not None and not asked.config_dir.is_dir():
        raise ConfigError(f"--config-dir {asked.config_dir}: there is no such directory")
    catalogue = offered([asked.config_dir] if asked.config_dir else [])
    if asked.help or not asked.names:
        print(_usage(catalogue))
        return
    print("\n\n".join(explain(catalogue, name) for name in asked.names))


def _usage(catalogue: Catalogue) -> str:
    listed = {group: ", ".join(catalogue.names(group)) for group in CHOSEN_FROM}
    listed["experiment"] = f"{len(catalogue.names('experiment'))} of them: genbench explain experiment"
    lines = ["genbench explain NAME|KEY …: what it is", "", *terms(USES, width(), share=COMMANDS), ""]
    return "\n".join([*lines, "Groups and their components:", *terms(listed.items(), width())])


def explain(catalogue: Catalogue, word: str) -> str:
    """All that a word names, one after the other. Raises ConfigError with the nearest names if it names nothing."""
    found = [topic() for topic in _topics(catalogue, word)]
    if not found:
        similar = ", ".join(nearest(word.rpartition("=")[2], _known(catalogue)))
        raise ConfigError(f"nothing is called {word!r}", f"similar: {similar}" if similar else "see genbench --help")
    return "\n\n".join("\n".join(lines) for lines in found)


def _topics(catalogue: Catalogue, word: str) -> list[Callable[[], list[str]]]:
    """What explains each thing that the word names. A key is named by its last part, too, if nothing else is."""
    known, (key, equals, value) = key_names(catalogue), word.partition("=")
    if equals:  # as on a command line
        group = GROUPS.get(key, key.split("@")[0])
        if value in catalogue.names(group):
            return [partial(_choice, catalogue, group, value)]
        return [] if value and group in CHOSEN_FROM else _topics(catalogue, key)
    topics: list[Callable[[], list[str]]] = []
    if (group := word.replace(".", "/")) in CHOSEN_FROM:
        topics.append(partial(_group, catalogue, group))
    groups = [group for group in CHOSEN_FROM if group != TRAINER and word in catalogue.names(group)]
    topics += [partial(_choice, catalogue, group, word) for group in groups]
    if word in known:
        topics.append(partial(_key, catalogue, word))
    ends = [] if topics else [key for key in known if key.endswith(f".{word}") and not key.startswith("critic_")]
    return [*topics, *(partial(_key, catalogue, key) for key in ends)]


def _known(catalogue: Catalogue) -> list[str]:
    chosen = [name for group in CHOSEN_FROM if group != TRAINER for name in catalogue.names(group)]
    known = key_names(catalogue)
    return list(dict.fromkeys([*CHOSEN_FROM, *chosen, *known, *(key.rpartition(".")[2] for key in known)]))


def _choice(catalogue: Catalogue, group: str, name: str) -> list[str]:
    if group == "experiment":
        return _experiment(catalogue, catalogue.experiments[name])
    return _component(catalogue, group, name)


# Experiments


def _experiment(catalogue: Catalogue, experiment: Experiment) -> list[str]:
    everything = catalogue.experiments
    twin = everything.get(experiment.twin)
    facts = [
        ("command", f"genbench experiment={experiment.name}"),
        ("takes", "" if experiment.members else _times(experiment.name)),
        ("small twin", f"genbench experiment={twin.name}\n{twin.description}\n{_times(twin.name)}" if twin else ""),
        ("twin of", ", ".join(each.name for each in everything.values() if each.twin == experiment.name)),
        ("trains", _members(catalogue, experiment)),
        ("made of", "" if experiment.members else _components(experiment)),
        ("published", "\n".join(_published(experiment))),
        ("source", "\n".join(_sources(experiment))),
    ]
    lines = [f"experiment={experiment.name}", *paragraphs(experiment.description, width()), "", *_facts(facts)]
    if experiment.changes and not experiment.members:
        settings = [
            (f"{key}={shown(value)}", experiment.comments.get(key, "")) for key, value in experiment.changes.items()
        ]
        lines += ["", "  settings that are not the defaults", *terms(settings, width(), "    ", COMMANDS)]
    return lines


def _facts(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Those that there are."""
    return terms([row for row in rows if row[1]], width())


def _members(catalogue: Catalogue, experiment: Experiment) -> str:
    members = names(experiment.members, catalogue.experiments)
    return f"{members}; seeds of each: {experiment.replicas}" if members else ""


def _components(experiment: Experiment) -> str:
    """The words that choose them."""
    words = {key: key if GROUPS[key] == key else f"{GROUPS[key]}@{key}" for key in experiment.components}
    return " ".join(f"{words[key]}={name}" for key, name in experiment.components.items() if name)


def _times(experiment: str) -> str:
    return "\n".join(f"{time.duration} on {time.device}, measured: {time.page}" for time in pages.times(experiment))


def _published(experiment: Experiment) -> Iterator[str]:
    for entry in experiment.references:
        protocol = ", ".join(f"{key} {value}" for key, value in entry.protocol.items())
        said = [entry.source, f"{entry.at} value", protocol, entry.note]
        yield f"{entry.metric} {shown(entry.value)} {ARROWS[entry.better]}  {'; '.join(filter(None, said))}"


def _sources(experiment: Experiment) -> list[str]:
    """Of its published values, and what its description has in brackets."""
    cited = [*(entry.source for entry in experiment.references), *re.findall(r"\((.*?)\)", experiment.description)]
    return list(dict.fromkeys(filter(None, map(pages.source, cited))))


# Components and groups


def _component(catalogue: Catalogue, group: str, name: str) -> list[str]:
    lines = [f"{group}={name}"]
    for text in _documentation(catalogue, group, name):
        lines += [*paragraphs(text, width()), ""]
    place = next(key for key, of in GROUPS.items() if of == group)
    if rows := _options(catalogue, place, name):
        lines += [f"  options, {place}.…", *terms(rows, width(), "    "), ""]
    facts = [
        ("used by", _users(catalogue, place, name)),
        ("for critics by", _users(catalogue, f"critic_{place}", name)),
        ("code", "" if group in compose.HYDRA_GROUPS else _code(registry.lookup(group, name))),
    ]
    lines += _facts(facts)
    return lines if lines[-1] else lines[:-1]


def _options(catalogue: Catalogue, place: str, name: str) -> list[tuple[str, str]]:
    """The options of a component, with what they mean and may be."""
    rows = []
    for option in options(catalogue, GROUPS[place], name):
        (key,) = keys(catalogue, f"{place}.{option}", name)
        limits = "; ".join(filter(None, [key.values, f"default {key.default}" if key.default else "no default"]))
        rows.append((option, "\n".join(filter(None, [key.meaning, limits]))))
    return rows


def _users(catalogue: Catalogue, place: str, name: str) -> str:
    experiments = (each for each in catalogue.experiments.values() if not each.members)
    return names([each.name for each in experiments if each.components.get(place) == name], catalogue.experiments)


def _code(component: Any) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def _documentation(catalogue: Catalogue, group: str, name: str) -> list[str]:
    """Of its module, which has equation and source, and the first paragraph of its own."""
    if group in compose.HYDRA_GROUPS:
        return [catalogue.description(group, name)]
    component = registry.lookup(group, name)
    return list(filter(None, [inspect.getdoc(sys.modules[component.__module__]), _own(component)]))


def _own(component: Any) -> str:
    """The first paragraph of its own docstring, without the errors that it raises."""
    own = vars(component).get("__doc__") if inspect.isclass(component) else component.__doc__
    if not own or own.startswith(f"{component.__name__}("):  # what a dataclass has without a docstring
        return ""
    return re.sub(r"\s*\bRaises \w+Error\b.*", "", inspect.cleandoc(own).split("\n\n")[0], flags=re.DOTALL)


def _group(catalogue: Catalogue, group: str) -> list[str]:
    chosen = catalogue.entry.components.get(group)
    if group == TRAINER:
        said, rows = f"settings of the training, {group}.KEY=VALUE", _options(catalogue, group, str(chosen))
    else:
        said = f"chosen by {group}=NAME" + (f"; {chosen} where nothing is chosen" if chosen else "")
        rows = [(name, _summary(catalogue, group, name)) for name in catalogue.names(group)]
    return [group, *paragraphs(said, width()), "", *terms(rows, width())]


def _summary(catalogue: Catalogue, group: str, name: str) -> str:
    """A paragraph: the component's own, or that of its module if it is alone there."""
    if group == "experiment":
        return catalogue.description(group, name)
    texts = _documentation(catalogue, group, name)
    text = texts[0 if _alone(group, name) else -1] if texts else ""
    return " ".join(text.split("\n\n")[0].split())


def _alone(group: str, name: str) -> bool:
    if group in compose.HYDRA_GROUPS:
        return True
    modules = [registry.lookup(group, each).__module__ for each in registry.known(group)]
    return modules.count(registry.lookup(group, name).__module__) == 1


# Keys


def _key(catalogue: Catalogue, name: str) -> list[str]:
    lines: list[str] = []
    group = GROUPS.get(name.rpartition(".")[0], "")
    for key in keys(catalogue, name):
        by = [f"{value}: {names(who, catalogue.experiments)}" for value, who in changed(catalogue, key).items()]
        facts = [
            ("of", " ".join(f"{group}={component}" for component in key.components)),
            ("values", key.values),
            ("default", key.default or "none"),
            ("changed by", "" if name.partition(".")[0] in NO_CHANGE else "\n".join(by) or "no experiment"),
        ]
        lines += ["", name, *paragraphs(key.meaning, width()), *_facts(facts)]
    return lines[1:]
