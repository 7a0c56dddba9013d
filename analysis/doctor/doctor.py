"""Examines a configuration: environment, networks, learning, and where the time goes."""

from omegaconf import DictConfig

from analysis.doctor.environment import ENVIRONMENT
from analysis.doctor.learning import LEARNING, throughput
from analysis.doctor.networks import NETWORKS
from analysis.doctor.patient import admit, examine
from training.process.threads import set_num_threads
from training.runs.refusal import Refusal

_CHECKS = {"environment": ENVIRONMENT, "networks": NETWORKS, "learning": LEARNING}
_GREEN, _RED, _PLAIN = "\033[32m", "\033[31m", "\033[0m"


def consult(config: DictConfig, *, coloured: bool) -> bool:
    """Print every finding; return whether all is well.

    Raises:
        Refusal: the environment cannot be made, or the networks do not fit it.
    """
    try:
        patient = admit(config)
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(str(error), 2) from error
    set_num_threads(config.num_threads, patient.agent)
    problems = 0
    for title, checks in _CHECKS.items():
        print(title)
        for name, problem in examine(patient, checks):
            problems += problem is not None
            mark, colour = ("ok", _GREEN) if problem is None else ("!!", _RED)
            print(f"  {colour}{mark}{_PLAIN}  {name}" if coloured else f"  {mark}  {name}")
            if problem is not None:
                print(f"      {problem}")
    if not problems:
        print("speed", *(f"  {line}" for line in throughput(patient)), sep="\n")
    patient.environments.close()
    print("all is well" if not problems else f"{problems} to mend")
    return not problems
