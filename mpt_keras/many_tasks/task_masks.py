"""Many tasks over one random network: a mask for each of them."""

import dataclasses
import difflib
import os
import pathlib
import weakref
from collections.abc import Iterator, Mapping

import keras

from mpt_keras import files, model_checks, optimizer_state
from mpt_keras.many_tasks.folder import (
    INDEX,
    NETWORK,
    START,
    check_name,
    named_in_errors,
    read_index,
    ticket_path,
)
from mpt_keras.many_tasks.held import Task
from mpt_keras.many_tasks.summary import TasksSummary, TaskSummary
from mpt_keras.many_tasks.variables import TaskVariables
from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.loading import load_ticket
from mpt_keras.ticket.packaged import as_path
from mpt_keras.ticket.reading import MAX_WEIGHTS, Ticket, parse_ticket
from mpt_keras.ticket.saving import ticket_bytes


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
        model_checks.check_is_model(model)
        model_checks.check_is_built(model)
        self._variables = TaskVariables(model)
        self.model = model
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
        begin = self._variables.start
        if start is not None:
            self._check_known(start, "start")
            begin = self._tasks[start]
            if start == self._current:
                begin = self._now()
        if ticket is not None:
            begin = self._variables.task_of(self._read_ticket(ticket))
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
        with self._variables.as_they_were():
            packed = {
                name: self._variables.packed(self._tasks[name])
                for name in names
                if not self._tasks[name].is_packed
            }
        self._tasks |= packed
        if self._current in packed:
            self._loaded_scores = self._variables.scores_checksum()

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
        own = self._variables.own(task)
        held = [*task.kernels, *own, *(task.optimizer_state or [])]
        return TaskSummary(
            name=name,
            weights=self._variables.weights,
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
        variables = tasks._variables
        tasks._network_bytes, tasks._network_ticket = network, ticket
        found = {}
        for path in (
            folder / START,
            *(ticket_path(folder, name) for name in names),
        ):
            with named_in_errors(path):
                stored = parse_ticket(path.read_bytes(), ticket, max_weights)
                found[path] = variables.task_of(stored)
        start, *others = found.values()
        variables.write(start)
        variables.start = variables.read()
        tasks._tasks = {
            name: variables.sharing(task)
            for name, task in zip(names, others, strict=True)
        }
        if current is not None:
            tasks.switch(current)
        return tasks

    def _encoded(self):
        """Bytes of the network, of the start, and of every task by name."""
        self._variables.check_shared()
        network = self._network()
        if self._current is not None:
            self._tasks[self._current] = self._now()
        with self._variables.as_they_were():
            self._variables.write(self._variables.start)
            start = ticket_bytes(self.model, network)
            tickets = {}
            for name, task in self._tasks.items():
                self._variables.write(task)
                tickets[name] = ticket_bytes(self.model, network)
        return self._network_bytes, start, tickets

    def _network(self):
        """The ticket that those of the tasks are saved against."""
        if self._network_ticket is None:
            with self._variables.as_they_were():
                self._variables.write(self._variables.start)
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

    # --- From task to task -------------------------------------------

    def _go(self, name, task):
        """Makes a task the current one, after what may fail."""
        self._variables.check_shared()
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
        self._variables.write(task)
        if state is not None:
            optimizer_state.set_state(optimizer, state)
        self._current = name
        self._loaded_scores = (
            self._variables.scores_checksum() if task.is_packed else None
        )

    def _now(self):
        """The current task as the model holds it."""
        task = self._variables.read()
        stored = self._tasks[self._current]
        if (
            stored.is_packed
            and self._loaded_scores == self._variables.scores_checksum()
        ):
            return dataclasses.replace(task, kernels=stored.kernels)
        optimizer = getattr(self.model, "optimizer", None)
        state = optimizer_state.state_of(optimizer)
        if state is None:
            return task
        return dataclasses.replace(
            task, optimizer=weakref.ref(optimizer), optimizer_state=state
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
