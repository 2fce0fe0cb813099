"""`zoo audit RUN`."""

from zoo.cli.say import JsonOption, say_json, say_line
from zoo.cli.types import RunArgument


def audit(run: RunArgument, as_json: JsonOption = False) -> None:
    """Say what of a run was frozen and stayed so, and compare it with the bytes of the run's best checkpoint.

    Example: zoo audit runs/resnet50_cls
    """
    from zoo.run.folder import existing_folder

    folder = existing_folder(run)
    from zoo.run.audit import audit_run, describe

    report = audit_run(folder)
    if as_json:
        say_json(report)
        return
    for line in describe(report):
        say_line("audit", line)
    say_line("checked", f"{report['checked']:,} tensors in {report['checkpoint']}: the same bytes")
