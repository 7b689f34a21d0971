"""How a `WinningTicket` or a `Distilled` runs: all its ways from one network.

The dense network is trained once, and keeps its state at every step that
tickets go back to.
"""

import dataclasses
import math

import keras

from mpt_keras.experiments import (
    lines,
    running,
    searching,
    shipping,
    training,
    versions,
    ways,
)
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.following import in_force_of
from mpt_keras.lottery import (
    Magnitude,
    TicketSearch,
    distiller,
    prunable_kernels,
)
from mpt_keras.lottery.kernels import convolution_kernels, output_kernels


def plan(settings):
    """The `running.Plan` of a run by settings that are all said."""
    parts = (settings.dataset, settings.model, settings.kind)
    return running.Plan(running.file_name(parts), _begin)


def _begin(prepared):
    prepared.devices.check_one_machine("prune ordinary networks")
    try:
        network = _build(prepared)
        pruning = _pruning(network, prepared.settings)
        _check(network, pruning, prepared)
        teacher = _teacher(prepared)
    except ValueError as error:
        raise RunError(error) from error
    return lambda path: _Run(prepared, pruning, teacher, path).all()


def _build(prepared):
    """The ordinary network, with its initial weights."""
    return searching.build(
        prepared,
        masked=False,
        kernel_initializer=prepared.settings.initializer,
    )


def _pruning(network, settings):
    """`Magnitude` by the settings."""
    rates = {}
    if settings.only_convolutions:
        kernels = prunable_kernels(network)
        rates = {k: 0 for k, kernel in kernels.items() if kernel.ndim == 2}
    return Magnitude(
        rate=settings.pruning_rate,
        scope=settings.scope,
        convolution_rate=settings.convolution_rate,
        output_rate=settings.output_rate,
        rates=rates,
    )


def _check(network, pruning, prepared):
    """Refuses steps and sparsities that no training and no pruning reaches."""
    settings = prepared.settings
    steps = settings.epochs * prepared.batches().per_epoch
    if max(settings.rewind_steps) >= steps:
        raise RunError(
            f"Invalid value for `rewind_steps`. Expected steps before the end, "
            f"{steps}. Received: rewind_steps={settings.rewind_steps}"
        )
    kernels = prunable_kernels(network)
    sizes = {name: math.prod(one.shape) for name, one in kernels.items()}
    rates = pruning.rates_of(
        sizes, convolution_kernels(network), output_kernels(network)
    )
    for sparsity in settings.sparsities or ():
        pruning.rounds_for(sparsity, sizes, rates)


@dataclasses.dataclass(frozen=True)
class _Teacher:
    """The dense network, and what trains a student by it."""

    network: keras.Model
    distilled: object


def _teacher(prepared):
    settings = prepared.settings
    if not set(settings.ways) & set(ways.TAUGHT):
        return None
    teacher = _build(prepared)
    whole = training.with_preprocessing(teacher, prepared.images)

    def distilled(student):
        return distiller(
            *(whole, student, settings.temperature, settings.alpha),
            settings.kl_reduction,
        )

    # Or an error, before anything is trained.
    distilled(training.with_preprocessing(_build(prepared), prepared.images))
    return _Teacher(teacher, distilled)


class _Run:
    """All tickets of one folder, each a line."""

    def __init__(self, prepared, pruning, teacher, path):
        self.prepared, self.pruning = prepared, pruning
        self.teacher, self.path = teacher, path
        self.settings = prepared.settings
        self.there = {line["folder"] for line in lines.read(path / lines.NAME)}

    def all(self):
        """Trains what is not there yet."""
        settings, asked = self.settings, set(self.settings.ways)
        in_rounds = asked & {"winning_ticket", *ways.CONTROLS}
        at_once = asked & set(ways.AT_ONCE)
        for step in settings.rewind_steps:
            first = step == settings.rewind_steps[0]
            if in_rounds:
                self._in_rounds(asked, step)
            if "learning_rate_rewinding" in asked:
                search = self._search("learning_rate", step, keeps_weights=True)
                for sparsity, ticket in self._tickets(search):
                    self._add("learning_rate_rewinding", sparsity, ticket, step)
            if at_once:
                self._at_once(asked, step, first)

    # --- Ways ------------------------------------------------------------

    def _in_rounds(self, asked, step):
        search = self._search("rounds", step)
        for sparsity, ticket in self._tickets(search):
            if "winning_ticket" in asked:
                self._add("winning_ticket", sparsity, ticket, step)
            for name in ways.CONTROLS:
                if name not in asked:
                    continue
                for draw in range(self.settings.draws):
                    control = search.control(
                        ticket, name, self.settings.seed + 1000 * draw
                    )
                    self._add(name, sparsity, control, step, draw=draw)

    def _at_once(self, asked, step, first):
        """Tickets of one mask, in several ways; `first` step, or a later."""
        search = self._search("at_once", step, one_shot=True)
        for sparsity, ticket in self._tickets(search):
            if "one_shot" in asked:
                self._add("one_shot", sparsity, ticket, step)
            starts = {}
            if first:
                starts |= {"retraining": "initial", "kd_ticket": "initial"}
            if step:
                starts |= {"kd_rewinding": "rewound"}
            for name, start in starts.items():
                if name in asked:
                    found = self._retrain(search, ticket, name, start)
                    of = step if start == "rewound" else 0
                    self._add(name, sparsity, found, of)

    def _retrain(self, search, ticket, name, start):
        train = None
        if name in ways.TAUGHT:
            self._let_teach(search)
            train = self._trainer(self.teacher.distilled)
        return search.retrain(ticket, name, start, train=train)

    def _let_teach(self, search):
        search.load(search.at(0.0))
        self.teacher.network.set_weights(search.model.get_weights())

    # --- Searches --------------------------------------------------------

    def _search(self, name, step, keeps_weights=False, one_shot=False):
        settings = self.settings
        try:
            return TicketSearch(
                _build(self.prepared),
                self._trainer(),
                self.path / f"{name}-from-{step}",
                self.pruning,
                rewind_step=step,
                training_steps=settings.epochs
                * self.prepared.batches().per_epoch,
                rewind_weights=not keeps_weights,
                one_shot=one_shot,
                dense=self.path / "unpruned",
                keep_steps=settings.rewind_steps,
            )
        except ValueError as error:
            raise RunError(error) from error

    def _tickets(self, search):
        """Pairs of the sparsity asked for and the ticket, as they are found."""
        settings = self.settings
        self._add("unpruned", None, search.at(0.0), None)
        if settings.sparsities is None:
            for ticket in search.run(settings.rounds):
                if ticket.number:
                    yield round(ticket.sparsity, 6), ticket
            return
        for sparsity in sorted(settings.sparsities):
            yield sparsity, search.at(sparsity)

    def _trainer(self, distilled=None):
        """The `train` function of a `TicketSearch`."""

        def train(network, level):
            trained = training.train(
                *(network, self.prepared, level.folder, level.callbacks),
                first_step=level.first_step,
                distilled=distilled,
            )
            # A training that had come to its end before was not repeated.
            last = keras.models.load_model(
                level.folder / "last.keras", compile=False
            )
            network.set_weights(last.get_layer(network.name).get_weights())
            return {
                **trained.figures,
                **shipping.save_small(last, level.folder),
            }

        return train

    # --- Lines -----------------------------------------------------------

    def _add(self, method, sparsity, ticket, step, **further):
        place = ticket.folder.relative_to(self.path).as_posix()
        if place in self.there:
            return
        line = {
            **searching.identity(self.prepared, method, sparsity),
            "rewind_step": step,
            "rounds": ticket.number,
            **further,
            "folder": place,
            "weights": ticket.weights,
            "weights_kept": ticket.kept,
            **ticket.result,
            "settings": in_force_of(self.settings),
            "versions": versions.here(),
        }
        lines.append(self.path / lines.NAME, [line])
        self.there.add(place)
        searching.report(line)
