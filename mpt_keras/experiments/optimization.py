"""Optimizer, loss and learning rate, as the settings say."""

import math

import keras

from mpt_keras.losses import SmoothedCrossentropy


def optimizer(settings):
    """A fresh optimizer."""
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            settings.learning_rate, momentum=settings.momentum
        )
    return keras.optimizers.Adam(settings.learning_rate)


def loss(settings):
    """From logits and integer labels; also that of the evaluation."""
    if settings.label_smoothing:
        return SmoothedCrossentropy(settings.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def learning_rate(settings, epoch):
    """Per epoch, as in the authors' code; never quite 0."""
    highest, warmup = settings.learning_rate, settings.warmup_epochs
    if epoch < warmup:
        return highest * (epoch + 1) / warmup
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "steps":
        drops = sum(epoch >= milestone for milestone in settings.milestones)
        return highest * 0.1**drops
    turn = math.pi * (epoch - warmup) / (settings.epochs - warmup)
    return 0.5 * (1.0 + math.cos(turn)) * highest


def regularizer(settings):
    """Of the scores: the authors add decay * score to the gradient."""
    decay = settings.score_decay
    return keras.regularizers.L2(decay / 2) if decay else None
