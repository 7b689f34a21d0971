"""Which of many results are the best that their cost buys."""


def front(points):
    """The points that no other one beats: the Pareto front.

    A point is beaten by one that costs no more and is worth more, or costs
    less and is worth no less.

    Args:
        points: Pairs of cost and value.

    Returns:
        Those that are not beaten, each once, from cheap to dear; so their
        values rise as well.

    >>> front([(3, 0.5), (1, 0.25), (2, 0.75), (4, 0.75)])
    [(1, 0.25), (2, 0.75)]
    """
    found = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or value > found[-1][1]:
            found.append((cost, value))
    return found
