"""Uses an installed wheel as a stranger does, in a folder with packages of the commonest names.

    PYTHON tests/installed/trial.py COMMAND ...

Run it by the Python that the wheel was installed for; COMMAND starts the `neurl` command
(`make test-wheel`: .venv-wheel/bin/neurl). It needs nothing but the wheel and its extra `onnx`.
"""

import importlib.metadata
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGES = ("agents", "analysis", "conf", "envs", "networks", "training")
SHORT = ["total_env_steps=600", "device=cpu", "evaluation.final_episodes=2", "env.num_envs=2"]
SHORT += ["evaluation.interval=0", "evaluation.num_envs=1", "agent.rollout_length=64"]
OWN_AGENT = """
from dataclasses import dataclass
from neurl.agents.a2c import A2C

@dataclass(kw_only=True)
class Options(A2C.Options):
    courage: float = 1.0

class Brave(A2C):
    Options = Options
"""
STUDY = f"""question: Does a memory help?
tasks: {{cartpole: [{", ".join(SHORT)}]}}
arms: {{none: [memory=none], gru: [memory=gru]}}
baseline: none
seeds: [0, 1]
"""
LAB = {
    "my_lab/__init__.py": "",
    "my_lab/agents.py": OWN_AGENT,
    "my_lab/conf/agent/brave.yaml": "defaults: [a2c]\n_target_: my_lab.agents.Brave\n",
    "my_lab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n",
    "my_lab-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "my_lab-1.0.dist-info/entry_points.txt": "[neurl.configs]\nlab = my_lab.conf\n",
    "my_lab-1.0.dist-info/RECORD": "",
}
DOOR = """
import gymnasium, neurl
policy = neurl.load("runs/first")
observation, _ = gymnasium.make("CartPole-v1").reset(seed=0)
assert policy.predict(observation) in (0, 1)
built = neurl.build("agent._target_=neurl.agents.a2c.A2C", "agent=a2c", memory="gru")
neurl.fit(built, env_steps=50)
built.save("saved")
assert neurl.load("saved").agent.__class__.__module__ == "neurl.agents.a2c"
assert len(neurl.results("runs/**")) > 0
import agents, envs
assert "neurl" not in agents.__file__ + envs.__file__
"""


def write(files: dict[str, str], place: Path) -> None:
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


def main() -> None:
    command = [word if os.sep not in word else os.path.abspath(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # Whoever imports one of these instead of ours finds nothing in it.
        write({f"{package}/__init__.py": "" for package in PACKAGES}, place)
        write({"agents/own.py": OWN_AGENT, "own_conf/study/mine.yaml": STUDY}, place)
        trial = Trial(command, place)
        trial.use()
        trial.refuse()
        trial.register()
    print(f"the wheel passed: {trial.count} commands")


class Trial:
    """Commands in one folder."""

    def __init__(self, command: list[str], place: Path) -> None:
        self.command, self.place, self.count = command, place, 0
        self.environment = {**os.environ, "PYTHONWARNINGS": "", "PYTHONSAFEPATH": "1"}
        own = filter(None, [str(place), os.environ.get("PYTHONPATH")])
        self.environment["PYTHONPATH"] = os.pathsep.join(own)

    def use(self) -> None:
        self.expect("--version", says="neurl ")
        self.expect("--help", says="evaluate a run")
        self.expect("train --help", says="neurl train resume=RUN_DIR")
        self.expect("train", *SHORT, "run_dir=runs/first", says="neurl evaluate run=runs/first")
        self.expect("evaluate run=runs/first evaluation.episodes=2", says="over 2 episodes")
        self.expect("train resume=runs/first total_env_steps=1200", says="finished after 1,")
        self.expect("train -m memory=none,rnn", *SHORT, says="2 jobs:")
        hidden = ["pomdp=mask_velocity", "memory=lstm", "run_dir=runs/hidden"]
        self.expect("train env.vectorization=async", *hidden, *SHORT, says="finished")
        self.expect("analyze run=runs/hidden steps=500", says="probe.png")
        own = ["agent=a2c", "agent._target_=agents.own.Brave", "trusted_packages=[agents]"]
        self.expect("train", *own, "agent.courage=2", *SHORT, "run_dir=runs/own", says="Brave on")
        self.expect("evaluate run=runs/own trusted_packages=[agents]", says="over")
        self.expect("compare --config-dir own_conf study=mine engine.jobs=2", says="4 of 4 jobs")
        self.expect("compare runs=runs/** metric=last report=report", says="CartPole-v1")
        assert (self.place / "report" / "report.html").is_file()
        self.expect("doctor memory=gru device=cpu", says="all is well")
        self.expect("export run=runs/first", says="acts as the run's policy")
        self.run([sys.executable, "-c", DOOR])

    def register(self) -> None:
        """Install a package that brings configurations, apart from the environment."""
        wheel = self.place / "my_lab-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in LAB.items():
                archive.writestr(name, text)
        site = str(self.place / "site")
        pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-index", "--no-deps"]
        self.run([*pip, "--target", site, str(wheel)])
        self.environment["PYTHONPATH"] += os.pathsep + site
        self.expect("train agent=brave", *SHORT, "run_dir=runs/lab", says="Brave on")
        self.expect("evaluate run=runs/lab evaluation.episodes=2", says="over 2 episodes")
        self.expect("train --help", says="brave")

    def refuse(self) -> None:
        self.expect("trian", code=2, says="did you mean train?")
        self.expect("train agent.clip_rang=0.1", code=2, says="did you mean agent.clip_range?")
        self.expect("train agent._target_=agents.ppo.PPOO", code=2, says="agents.ppo.PPO")
        self.expect("evaluate run=runs/own", code=2, says="trusted_packages=[agents]")

    def expect(self, line: str, *words: str, says: str, code: int = 0) -> None:
        printed = self.run([*self.command, *shlex.split(line), *words], code)
        assert says in printed, f"{line}: expected {says!r} in\n{printed}"

    def run(self, command: list[str], code: int = 0) -> str:
        self.count += 1
        print("$", shlex.join(command), flush=True)
        ended = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True
        )
        printed = ended.stdout + ended.stderr
        assert ended.returncode == code, f"exit code {ended.returncode}\n{printed}"
        assert "Traceback" not in printed, printed
        return printed


if __name__ == "__main__":
    importlib.metadata.version("neurl")
    main()
