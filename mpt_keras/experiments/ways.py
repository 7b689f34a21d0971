"""The ways in which tickets of an ordinary network are found and trained."""

# How the weights of an ordinary network are pruned and trained again.
WAYS = (
    *("winning_ticket", "one_shot", "learning_rate_rewinding"),
    *("reinitialized", "random_masks"),
    *("retraining", "kd_ticket", "kd_rewinding"),
)
AT_ONCE = ("one_shot", "retraining", "kd_ticket", "kd_rewinding")
CONTROLS = ("reinitialized", "random_masks")
TAUGHT = ("kd_ticket", "kd_rewinding")
# From a later state than the start, or they are what others are.
LATER = ("retraining", "kd_rewinding")
