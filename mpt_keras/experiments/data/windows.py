"""Which part of an image is seen, and the pixels of it alone decoded."""

import math

import tensorflow as tf

# The region that a training image shows, as in the authors' recipe.
_AREAS = (0.08, 1.0)
_LARGEST_RATIO = 4 / 3  # of width and height; the smallest is its inverse
_TRIES = 10
# Of a window, and of a flip.
DRAWS = 2 * _TRIES + 3
# Evaluation shows 224 pixels of an image whose short side has 256.
_MARGIN = 256 / 224
# As other decoders do it; the default is faster and coarser.
_DCT = "INTEGER_ACCURATE"


def middle(encoded, size):
    """An image as it is evaluated: the middle, and all of one scale.

    Args:
        encoded: A file of JPEG or PNG, a tensor of one string.
        size: Height and width of what comes out, in pixels.

    Returns:
        A tensor of shape `(size, size, 3)`, uint8.
    """
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT),
        lambda: _decode_other(encoded),
    )
    short = round(size * _MARGIN)
    height, width = tf.unstack(tf.shape(image)[:2])
    shorter = tf.minimum(height, width)
    sides = tf.stack([short * height // shorter, short * width // shorter])
    image = tf.image.resize(image, sides, antialias=True)
    half = tf.round((sides - size) / 2)
    top, left = tf.unstack(tf.cast(half, "int32"))
    return _as_uint8(image[top:, left:][:size, :size], size)


def crop(encoded, draws, size):
    """An image as it is trained on: a window, resized, perhaps flipped.

    Args:
        encoded: As for `middle`.
        draws: `DRAWS` numbers, uniform in [0, 1).
        size: As for `middle`.

    Returns:
        Likewise.
    """
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _jpeg_window(encoded, draws),
        lambda: _other_window(encoded, draws),
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    image = tf.cond(draws[-1] < 0.5, lambda: image[:, ::-1], lambda: image)
    return _as_uint8(image, size)


def _as_uint8(image, size):
    image = tf.saturate_cast(tf.round(image), "uint8")
    return tf.ensure_shape(image, (size, size, 3))


def random_window(height, width, draws):
    """A window of random area, ratio of its sides, and place.

    Areas are uniform and ratios log-uniform; the first of ten tries that lies
    within the image is taken, or else the largest window in the middle whose
    ratio is allowed.

    Args:
        height: Integer tensor, of the image.
        width: Likewise.
        draws: 22 or more numbers, uniform in [0, 1).

    Returns:
        `(top, left, height, width)`, an integer tensor.
    """
    sides = tf.stack([height, width])
    real = tf.cast(sides, "float32")
    area, ratio = draws[:_TRIES], draws[_TRIES : 2 * _TRIES]
    area = tf.reduce_prod(real) * (_AREAS[0] + area * (_AREAS[1] - _AREAS[0]))
    ratio = tf.exp((2 * ratio - 1) * math.log(_LARGEST_RATIO))
    tries = tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1))
    tries = tf.cast(tf.round(tries), "int32")
    fits = tf.reduce_all((tries > 0) & (tries <= sides), axis=1)
    tried = tries[tf.argmax(fits)]
    place = tf.cast(sides - tried + 1, "float32") * draws[2 * _TRIES :][:2]
    tried = tf.concat([tf.cast(place, "int32"), tried], axis=0)
    allowed = tf.cast(tf.round(real[::-1] * _LARGEST_RATIO), "int32")
    largest = tf.minimum(sides, allowed)
    largest = tf.concat([(sides - largest) // 2, largest], axis=0)
    return tf.where(tf.reduce_any(fits), tried, largest)


def _jpeg_window(encoded, draws):
    shape = tf.io.extract_jpeg_shape(encoded)
    window = random_window(shape[0], shape[1], draws)
    return tf.image.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method=_DCT
    )


def _decode_other(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _other_window(encoded, draws):
    image = _decode_other(encoded)
    shape = tf.shape(image)
    window = random_window(shape[0], shape[1], draws)
    return tf.slice(
        image,
        tf.concat([window[:2], [0]], axis=0),
        tf.concat([window[2:], [3]], axis=0),
    )
