"""TensorBoard's HParams tab: what the recipe says, and which metrics it is judged by."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

Value = bool | int | float | str


def write_start(writer: SummaryWriter, recipe: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Write the recipe's keys as hyperparameters; the tab shows the last point of each of the tags `metrics`."""
    experiment, start, _ = hparams(dict(flattened(recipe)), dict.fromkeys(metrics, 0.0))  # type: ignore[no-untyped-call]
    _write(writer, experiment)
    _write(writer, start)


def write_end(writer: SummaryWriter, reason: str) -> None:
    """Write how the session ended. One that was interrupted has not: it may go on."""
    if reason == "interrupted":
        return
    status = Status.STATUS_FAILURE if reason.startswith("failed") else Status.STATUS_SUCCESS
    ended = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=ended.SerializeToString())
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=SummaryMetadata(plugin_data=plugin))
    _write(writer, Summary(value=[value]))


def _write(writer: SummaryWriter, summary: Summary) -> None:
    writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def flattened(table: Any, key: str = "") -> Iterator[tuple[str, Value]]:
    """Yield (dotted key, value) of a plain table; items of a list of tables count from 0, other lists become JSON."""
    if isinstance(table, Mapping):
        for name, value in table.items():
            yield from flattened(value, f"{key}.{name}" if key else str(name))
    elif isinstance(table, list) and table and all(isinstance(item, Mapping) for item in table):
        for place, item in enumerate(table):
            yield from flattened(item, f"{key}.{place}")
    elif isinstance(table, Value):
        yield key, table
    else:
        yield key, json.dumps(table, ensure_ascii=False)
