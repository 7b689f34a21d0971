"""Many tasks over one random network: a mask for each of them."""

import contextlib
import dataclasses
import difflib
import os
import pathlib
import weakref
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from mpt_keras import files, optimizer_state
from mpt_keras.layers.traversal import masked_layers, walk
from mpt_keras.many_tasks.folder import (
    INDEX,
    NETWORK,
    START,
    check_name,
    named_in_errors,
    read_index,
    ticket_path,
)
from mpt_keras.many_tasks.held import (
    Bits,
    Scores,
    Task,
    are_the_same,
    as_array,
    checksum,
)
from mpt_keras.many_tasks.summary import TasksSummary, TaskSummary
from mpt_keras.sparsity import pruned_count
from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.loading import check_weights, kernel_pairs, load_ticket
from mpt_keras.ticket.packaged import as_path
from mpt_keras.ticket.reading import MAX_WEIGHTS, Ticket, parse_ticket
from mpt_keras.ticket.saving import ticket_bytes
from mpt_keras.ticket.slots import other_weights, slots_of


class TaskMasks:
    """Named tasks over one masked network: `k` of them cost `k` masks.

    The random kernels are the same for all. A task has its own scores, and
    with them its masks and sparsities, and its own of whatever else training
    moves: biases, batch norms, ordinary layers such as heads. `add` begins a
    task and `switch` goes to another; both put away what the model holds and
    load the other's, by assigning variables, so that compiled functions stay
    as they are. No task changes what another predicts.

    A new task begins with what the model held when `TaskMasks` was made: of a
    freshly built model, the scores that follow from the seeds. Of what a task
    did not change, no copy is kept. States of random generators (dropout) go
    on from task to task.

    The optimizer that the model is compiled with belongs to the task as well:
    a new task begins with no momentum and at step 0, and `switch` brings back
    what it was for the task. Its learning rate, if it is a number, stays; to
    train with another one or with another loss, compile the model anew: then
    all tasks begin with no momentum. Switch between calls of `fit`, not in
    them.

    In memory, a task holds what training continues with: 4 bytes per weight
    for its scores, and what the optimizer has for them. `pack` keeps one bit
    per weight instead, with the same predictions. In files, `save` takes even
    less, see `mpt_keras.save_ticket`.

    Args:
        model: A built Keras model with masked layers, whose weights are
            assigned from now on; nothing is changed yet. No task is current.

    Raises:
        ValueError: If it is no such model.

    Example:

    >>> tasks = mpt_keras.TaskMasks(model)
    >>> tasks.add("digits")
    >>> history = model.fit(images, labels, verbose=0)
    >>> tasks.add("reversed")
    >>> history = model.fit(images, 1 - labels, verbose=0)
    >>> tasks.switch("digits")
    >>> scores = model.predict(images, verbose=0)
    >>> tasks.names, tasks.current
    (('digits', 'reversed'), 'digits')
    >>> tasks.save("tasks")
    >>> loaded = mpt_keras.TaskMasks.load("tasks")
    >>> bool(np.all(loaded.model.predict(images, verbose=0) == scores))
    True

    Reference:
        Mallya et al., "Piggyback: Adapting a Single Network to Multiple Tasks
        by Learning to Mask Weights", ECCV 2018 (arXiv:1801.06519); Wortsman
        et al., "Supermasks in Superposition", NeurIPS 2020 (arXiv:2006.14769).
    """

    def __init__(self, model: keras.Model):
        if not isinstance(model, keras.Model):
            raise ValueError(
                "Invalid value for argument `model`. Expected a Keras model. "
                f"Received: model={model!r}"
            )
        if not model.built:
            raise ValueError(
                f"Model '{model.name}' is not built, so its weights do not "
                "exist yet. Call it on a batch, or start it with keras.Input."
            )
        self._masked = [
            slot.masked for slot in slots_of(model).values() if slot.masked
        ]
        if not self._masked:
            raise ValueError(
                f"Model '{model.name}' holds no masked layer, so there is "
                "nothing of which each task could have its own. Expected "
                "layers such as mpt_keras.MPTDense."
            )
        self.model = model
        self._layers = masked_layers(model)
        self._asked = [layer._sparsities for layer in self._layers]
        self._frozen, self._others = _divided(model, self._masked)
        self._shared = self._what_is_shared()
        self._start = self._read()
        self._tasks: dict[str, Task] = {}
        self._current = None
        # Of the scores that a packed task was loaded with.
        self._loaded_scores = None
        # The network's file and ticket, once somebody needs them.
        self._network_bytes = None
        self._network_ticket = None

    # --- Tasks -----------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tasks, in the order in which they were added."""
        return tuple(self._tasks)

    @property
    def current(self) -> str | None:
        """The name of the task that the model holds, None if it is none."""
        return self._current

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __repr__(self):
        return (
            f"TaskMasks({self.model.name!r}, names={list(self.names)}, "
            f"current={self.current!r})"
        )

    def add(
        self,
        name: str,
        start: str | None = None,
        ticket: Ticket | str | os.PathLike[str] | None = None,
    ) -> None:
        """Adds a task and switches to it.

        Args:
            name: Of the task: letters, digits, `_`, `-`, `.` and spaces, as
                its file is called so.
            start: Name of another task, with whose scores and other weights
                it begins; by default it begins as the first task did.
            ticket: A ticket of this network, or its file, to begin with: one
                of `save`, or one that is whole by itself, or the name of one
                that comes with the package. Its random kernels must be those
                of the model.

        Raises:
            ValueError: If the name is taken (in upper or lower case), or none
                for a file; if there is no task `start`; if both `start` and
                `ticket` are given; or as for `switch`. Nothing is changed
                then.
            TicketError: If it is no ticket, or one of another network.
            OSError: If it cannot be read.

        Example:

        >>> tasks = mpt_keras.TaskMasks(model)
        >>> tasks.add("first")
        >>> tasks.add("second", start="first")
        >>> tasks.current
        'second'
        """
        check_name(name)
        taken = {known.casefold(): known for known in self._tasks}
        if name.casefold() in taken:
            raise ValueError(
                "Invalid value for argument `name`. Expected that of no other "
                f"task, but there is '{taken[name.casefold()]}'. Received: "
                f"name={name!r}. Use `switch`, or `remove` it first."
            )
        if start is not None and ticket is not None:
            raise ValueError(
                "Expected `start` or `ticket`, from which the task begins. "
                f"Received both: start={start!r}, ticket={ticket!r}"
            )
        begin = self._start
        if start is not None:
            self._check_known(start, "start")
            begin = self._tasks[start]
            if start == self._current:
                begin = self._now()
        if ticket is not None:
            begin = self._task_of(self._read_ticket(ticket))
        begin = dataclasses.replace(begin, optimizer=None, optimizer_state=None)
        self._go(name, begin)

    def switch(self, name: str) -> None:
        """Puts away what the model holds, and loads another task.

        Args:
            name: Of the task.

        Raises:
            ValueError: If there is no such task; if a frozen kernel is no
                longer that of the network (as after `WeightRecycling`), or
                `binarize` of a layer not what it was; or if the optimizer
                cannot be set back. Nothing is changed then.

        Example:

        >>> tasks = mpt_keras.TaskMasks(model)
        >>> tasks.add("first")
        >>> tasks.add("second")
        >>> tasks.switch("first")
        >>> tasks.current
        'first'
        """
        self._check_known(name)
        if name != self._current:
            self._go(name, self._tasks[name])

    def remove(self, name: str) -> None:
        """Forgets a task.

        After the current one the model holds what it held, and none is
        current; what it holds is lost at the next `add` or `switch`. Files
        stay.

        Raises:
            ValueError: If there is no such task.
        """
        self._check_known(name)
        del self._tasks[name]
        if name == self._current:
            self._current = None

    def pack(self, name: str | None = None) -> None:
        """Keeps of a task its masks instead of its scores: bits, not numbers.

        It predicts the same. Training goes on from the scores at which the
        search began, moved across the threshold where the mask says so, as
        after `load_ticket`, and with no momentum. A packed task that is
        trained on is no longer packed.

        Args:
            name: Of the task; by default all are packed.

        Raises:
            ValueError: If there is no such task, or one of its scores is NaN.
        """
        if name is not None:
            self._check_known(name)
        names = self.names if name is None else (name,)
        if self._current in names:
            self._tasks[self._current] = self._now()
        with self._as_it_was():
            packed = {
                name: self._packed(self._tasks[name])
                for name in names
                if not self._tasks[name].is_packed
            }
        self._tasks |= packed
        if self._current in packed:
            self._loaded_scores = self._scores_checksum()

    def _packed(self, task):
        self._write(task)
        for masked in self._masked:
            masked.check_scores()
        kernels = [Bits.of(masked.arrays()[1]) for masked in self._masked]
        return Task(task.sparsities, kernels, task.others)

    def summary(self) -> TasksSummary:
        """Returns what the tasks take, in files and in memory.

        Example:

        >>> tasks = mpt_keras.TaskMasks(model)
        >>> tasks.add("first")
        >>> tasks.pack()
        >>> row = tasks.summary().rows[0]
        >>> row.name, row.weights, row.kept, row.memory_bytes
        ('first', 48, 24, 6)

        Raises:
            ValueError: As for `save`.
        """
        network, start, tickets = self._encoded()
        return TasksSummary(
            len(network) + len(start),
            tuple(self._row(name, data) for name, data in tickets.items()),
        )

    def _row(self, name, data):
        task = self._tasks[name]
        own = [
            other
            for other, first in zip(
                task.others, self._start.others, strict=True
            )
            if other is not first
        ]
        held = [*task.kernels, *own, *(task.optimizer_state or [])]
        return TaskSummary(
            name=name,
            weights=sum(masked.size for masked in self._masked),
            kept=sum(kernel.kept for kernel in task.kernels),
            ticket_bytes=len(data),
            mask_bytes=sum(
                array.nbytes
                for name, array in Contents(data).arrays.items()
                if name.startswith("masks/")
            ),
            memory_bytes=sum(part.nbytes for part in held),
            is_packed=task.is_packed,
        )

    # --- Files -----------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the network once, and a ticket for each task.

        `network.ticket` is what all share, `tasks/NAME.ticket` is the ticket
        of a task with `base=` the network: `mpt_keras.load_ticket(folder /
        "tasks" / "digits.ticket", base=folder / "network.ticket")` is a model
        of that task alone. `start.ticket` is with what a new task begins, and
        `tasks.json` lists the tasks, written last. Scores and optimizers are
        not saved: a task that is loaded is a packed one.

        All are encoded before any is written, and each file is whole at every
        moment. What was saved in the folder before and is not replaced stays.

        Args:
            folder: New, or one to which tasks of this network were saved.

        Raises:
            ValueError: If the folder holds another network, a score is NaN, or
                the model makes no ticket. Nothing is written then.
            OSError: If a file cannot be written.
        """
        folder = pathlib.Path(folder)
        network, start, tickets = self._encoded()
        there = folder / NETWORK
        if there.exists() and there.read_bytes() != network:
            raise ValueError(
                f"'{folder}' holds another network than model "
                f"'{self.model.name}', or the same one of layers with other "
                "names. Expected the folder of this network, or a new one."
            )
        (folder / "tasks").mkdir(parents=True, exist_ok=True)
        if not there.exists():
            files.write_whole(there, network)
        files.write_whole(folder / START, start)
        for name, data in tickets.items():
            files.write_whole(ticket_path(folder, name), data)
        index = {"version": 1, "tasks": self.names, "current": self.current}
        files.write_json(folder / INDEX, index)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        custom_objects: Mapping[str, type] | None = None,
        max_weights: int = MAX_WEIGHTS,
    ) -> "TaskMasks":
        """Loads the network and the tasks that `save` wrote.

        The model predicts what it predicted, for every task, bit by bit; the
        task that was current is current. It is not compiled.

        Args:
            folder: The folder.
            custom_objects, max_weights: As for `mpt_keras.load_ticket`.

        Raises:
            TicketError: If a file is missing or none that `save` wrote, or is
                the ticket of another network.
            OSError: If a file cannot be read.
        """
        folder = pathlib.Path(folder)
        names, current = read_index(folder / INDEX)
        with named_in_errors(folder / NETWORK) as path:
            network = path.read_bytes()
            ticket = parse_ticket(network, max_weights=max_weights)
        model = load_ticket(path, None, custom_objects, max_weights)
        tasks = cls(model)
        tasks._network_bytes, tasks._network_ticket = network, ticket
        found = {}
        for path in (
            folder / START,
            *(ticket_path(folder, name) for name in names),
        ):
            with named_in_errors(path):
                stored = parse_ticket(path.read_bytes(), ticket, max_weights)
                found[path] = tasks._task_of(stored)
        start, *others = found.values()
        tasks._write(start)
        tasks._start = tasks._read()
        tasks._tasks = {
            name: tasks._sharing(task)
            for name, task in zip(names, others, strict=True)
        }
        if current is not None:
            tasks.switch(current)
        return tasks

    def _encoded(self):
        """Bytes of the network, of the start, and of every task by name."""
        self._check_frozen()
        network = self._network()
        if self._current is not None:
            self._tasks[self._current] = self._now()
        with self._as_it_was():
            self._write(self._start)
            start = ticket_bytes(self.model, network)
            tickets = {}
            for name, task in self._tasks.items():
                self._write(task)
                tickets[name] = ticket_bytes(self.model, network)
        return self._network_bytes, start, tickets

    def _network(self):
        """The ticket that those of the tasks are saved against."""
        if self._network_ticket is None:
            with self._as_it_was():
                self._write(self._start)
                data = ticket_bytes(self.model, every_weight=True)
            self._network_bytes = data
            self._network_ticket = parse_ticket(data)
        return self._network_ticket

    def _read_ticket(self, ticket):
        if isinstance(ticket, Ticket):
            return ticket
        if not isinstance(ticket, (str, bytes, os.PathLike)):
            raise ValueError(
                "Invalid value for argument `ticket`. Expected a ticket's "
                "file, or what `read_ticket` returns. Received: "
                f"{type(ticket).__name__}"
            )
        try:
            path = as_path(ticket)
        except FileNotFoundError as error:
            raise TicketError(str(error)) from error
        with named_in_errors(path):
            data = path.read_bytes()
            base = Contents(data).base and self._network()
            return parse_ticket(data, base or None)

    def _task_of(self, ticket):
        """The task of a ticket, after its kernels were compared with ours."""
        slots = list(slots_of(self.model).values())
        pairs = kernel_pairs(ticket, slots)
        weights = other_weights(self.model, [slot for slot, _ in pairs])
        check_weights(ticket, weights)
        values = {
            id(variable): array
            for variable, array in zip(
                weights.values(), ticket.weights.values(), strict=True
            )
        }
        masks = {}
        for slot, stored in pairs:
            if slot.masked is None:
                values[id(slot.kernel)] = stored.effective
                continue
            kernel = as_array(slot.kernel)
            if not _keeps_weights_of(stored, kernel):
                raise TicketError(
                    f"Its kernel '{stored.name}' is not that of layer "
                    f"'{slot.layer.name}': it is the ticket of another random "
                    "network. Expected one of the same seeds."
                )
            masks[id(slot.masked)] = stored.mask
        sparsities = [
            _sparsity([masks[id(one)] for one in layer.masked_kernels], asked)
            for layer, asked in zip(self._layers, self._asked, strict=True)
        ]
        kernels = [Bits.of(masks[id(masked)]) for masked in self._masked]
        others = [values[id(variable)] for variable in self._others]
        return self._sharing(Task(sparsities, kernels, others))

    # --- The model's variables -------------------------------------------

    def _go(self, name, task):
        """Makes a task the current one, after what may fail."""
        self._check_frozen()
        optimizer = getattr(self.model, "optimizer", None)
        state = None
        if optimizer is not None and optimizer.built:
            is_own = task.optimizer is not None and task.optimizer() is (
                optimizer
            )
            state = task.optimizer_state if is_own else None
            state = state or optimizer_state.fresh_state(
                optimizer, self.model.trainable_variables
            )
        if self._current is not None:
            self._tasks[self._current] = self._now()
        self._tasks[name] = task
        self._write(task)
        if state is not None:
            optimizer_state.set_state(optimizer, state)
        self._current = name
        self._loaded_scores = (
            self._scores_checksum() if task.is_packed else None
        )

    def _now(self):
        """The current task as the model holds it."""
        task = self._read()
        stored = self._tasks[self._current]
        if stored.is_packed and self._loaded_scores == self._scores_checksum():
            return dataclasses.replace(task, kernels=stored.kernels)
        optimizer = getattr(self.model, "optimizer", None)
        state = optimizer_state.state_of(optimizer)
        if state is None:
            return task
        return dataclasses.replace(
            task, optimizer=weakref.ref(optimizer), optimizer_state=state
        )

    def _read(self):
        kernels = [
            Scores(as_array(masked.scores), int(as_array(masked.pruned)))
            for masked in self._masked
        ]
        sparsities = [layer.sparsity for layer in self._layers]
        others = list(map(as_array, self._others))
        return self._sharing(Task(sparsities, kernels, others))

    def _sharing(self, task):
        """The same task, without copies of what is as at the start."""
        start = getattr(self, "_start", task).others
        others = [
            first if are_the_same(other, first) else other
            for other, first in zip(task.others, start, strict=True)
        ]
        return dataclasses.replace(task, others=others)

    def _write(self, task):
        for layer, sparsity in zip(self._layers, task.sparsities, strict=True):
            layer.sparsity = sparsity  # as it was asked for
        for masked, kernel, start in zip(
            self._masked, task.kernels, self._start.kernels, strict=True
        ):
            kernel.put(masked, start)
        for variable, value in zip(self._others, task.others, strict=True):
            variable.assign(value)

    @contextlib.contextmanager
    def _as_it_was(self):
        """A scope in which the model may hold other tasks."""
        held = self._read()
        try:
            yield
        finally:
            self._write(held)

    def _what_is_shared(self):
        """Pairs of a name and what may not change; names may be alike."""
        checksums = [(v.path, checksum([v])) for v in self._frozen]
        return checksums + [
            (f"{one.layer_name}.binarize", one.binarize) for one in self._masked
        ]

    def _scores_checksum(self):
        return checksum(
            variable
            for masked in self._masked
            for variable in (masked.scores, masked.pruned)
        )

    def _check_frozen(self):
        """Raises `ValueError` if what all tasks share has changed."""
        for now, before in zip(
            self._what_is_shared(), self._shared, strict=True
        ):
            if now != before:
                raise ValueError(
                    f"'{now[0]}' of model '{self.model.name}' has changed "
                    "since TaskMasks was made of the model, and with it what "
                    "every task predicts. Expected frozen kernels, `binarize` "
                    "and layers such as Normalization as they were: without "
                    "WeightRecycling, and adapted before."
                )

    def _check_known(self, name, argument="name"):
        if name in self._tasks:
            return
        names = ", ".join(f"'{known}'" for known in self._tasks)
        near = difflib.get_close_matches(str(name), self._tasks, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected "
            f"{f'one of the tasks {names}' if names else 'a task, but none'}"
            f"{'' if names else ' was added yet'}. Received: "
            f"{argument}={name!r}.{hint}"
        )


def _divided(model, masked):
    """What all tasks share, and what each has beside its scores."""
    frozen = [one.kernel for one in masked]
    frozen += [one.frozen for one in masked if one.frozen is not None]
    for _, layer in walk(model):
        if hasattr(layer, "finalize_state"):  # compiled in as constants
            frozen += layer.weights
    left_out = {id(variable) for variable in frozen}
    for one in masked:
        left_out |= {id(one.scores), id(one.pruned)}
    return frozen, [v for v in model.weights if id(v) not in left_out]


def _sparsity(masks, asked):
    """What masks prune, as a layer has it: what was asked for, if it is that.

    Args:
        masks: A Boolean array for each kernel.
        asked: A number for each kernel.
    """
    pruned = [mask.size - np.count_nonzero(mask) for mask in masks]
    found = tuple(
        number
        if pruned_count(number, mask.size) == count
        else count / mask.size
        for mask, count, number in zip(masks, pruned, asked, strict=True)
    )
    return found[0] if len(found) == 1 else found


def _keeps_weights_of(stored, kernel):
    """Whether a ticket's kernel computes with the weights of this one."""
    if stored.binarize and stored.draw is None:
        signs = np.where(stored.mask, np.sign(kernel), 0)
        return np.array_equal(stored.ternary, signs)
    kept = stored.kernel[stored.mask]
    return np.array_equal(kept, kernel[stored.mask])
