"""A search for a mask over random weights, or the dense network beside it."""

import dataclasses

from mpt_keras.experiments import experiment, following, networks, recipes
from mpt_keras.experiments.experiment import Experiment
from mpt_keras.experiments.settings import (
    FRACTION,
    SEED,
    NoEffectError,
    documented,
    integer_from,
    setting,
)

SOURCES = ("highest", "next_lowest", "random")

_SEARCHED = {"method": ("biprop", "edge_popup")}
_RECYCLED = {"recycling": SOURCES}
# Fraction, period and its unit.
_PERIODS = {
    **dict.fromkeys(("none", "highest", "next_lowest"), (0.2, 10, "epoch")),
    "random": (0.1, 300, "step"),
}
_SUFFIXES = {
    "highest": "_recycling",
    "next_lowest": "_recycling_next_lowest",
    "random": "_iterand",
}
_PERIOD = ("recycled_fraction", "recycling_every", "recycling_per")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Experiment):
    """A search for a mask over random weights, or the dense network beside it.

    The random kernels never train: of each, `floor(sparsity * n)` of its `n`
    weights are pruned, those of the smallest scores, and the scores train.
    What is None is as in the published recipe for the network and the method,
    or as usual.

    Raises:
        ValueError: If a value is none of its setting; from `run` and
            `followed`, if a setting has no effect beside the others.

    Example:

    >>> search = Search(dataset="mnist", model="lenet_300_100", sparsity=0.8)
    >>> followed = search.followed()
    >>> followed.recipe, followed.settings.batch_size
    ('edge_popup_fc', 128)

    `search.run("runs/a", data_dir="data")` trains it.

    Reference:
        Diffenderfer & Kailkhura, ICLR 2021 (biprop); Ramanujan et al., CVPR
        2020 (edge_popup); Gorbett & Whitley, 2023, and Chijiwa et al.,
        NeurIPS 2021 (recycling); Otsuka et al., TMLR 2025 (frozen_pruned,
        frozen_kept).
    """

    kind = "search"

    method: str | None = setting(
        None,
        "biprop: binary weights. edge_popup: masked real weights. dense: "
        "ordinary training.",
        usual="biprop",
        choices=("biprop", "edge_popup", "dense"),
    )
    sparsity: float | None = setting(
        None,
        "Fraction of weights pruned, in [0, 1).",
        usual=0.5,
        needs=_SEARCHED,
        **FRACTION,
    )
    global_sparsity: bool = setting(
        False,
        "One threshold for all layers, with the authors' ramp over ten epochs.",
        needs=_SEARCHED,
    )
    frozen_pruned: float = setting(
        0.0,
        "Fraction of each layer's weights that its seed prunes for ever.",
        needs=_SEARCHED,
        **FRACTION,
    )
    frozen_kept: float = setting(
        0.0,
        "Fraction of each layer's weights that its seed keeps for ever.",
        needs=_SEARCHED,
        **FRACTION,
    )
    kernel_initializer: str | None = setting(
        None,
        "The random weights.",
        usual="kaiming_normal",
        choices=("kaiming_normal", "signed_constant"),
        needs=_SEARCHED,
    )
    scale_fan: str | None = setting(
        None,
        "How the weights' scale accounts for the sparsity: fan-in times the "
        "fraction kept, times the fraction pruned (the authors' code), or not.",
        usual="paper",
        choices=("paper", "authors", "none"),
        needs=_SEARCHED,
    )
    kernel_seed: int | None = setting(
        None,
        "Seed of the random (or initial) weights; --seed if none. One for "
        "several seeds makes them searches of one random network.",
        **SEED,
    )
    recycling: str | None = setting(
        None,
        "What replaces random weights of low scores during the search: copies "
        "of those of the highest or of the next lowest scores, or random "
        "draws (iterative randomisation).",
        usual="none",
        choices=("none", *SOURCES),
        needs=_SEARCHED,
    )
    recycled_fraction: float | None = setting(
        None,
        "Fraction of each layer's weights that is replaced each time.",
        needs=_RECYCLED,
        **FRACTION,
    )
    recycling_every: int | None = setting(
        None,
        "Epochs or steps from one replacement to the next, none after the "
        "first and the last epoch.",
        needs=_RECYCLED,
        **integer_from(1),
    )
    recycling_per: str | None = setting(
        None,
        "What recycling_every counts.",
        choices=("epoch", "step"),
        needs=_RECYCLED,
    )

    def _plan(self, settings):
        from mpt_keras.experiments import searching

        return searching.plan(settings)

    def method_name(self):
        """What the method is called in tables, of settings in force."""
        binary, norms = self.binary_activations, self.trained_batch_norm
        name = {
            "dense": "dense_binary" if binary else "dense",
            "biprop": "mpt_1_1" if binary else "mpt_1_32",
            "edge_popup": "edge_popup_binary" if binary else "edge_popup",
        }[self.method]
        if norms and self.method != "dense":
            name += "_bn"
        if self.recycling in SOURCES:
            name += _SUFFIXES[self.recycling]
        if self.frozen_pruned or self.frozen_kept:
            name += "_frozen"
        return f"{name}_global" if self.global_sparsity else name

    # --- The recipe ------------------------------------------------------

    def followed(self):
        """The settings in force; a `following.Followed`.

        Raises:
            ValueError: If something that was said has no effect.
        """
        model = self.model or "conv4"
        is_large = networks.is_for_imagenet(model)
        rows = recipes.IMAGENET if is_large else recipes.SMALL
        if self.recipe is not None:
            rows = recipes.SMALL | recipes.IMAGENET
        method = self.method or "biprop"
        names = self._recipe_names(networks.family(model), method)
        found = following.follow(
            self,
            rows,
            names,
            names[:1] if model in networks.FAMILIES else (),
            {"model": model, "method": method},
            {
                **experiment.USUAL,
                **{
                    name: lambda values, place=place: _PERIODS[
                        values["recycling"]
                    ][place]
                    for place, name in enumerate(_PERIOD)
                },
            },
        )
        self._check_period(found.settings)
        self._check_recycling(found.settings)
        self._check_ramp(found.settings)
        self._check_batch_norms(found.settings)
        return found

    def _recipe_names(self, family, method):
        """Names of the recipes that would fit, the best first.

        Not every one is published. Where there is none for the activations or
        the batch norms, the method's own for the family is next, and then
        another method's, whose optimizer and batches are the family's.
        """
        binary = "_binary" if self.binary_activations else ""
        norms = "_bn" if self.trained_batch_norm else ""
        suffixes = (f"{binary}{norms}", binary, norms, "")
        methods = (method, "biprop", "edge_popup")
        if method == "dense":
            # An ordinary training of another network before a search of this.
            ordinary = [f"dense_{family}", "dense_resnet18"]
            return ordinary + [f"{of}_{family}" for of in methods]
        if self.recycling not in (None, "none"):
            kind = "iterand" if self.recycling == "random" else "recycling"
            methods = (f"{method}_{kind}", *methods)
        return [
            f"{of}_{family}{suffix}" for of in methods for suffix in suffixes
        ]

    def _check_period(self, settings):
        said = self.recycling_per, self.recycling_every
        usual = _PERIODS[settings.recycling or "none"][-1]
        if said[1] is None and said[0] not in (None, usual):
            raise ValueError(
                f"recycling_per={said[0]} needs recycling_every as well."
            )

    def _check_recycling(self, settings):
        per, every = settings.recycling_per, settings.recycling_every
        if per == "epoch" and every > settings.epochs - 2:
            raise ValueError(
                f"recycling={settings.recycling} never comes to it: "
                f"recycling_every={every} epochs, none after the first and the "
                f"last of epochs={settings.epochs}. Expected at least two "
                "epochs more than recycling_every."
            )

    def _check_ramp(self, settings):
        last = recipes.RAMP_EPOCHS
        if settings.global_sparsity and settings.epochs < last:
            raise ValueError(
                f"global_sparsity=True comes to the sparsity after {last} "
                f"epochs. Expected as many. Received: epochs={settings.epochs}"
            )

    def _check_batch_norms(self, settings):
        family = networks.FAMILIES.get(settings.model)
        none = family in networks.WITHOUT_BATCH_NORMS
        if none and self.trained_batch_norm and not settings.binary_activations:
            raise NoEffectError(
                "trained_batch_norm",
                True,
                f"{settings.model} has batch norms only with "
                "binary_activations=True",
            )
