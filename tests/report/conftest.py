"""Made-up runs: result.json files as far as the report reads them; and a reader of pages."""

import html.parser
import json

import pytest

from ektf_jax.report import results
from ektf_jax.report.paper.names import NAMES

LATEST = {"ecn": {"name": "ecn"}, "final": {"name": "final"}, "pnn": {"name": "pnn"}}


def result(method, aucs, ensemble=None, *, kinds=None, seed=1, dataset="ml1m", loss=0.3, **changes):
    """A result.json: `aucs` of the students, of the ensemble their mean unless given.

    `changes`: fusion, options of the method, learning_rate, l2, num_students for a concat ensemble.
    """
    options = changes.get("options", {})
    ensemble = sum(aucs) / len(aucs) if ensemble is None else ensemble
    return {
        "config": {
            "seed": seed,
            "data": {"path": f"data/{seed}"},
            "embedding": {"dim": 16} | ({"l2": changes["l2"]} if "l2" in changes else {}),
            "ensemble": {
                "num_students": changes.get("num_students", len(aucs)),
                "fusion": changes.get("fusion", "mean"),
                "students": kinds or {"mlp": {"name": "mlp", "hidden_units": [4]}},
            },
            "transfer": {"name": method, method: options, "unused": {"weight": seed}},
            "train": {"learning_rate": changes.get("learning_rate", 1e-3), "log_every": seed + 1},
        },
        "dataset": {"name": dataset, "features": 9749, "rows": {"train": 80, "valid": 10, "test": 10}},
        "params": 1234,
        "seed": seed,
        "epochs": 3,
        "best_epoch": 2,
        "valid": {
            "ensemble": {"auc": ensemble, "logloss": loss},
            "students": [{"auc": auc, "logloss": loss} for auc in aucs],
        },
        "test": {
            "ensemble": {"auc": ensemble, "logloss": loss},
            "students": [{"auc": auc, "logloss": loss + 0.01 * i} for i, auc in enumerate(aucs)],
        },
        "train_samples_per_second": 10.0,
        "wall_seconds": 90.0,
        "device": "cpu",
        "versions": {"jax": "0.10.2"},
    }


class Checker(html.parser.HTMLParser):
    """Collects what is not closed, ids, links, and every value of an attribute that names a resource."""

    VOID = ("meta", "img", "source")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.tags = [], [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.sources += [attrs["src"]] if "src" in attrs else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def load(directory):
    """The runs below a directory, called as the paper calls them."""
    return results.load(directory, names=NAMES)


def concat(num_students, auc, **changes):
    """A concat ensemble: no predictions of students."""
    made = result("none", [auc], num_students=num_students, fusion="concat", **changes)
    made["test"]["students"] = made["valid"]["students"] = []
    return made


def writer(root):
    """write(result, curve): into a directory of its own below root / "runs", which it returns."""
    written = []

    def write(made, curve=None):
        directory = root / "runs" / f"{len(written):03}"
        written.append(directory)
        directory.mkdir(parents=True)
        (directory / "result.json").write_text(json.dumps(made))
        if curve is not None:
            lines = [
                json.dumps({"epoch": i + 1, "valid": {"ensemble": {"auc": auc}}})
                for i, auc in enumerate(curve)
            ]
            (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return directory.parent

    return write


@pytest.fixture
def write(tmp_path):
    return writer(tmp_path)


@pytest.fixture(scope="session")
def section_3(tmp_path_factory):
    """Runs of every figure at K = 2 and 4, with a single MLP and EKTF_Latest: their directory."""
    write = writer(tmp_path_factory.mktemp("section_3"))
    write(result("none", [0.85]), [0.80, 0.84, 0.83])
    for size in (2, 4):
        low = [0.8 - 0.01 * i - 0.005 * size for i in range(size)]
        high = [0.89 + 0.001 * i for i in range(size)]
        write(result("none", low, 0.900 - 0.001 * size), [0.8, 0.85, 0.84])
        write(result("none", low, 0.898 - 0.001 * size, fusion="sum"))
        write(concat(size, 0.897 - 0.001 * size))
        write(result("kd", [auc - 0.01 for auc in high], 0.90 + 0.001 * size), [0.8, 0.86, 0.85])
        write(result("dml", high, 0.895), [0.8, 0.86, 0.85])
        write(result("ektf", high, 0.905, seed=1), [0.8, 0.87, 0.86])
        write(result("ektf", high, 0.907, seed=2))
    return write(result("ektf", [0.90, 0.91, 0.92], 0.93, kinds=LATEST), [0.8, 0.88, 0.87])
