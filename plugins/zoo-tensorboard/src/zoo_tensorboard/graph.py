"""The network's graph, traced on the CPU from a network that is not the run's own."""

import logging
import warnings
from contextlib import redirect_stdout
from os import devnull

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("zoo.tensorboard")


def write_graph(writer: SummaryWriter, network: nn.Module, size: tuple[int, int]) -> None:
    """Write the graph of `network` for an image of `size` (height, width); say so where it cannot be traced.

    The random state is left as it was.
    """
    image = torch.zeros(1, 3, *size)
    try:
        # torch prints what it cannot trace, and warns of what a trace does not see: the graph is only looked at.
        with open(devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                writer.add_graph(network, image)
    except RuntimeError as error:
        log.warning("no graph for TensorBoard: %s", str(error).strip().partition("\n")[0])
