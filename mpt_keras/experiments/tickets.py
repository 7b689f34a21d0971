"""Tickets of an ordinary network, by the magnitude of its weights."""

import dataclasses

from mpt_keras.experiments import experiment, following, networks, recipes
from mpt_keras.experiments.experiment import Experiment
from mpt_keras.experiments.settings import (
    FRACTION,
    POSITIVE,
    NoEffectError,
    documented,
    integer_from,
    setting,
)
from mpt_keras.experiments.ways import (
    AT_ONCE,
    CONTROLS,
    LATER,
    TAUGHT,
    WAYS,
)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class WinningTicket(Experiment):
    """Tickets of an ordinary network, by the magnitude of its weights.

    The network is trained, its smallest weights are pruned, the others set
    back to what they were at a step of that training, and trained again,
    round by round. One dense training serves all steps, ways and sparsities.
    What is None is as in the published recipe for the network, or as usual.

    Raises:
        ValueError: If a value is none of its setting; from `run` and
            `followed`, if a setting has no effect beside the others.

    Example:

    >>> experiment = WinningTicket(
    ...     dataset="digits", sparsities=[0.5, 0.8], ways=["winning_ticket"]
    ... )
    >>> followed = experiment.followed()
    >>> followed.recipe, followed.settings.sparsities
    ('lottery_fc', (0.5, 0.8))

    `experiment.run("runs/a")` trains the dense network and two tickets.

    Reference:
        Frankle & Carbin, ICLR 2019; Frankle et al., ICML 2020, and Renda et
        al., ICLR 2020 (rewinding).
    """

    kind = "tickets"
    may_grow = ("rounds", "sparsities", "ways", "draws")

    rounds: int | None = setting(
        None,
        "Rounds of pruning: a ticket after each. 10 where no sparsities are "
        "asked for.",
        **integer_from(1),
    )
    sparsities: tuple[float, ...] | None = setting(
        None,
        "Fractions of weights pruned, each in [0, 1), instead of rounds: "
        "rounds at the usual rate, the last one as far as the sparsity.",
        accepts=lambda value: 0.0 < value < 1.0,
        expected="numbers in (0, 1)",
    )
    ways: tuple[str, ...] | None = setting(
        None,
        "How tickets are found and trained. In rounds: winning_ticket, set "
        "back to the weights of --rewind_steps; learning_rate_rewinding, which "
        "keeps the trained weights; beside the winning tickets reinitialized "
        "and random_masks, the controls. At once: one_shot, set back to "
        "--rewind_steps, and retraining, to the start; taught by the dense "
        "network kd_rewinding and kd_ticket.",
        choices=WAYS,
    )
    rewind_steps: tuple[int, ...] | None = setting(
        None,
        "Steps of training that tickets go back to, 0 for the start.",
        usual=(0,),
        **integer_from(0),
    )
    draws: int = setting(
        1,
        "How often each control is drawn, beside every ticket.",
        needs={"ways": CONTROLS},
        **integer_from(1),
    )
    pruning_rate: float | None = setting(
        None,
        "Fraction of the remaining weights that a round prunes.",
        usual=0.2,
        accepts=lambda value: 0.001 <= value < 1.0,
        expected="a number in [0.001, 1)",
    )
    convolution_rate: float | None = setting(
        None,
        "The same for convolution kernels; pruning_rate if none.",
        **FRACTION,
    )
    output_rate: float | None = setting(
        None,
        "The same for the last layer; half of pruning_rate if none, layer by "
        "layer.",
        **FRACTION,
    )
    scope: str | None = setting(
        None,
        "Whether every layer is pruned by itself or all together.",
        usual="layer",
        choices=("layer", "global"),
    )
    only_convolutions: bool | None = setting(
        None, "Leave dense layers as they are.", usual=False
    )
    initializer: str | None = setting(
        None,
        "The initial weights.",
        usual="kaiming_normal",
        choices=("kaiming_normal", "glorot_normal"),
    )
    temperature: float | None = setting(
        None,
        "Divides the logits before the softmax, of kd_ticket.",
        usual=5.0,
        needs={"ways": TAUGHT},
        **POSITIVE,
    )
    alpha: float | None = setting(
        None,
        "Weight of the dense network's outputs, in [0, 1], of kd_ticket.",
        usual=0.9,
        needs={"ways": TAUGHT},
        accepts=lambda value: 0.0 <= value <= 1.0,
        expected="a number in [0, 1]",
    )
    kl_reduction: str | None = setting(
        None,
        "Whether the divergence is divided by the number of classes as well, "
        "as in the authors' code for CIFAR, or by the batch alone.",
        usual="mean",
        needs={"ways": TAUGHT},
        choices=("mean", "batchmean"),
    )

    def _plan(self, settings):
        from mpt_keras.experiments import ticketing

        return ticketing.plan(settings)

    # --- The recipe ------------------------------------------------------

    _recipes = recipes.LOTTERY
    _named_after = ("lottery", "resnet20")

    def followed(self):
        """The settings in force; a `following.Followed`.

        Raises:
            ValueError: If something that was said has no effect.
        """
        for name in ("sparsities", "ways", "rewind_steps"):
            if getattr(self, name) == ():
                raise ValueError(
                    f"Invalid value for `{name}`. Expected one or more. "
                    "Received: none"
                )
        if self.rounds is not None and self.sparsities is not None:
            raise NoEffectError(
                "rounds", self.rounds, "sparsities say how far to prune"
            )
        model = self.model or "lenet_300_100"
        kind, resnet = self._named_after
        names = [
            f"{kind}_{of}" for of in (model, networks.family(model), resnet)
        ]
        found = following.follow(
            self,
            self._recipes,
            names,
            self._own(names),
            {"model": model},
            {**experiment.USUAL, **self._usual()},
        )
        self._check_ways(found.settings)
        return found

    def _own(self, names):
        return names[:2]

    def _usual(self):
        return {
            "ways": ("winning_ticket", *CONTROLS),
            "rounds": lambda values: None if values["sparsities"] else 10,
        }

    def _check_ways(self, settings):
        later = set(settings.ways) & set(LATER)
        if later and not any(settings.rewind_steps):
            raise ValueError(
                f"{', '.join(sorted(later))} in ways goes back to a later "
                "state than the start. Expected a step above 0 in "
                f"rewind_steps. Received: rewind_steps={settings.rewind_steps}"
            )


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Distilled(WinningTicket):
    """Tickets pruned at once, and trained on the dense network's outputs.

    The loss of a ticket is `(1 - alpha)` times that of the labels, and
    `alpha * temperature**2` times the divergence of its softened outputs from
    those of the dense network, which is the teacher.

    Raises:
        ValueError: If a value is none of its setting; from `run` and
            `followed`, if a setting has no effect beside the others.

    Example:

    >>> experiment = Distilled(dataset="digits", sparsities=0.9)
    >>> experiment.followed().settings.ways
    ('one_shot', 'kd_ticket')

    `experiment.run("runs/a")` trains the dense network, the ticket without
    its teacher, and with it.

    Reference:
        Ma et al., *Good Students Play Big Lottery Better*, 2021.
    """

    kind = "distil"

    _recipes = recipes.KD
    _named_after = ("kd", "resnet18")

    def _own(self, names):
        return {"kd_resnet18"} & set(names[:1])

    def _usual(self):
        return {
            "ways": lambda values: (
                AT_ONCE
                if any(values["rewind_steps"])
                else ("one_shot", "kd_ticket")
            ),
            "sparsities": lambda values: (
                None if values["rounds"] else (0.9, 0.965)
            ),
        }
