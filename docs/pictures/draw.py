"""Draws the pictures of the gallery anew, for light and for dark pages.

    python docs/pictures/draw.py
    python docs/pictures/draw.py --only=ticket,churn --output_dir=figures

What is drawn stands in `docs/results/` and in `data/` beside this program;
`measure.py` and the commands that `docs/gallery.md` names measured it. Nothing
is trained.
"""

import contextlib
import pathlib

import mask_pictures
import method_pictures
import speed_pictures
import ticket_pictures
from absl import app, flags
from gallery_style import HERE

from mpt_keras import figures
from mpt_keras.analysis import dark_background

FLAGS = flags.FLAGS
flags.DEFINE_list("only", [], "Names of pictures; all by default.")
flags.DEFINE_string("output_dir", None, "By default, beside this program.")

PICTURES = {
    picture.__name__: picture
    for picture in (
        *(ticket_pictures.ticket, ticket_pictures.size),
        *(mask_pictures.bits, mask_pictures.filters),
        *(mask_pictures.inputs, mask_pictures.churn),
        *(method_pictures.learning_curves, method_pictures.pareto),
        *(method_pictures.mnist, method_pictures.winning),
        *(speed_pictures.engines, speed_pictures.scaling),
    )
}
# Pictures that other pages show, where only one background is known.
PAGES = {
    "learning_curves": method_pictures.learning_curves,
    "lottery_ticket": method_pictures.winning,
    "ticket_accuracy": method_pictures.mnist,
    "ticket_size": mask_pictures.bits,
    "runtime": speed_pictures.scaling,
}
THEMES = {"light": contextlib.nullcontext, "dark": dark_background}


def main(_):
    unknown = set(FLAGS.only) - PICTURES.keys()
    if unknown:
        raise app.UsageError(
            f"No picture {', '.join(sorted(unknown))}. Expected any of "
            f"{', '.join(PICTURES)}."
        )
    folder = pathlib.Path(FLAGS.output_dir or HERE)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FLAGS.only or PICTURES:
        for theme, drawing in THEMES.items():
            with drawing():
                figure = PICTURES[name]()
            path = folder / f"{name}.{theme}.svg"
            figures.save(figure, path, transparent=True)
            print(path)
    for name, picture in PAGES.items():
        if not FLAGS.output_dir and not FLAGS.only:
            figures.save(picture(), HERE.parent / f"{name}.png")


if __name__ == "__main__":
    app.run(main)
