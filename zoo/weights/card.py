"""Weights described by a card."""

from zoo.registry.builtin.weights import CardOptions
from zoo.registry.contracts import WeightsFile, WeightsRequest
from zoo.weights.cards import find_card, open_card, read_card


def build(options: CardOptions, request: WeightsRequest) -> WeightsFile:
    """Return the file that the card describes, with all that the card knows of it.

    WeightsError: no such card (the nearest are named), a card that says too little or too much, or a file that is
    not the one described.
    """
    path = find_card(options.card, request.cards)
    return open_card(read_card(path), path, request)
