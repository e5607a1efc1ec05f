"""Tables of docs/results.md and docs/research.md, between markers: `<!-- panel:good -->` to `<!-- /panel:good -->`."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from panel.book import Run, read_runs
from panel.methods import BLEMISH, METHODS, TRAINED
from panel.protocols import WITHOUT

FIGURES = ("image_auroc", "pixel_auroc", "aupro")
WORDS = ("image AUROC", "pixel AUROC", "AUPRO")
NOTHING = "–"

Figures = npt.NDArray[np.float64]  # image AUROC, pixel AUROC, AUPRO; NaN where there is none


class Results:
    """All runs, asked by set, method and protocol."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    def values(self, name: str, method: str, protocol: str, columns: Sequence[str] = FIGURES) -> Figures:
        """Columns (len(columns),) of a method on a set, means over seeds; NaN where there is no run or figure."""
        found = [run for run in self.runs if (run.set, run.method, run.protocol) == (name, method, protocol)]
        rows = [[getattr(run, column) for column in columns] for run in found]
        if not rows:
            return np.full(len(columns), np.nan)
        return np.array(rows, dtype=float).mean(0)  # None becomes NaN

    def sets(self, method: str, protocol: str) -> list[str]:
        """The sets that a method was run on."""
        return list(dict.fromkeys(run.set for run in self.runs if (run.method, run.protocol) == (method, protocol)))

    def methods(self) -> list[str]:
        """The methods of the protocol `good`, in the panel's order."""
        return [method for method in METHODS if self.sets(method, "good")]


def write(file: Path, document: Path) -> None:
    """Writes the tables of a CSV file into a document. Raises BlemishError for a marker that no table is for."""
    results = Results(read_runs(file).values())
    text = document.read_text(encoding="utf-8")

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise BlemishError(f"{document}: there is no table called {name}; there are {', '.join(TABLES)}")
        lines = list(TABLES[name](results)) or ["No runs yet."]
        return "\n".join([f"<!-- panel:{name} -->", "", *lines, "", f"<!-- /panel:{name} -->"])

    pattern = r"<!-- panel:(\S+) -->.*?<!-- /panel:\1 -->"
    document.write_text(re.sub(pattern, table, text, flags=re.DOTALL), encoding="utf-8")


def good(results: Results) -> Iterator[str]:
    """Every method on every set, and Blemish, where it was run, against the best peer of each figure."""
    methods = results.methods()
    sets = sorted({name for method in methods for name in results.sets(method, "good")})
    if not sets:
        return
    every = {method: np.array([results.values(name, method, "good") for name in sets]) for method in methods}
    peers = [method for method in methods if method != BLEMISH]
    compared = BLEMISH in methods and len(peers) > 0
    gains = every[BLEMISH] - np.fmax.reduce([every[peer] for peer in peers]) if compared else np.zeros((len(sets), 0))
    last = ("Blemish - best peer",) if compared else ()
    yield from _head("set", *methods, *last)
    for name, *rows, gain in zip(sets, *every.values(), gains, strict=True):
        yield _row(name, *map(_shares, rows), *(_shares(gain, "+") for _ in last))
    means = {method: _over_sets(rows, every.values(), np.mean) for method, rows in every.items()}
    yield _row("**mean**", *(_shares(means[method]) for method in methods), *(_with_errors(gains) for _ in last))
    worst = (_shares(_over_sets(rows, every.values(), np.min)) for rows in every.values())
    yield _row("worst set", *worst, *(_worst(gains, sets) for _ in last))
    if compared:
        yield _row("wins", *("" for _ in methods), _wins(gains))
        yield from ("", _against_single_peer(every, means, peers))


def summary(results: Results) -> Iterator[str]:
    """The means of `good`, a row a method; pixel figures are of the sets with masks."""
    methods = results.methods()
    sets = sorted({name for method in methods for name in results.sets(method, "good")})
    every = {method: np.array([results.values(name, method, "good") for name in sets]) for method in methods}
    if methods:
        yield from _head("method", *WORDS)
    for method, rows in every.items():
        yield _row(method, *(_share(value) for value in _over_sets(rows, every.values(), np.mean)))


def costs(results: Results) -> Iterator[str]:
    """What each method takes: medians over sets of their means over seeds."""
    columns = ("fit_s", "memory_mb", "image_ms", "model_mb")
    if results.methods():
        yield from _head("method", "s to fit", "MB of memory, peak", "ms an image", "MB of model")
    for method in results.methods():
        rows = [results.values(name, method, "good", columns) for name in results.sets(method, "good")]
        yield _row(method, *(_number(value) for value in np.median(rows, axis=0)))


def labels(results: Results) -> Iterator[str]:
    """What one and five labelled defects of each type add, on the images that are then left to test."""
    yield from _gains(results, {"1 mask a type": "masks-1", "5 masks": "masks-5", "5 without masks": "labels-5"})


def contamination(results: Results) -> Iterator[str]:
    """What defective images among the good ones cost, on the images that are then left to test."""
    yield from _gains(results, {f"{share} %": f"contaminated-{share}" for share in (5, 10, 20)}, every_method=True)


def unseen(results: Results) -> Iterator[str]:
    """What five masks of each other type do to a type that no label shows."""
    found = sorted({run.protocol for run in results.runs if run.protocol.startswith("unseen-")})
    rows = []
    for protocol in (one for one in found if not one.endswith(WITHOUT)):
        for name in results.sets(BLEMISH, protocol):
            pair = [results.values(name, BLEMISH, one) for one in (protocol + WITHOUT, protocol)]
            rows.append((name, protocol.split("-", 2)[2], *pair))
    if rows:
        yield from _head("set", "type", "without labels", "labels of the others", "difference")
    for name, kind, before, after in sorted(rows, key=lambda row: row[:2]):
        yield _row(name, kind, _shares(before), _shares(after), _shares(after - before, "+"))
    if rows:
        yield _row("**mean**", "", "", "", _with_errors([after - before for *_, before, after in rows]))


def few(results: Results) -> Iterator[str]:
    """Few good images, every method that was run so."""
    numbers = ("5", "10", "20")
    methods = [method for method in METHODS if any(results.sets(method, f"good-{number}") for number in numbers)]
    sets = sorted({name for method in methods for n in numbers for name in results.sets(method, f"good-{n}")})
    if sets:
        yield from _head("set", "method", *(f"{number} good images" for number in numbers), "all")
    for name in sets:
        for method in methods:
            values = [results.values(name, method, one) for one in (*(f"good-{n}" for n in numbers), "good")]
            yield _row(name, method, *(_shares(one) for one in values))
    for method in methods:
        means = [
            _means([results.values(name, method, one) for name in sets])
            for one in (*(f"good-{n}" for n in numbers), "good")
        ]
        yield _row("**mean**", method, *(_shares(one) for one in means))


def alarms(results: Results) -> Iterator[str]:
    """False alarms on the good test images beside what was promised."""
    columns = ("alarms_01", "alarms_05", "alarms_10", "promised", "detection")
    sets = sorted(results.sets(BLEMISH, "good"))
    if sets:
        yield from _head("set", "at 0.01", "at 0.05", "at 0.1", "rate of the threshold", "detected at it")
    rows = [results.values(name, BLEMISH, "good", columns) for name in sets]
    for name, row in zip(sets, rows, strict=True):
        yield _row(name, *(_share(value) for value in row))
    if sets:
        yield _row("**mean**", *(_share(value) for value in np.mean(rows, axis=0)))


def ablation(results: Results) -> Iterator[str]:
    """Research variants on every set, and each one's mean against that of the first one in the file."""
    names = list(dict.fromkeys(run.method for run in results.runs))
    sets = sorted({run.set for run in results.runs})
    every = {name: np.array([results.values(one, name, "good") for one in sets]) for name in names}
    if names:
        yield from _head("variant", *sets, "mean", f"mean - {names[0]}", "worst set")
    for name, rows in every.items():
        mean, gains = _over_sets(rows, every.values(), np.mean), rows - every[names[0]]
        yield _row(name, *map(_shares, rows), _shares(mean), _with_errors(gains), _worst(gains, sets))


def choice(results: Results) -> Iterator[str]:
    """Leave one set out: which variant the other sets choose, and what it and the first variant make of that set.

    A variant's worth on a set is the mean of its figures there; the sets choose by the mean of that.
    """
    names = list(dict.fromkeys(run.method for run in results.runs))
    sets = sorted({run.set for run in results.runs})
    every = {name: np.array([results.values(one, name, "good") for one in sets]) for name in names}
    worth = {name: np.array([_mean(row[~np.isnan(row)]) for row in rows]) for name, rows in every.items()}
    complete = [name for name in names if not np.isnan(worth[name]).any()]
    if not complete:
        return
    yield from _head("set left out", "chosen by the others", "its figures", names[0], "rank there")
    for place, one in enumerate(sets):
        others = {name: np.delete(worth[name], place).mean() for name in complete}
        chosen = max(others, key=lambda name: others[name])
        rank = 1 + sum(value > others[names[0]] for value in others.values())
        shown = (_shares(every[name][place]) for name in (chosen, names[0]))
        yield _row(one, chosen, *shown, f"{rank} of {len(complete)} ({others[names[0]] - others[chosen]:+.3f})")


PAPER = {("bottle", "good"): 0.97, ("bottle", "masks-1"): 0.96, ("screw", "good"): 0.86, ("screw", "masks-1"): 0.93}


def fcdd(results: Results) -> Iterator[str]:
    """Blemish's FCDD and HSC on good images and confetti, and with a mask of each type, beside the paper's FCDD."""
    yield from _head(
        "learned from", "set", "method", "image AUROC / pixel AUROC / AUPRO", "pixel AUROC, FCDD's paper", "minutes"
    )
    words = {"good": "good images, confetti", "masks-1": "good images, a mask a defect type"}
    for protocol, learned in words.items():
        for method in TRAINED:
            names = sorted(results.sets(method, protocol))
            found = {name: results.values(name, method, protocol) for name in names}
            for name, values in found.items():
                (seconds,) = results.values(name, method, protocol, ["fit_s"])
                published = _share(PAPER.get((name, protocol), float("nan")) if method == "fcdd" else float("nan"))
                yield _row(learned, name, method, _shares(values), published, f"{seconds / 60:.1f}")
            if len(names) > 1:
                mean = np.nanmean(list(found.values()), axis=0)
                yield _row(f"**{learned}**", f"**mean of {len(names)}**", f"**{method}**", _shares(mean), "", "")


TABLES: dict[str, Callable[[Results], Iterator[str]]] = {
    table.__name__: table
    for table in (good, summary, costs, labels, unseen, few, contamination, alarms, ablation, choice, fcdd)
}


def _gains(results: Results, protocols: dict[str, str], *, every_method: bool = False) -> Iterator[str]:
    """Pairs of trials with and without, a row for each set, method and protocol."""
    gains: dict[tuple[str, str], list[Figures]] = {}
    lines = []
    for method in METHODS if every_method else (BLEMISH,):
        for words, protocol in protocols.items():
            for name in sorted(results.sets(method, protocol)):
                before, after = (results.values(name, method, one) for one in (protocol + WITHOUT, protocol))
                gains.setdefault((method, words), []).append(after - before)
                shown = (_shares(before), _shares(after), _shares(after - before, "+"))
                lines.append(((name, METHODS.index(method)), _row(name, method, words, *shown)))
    if lines:
        yield from _head("set", "method", "with", "without", "with it", "difference")
    yield from (line for _, line in sorted(lines, key=lambda line: line[0]))
    for (method, words), differences in gains.items():
        yield _row("**mean**", method, words, "", "", _with_errors(differences))


def _against_single_peer(every: dict[str, Figures], means: dict[str, Figures], peers: Sequence[str]) -> str:
    """In a sentence, Blemish's mean against that of the one peer which is best in the mean, figure by figure."""
    parts = []
    for figure, words in enumerate(WORDS):
        whole = [peer for peer in peers if not np.isnan(means[peer][figure])]
        if whole:
            best = max(whole, key=lambda peer: means[peer][figure])
            gain = (every[BLEMISH] - every[best])[:, figure]
            parts.append(f"{words} {_with_error(gain)} ({best})")
    return "\n".join(["Mean difference to the one peer that is best in the mean:", *(f"* {part}" for part in parts)])


def _with_errors(gains: Sequence[Figures]) -> str:
    return " / ".join(_with_error(column) for column in np.transpose(gains))


def _with_error(values: Figures) -> str:
    """Mean over sets ± its standard error, from the spread of the sets whose figures are means over seeds."""
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return _share(_mean(values), "+")
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def _worst(gains: Sequence[Figures], sets: Sequence[str]) -> str:
    parts = []
    for column in np.transpose(gains):
        known = ~np.isnan(column)
        parts.append(f"{np.nanmin(column):+.3f} ({sets[np.nanargmin(column)]})" if known.any() else NOTHING)
    return " / ".join(parts)


def _wins(gains: Sequence[Figures]) -> str:
    return " / ".join(f"{(column > 0).sum()} of {(~np.isnan(column)).sum()}" for column in np.transpose(gains))


def _over_sets(rows: Figures, every: Iterable[Figures], reduce: Callable[[Figures], float]) -> Figures:
    """Figures (3,) over sets of rows (sets, 3); NaN where a set is missing that another method has the figure of."""
    there = ~np.isnan(np.fmax.reduce(list(every)))
    columns = (column[known] for column, known in zip(rows.T, there.T, strict=True))
    return np.array([reduce(column) if len(column) else np.nan for column in columns])


def _means(rows: Sequence[Figures]) -> Figures:
    return np.array([_mean(column[~np.isnan(column)]) for column in np.transpose(rows)])


def _mean(values: Figures) -> float:
    return float(values.mean()) if len(values) else np.nan


def _shares(values: Figures, sign: str = "") -> str:
    """Figures in a cell; those of pixels are left away where there are no masks."""
    kept = values if not np.isnan(values[1:]).all() else values[:1]
    return " / ".join(_share(value, sign) for value in kept)


def _share(value: float, sign: str = "") -> str:
    return NOTHING if np.isnan(value) else f"{value:{sign}.3f}"


def _number(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.1f}"


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
