"""Each stage of a pipeline with its memory, its disk and its time; and what cannot fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stages.config.evaluation import EvaluationConfig
from stages.planning import asked, memory, work
from stages.planning.case import Case, Recipe
from stages.planning.machine import GB, Machine
from stages.planning.memory import Memory
from stages.planning.streams import step_tokens
from stages.planning.work import PASSES, Work, adapts, reads_first

PROCESS = 8.0
"""Seconds until a process works, imports and DVC's part included."""
PREPARING = 5.0
"""Seconds of prepare a case, where nothing has to be fetched."""
MOVED = 300e6
"""Bytes that are hashed, loaded or saved a second."""
DRAWN = 3.5e6
"""Examples that compare's resampling draws a second."""
ELSEWHERE = "PALIMPSEST_DEVICE_MAP=auto in the environment, "
"""So that a model that is scored need not fit one device."""


@dataclass(frozen=True)
class Planned:
    """A stage. `disk`: bytes, with DVC's copies, of which it removes `passing` when it is done.
    `model`: encoder or causal; "" where there is none. `run`: whose it is, of a stage
    that runs have. `seconds`: by kind of work. `products`: seconds of the products of states with
    the model's matrices, by kind, at the machine's full rate: what is left where nothing else takes
    time."""

    stage: str
    model: str
    memory: float
    disk: float
    seconds: Mapping[str, float]
    products: Mapping[str, float]
    run: str = ""
    passing: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def disk_of(stages: Sequence[Planned]) -> float:
    """Bytes that are held at once at most, where the stages run one after the other."""
    stays = sum(stage.disk - stage.passing for stage in stages)
    return stays + max((stage.passing for stage in stages), default=0.0)


@dataclass(frozen=True)
class Plan:
    """Everything of params.yaml that costs. `sharded`: weights, gradients and moments are split
    over the devices (FSDP; ZeRO's third stage), rather than held by each. `spread`: a model that is
    scored lies where there is room (PALIMPSEST_DEVICE_MAP). `there`: stages whose outs lie here."""

    cases: Mapping[str, Case]
    runs: Sequence[Recipe]
    evaluation: EvaluationConfig
    resamples: int
    machine: Machine
    sharded: bool = False
    spread: bool = False
    there: frozenset[str] = frozenset()

    def stages(self) -> Iterator[Planned]:
        for case in self.cases.values():
            done = Work(processes=1)
            told = Memory(0.0, process=memory.TABLES)
            disk = memory.prepared_disk([case])
            yield self._stage(f"prepare@{case.name}", case, done, told, disk, fixed=PREPARING)
        host, room = self.machine.host, self.machine.memory
        precision = self.machine.precision(self.evaluation.precision)
        noises = len(self.evaluation.noise.conditions)
        for case in self.cases.values():
            held = self._scoring(memory.baseline(case, self.evaluation, precision, host))
            disk = memory.records_disk(case, noises + self.evaluation.noise_repeats, 1)
            done = asked.baseline(case, self.evaluation)
            yield self._stage(f"pretrain-baseline-eval@{case.name}", case, done, held, disk)
        for run in self.runs:
            case = self.cases[run.config.case]
            held = self.training(run)
            disk, passing = memory.finetune_disk(case, run), memory.resumed_disk(case, run)
            done = work.finetune(case, run)
            tuned = self._stage(f"finetune@{run.name}", case, done, held, disk, run)
            yield replace(tuned, passing=passing)
        for run in self.runs:
            case = self.cases[run.config.case]
            models = len(run.config.seeds) * (1 + len(run.variants))
            found = memory.retention(case, self.evaluation, precision, host, room)
            held = self._scoring(found)
            disk = memory.records_disk(case, noises, models)
            done = asked.retention(case, run, self.evaluation)
            yield self._stage(f"retention-eval@{run.name}", case, done, held, disk, run)
        done = asked.compared(list(self.cases.values()), self.runs, self.resamples)
        told = Memory(0.0, process=memory.TABLES)
        yield self._stage("compare", None, done, told, 1e7)

    def _asking(self, case: Case) -> float:
        """Bytes of a batch that is asked."""
        precision = self.machine.precision(self.evaluation.precision)
        return memory.baseline(case, self.evaluation, precision, self.machine.host).batch

    def _scoring(self, held: Memory) -> Memory:
        """With PALIMPSEST_DEVICE_MAP what has no room lies in main memory or on disk."""
        beside = held.batch + held.process * self.machine.host
        room = max(1.0, self.machine.memory - beside)
        return replace(held, states=min(held.states, room)) if self.spread else held

    def training(self, run: Recipe) -> Memory:
        machine, case = self.machine, self.cases[run.config.case]
        precision = machine.precision(run.config.precision)
        return memory.finetune(case, run, precision, machine.devices, machine.host)

    def _stage(
        self,
        name: str,
        case: Case | None,
        done: Work,
        held: Memory,
        disk: float,
        run: Recipe | None = None,
        fixed: float = 0.0,
    ) -> Planned:
        training = name.startswith("finetune")
        # What `launch` does not start works on one device.
        devices = self.machine.devices if held.states else 1
        bytes_ = held.on_device(devices, self.sharded and training, self.machine.host)
        if not held.states:
            bytes_ = held.process
        if not self.machine.host:  # whose cores they share
            done = done.each(devices, self.sharded)
        at_rate = self._products(case, done, run if training else None)
        seconds = self._seconds(case, done, at_rate)
        seconds["fixed"] = fixed + PROCESS * done["processes"]
        model = case.model if case else ""
        return Planned(name, model, bytes_, disk, seconds, at_rate, run.name if run else "")

    def _products(self, case: Case | None, done: Work, run: Recipe | None) -> dict[str, float]:
        if case is None:
            return {}
        precision = self.machine.precision((run.config if run else self.evaluation).precision)
        tokens = step_tokens(case, run.config) if run else self.evaluation.batch_tokens
        rate = self.machine.products(precision, case.shape.width, round(tokens))
        return {kind: done[kind] / rate for kind in PASSES if done[kind]}

    def _seconds(
        self, case: Case | None, done: Work, products: Mapping[str, float]
    ) -> dict[str, float]:
        machine, found = self.machine, dict[str, float]()
        if case:
            # Probes are fitted by the host's processor, of which no data sheet of a device tells.
            host = machine.products("fp32", case.shape.width, 512) if machine.host else 1e11
            for kind, at_rate in (*products.items(), ("probe", done["probe"] / host)):
                moved = done[kind] * machine.beside(kind, case.model) / case.shape.width
                found[kind] = at_rate / machine.reached + moved / machine.copies
            streamed = done["stream"] / machine.copies
            found["write"] = max(found.get("write", 0.0), streamed)
            found["update"] = done["update"] / machine.copies
        found["move"] = done["move"] / MOVED
        found["tables"] = done["tables"] / DRAWN
        return {kind: seconds for kind, seconds in found.items() if seconds}

    def refusals(self, stages: Sequence[Planned]) -> Iterator[str]:
        """A line for each run that cannot fit, and what to change in params.yaml."""
        room, runs = self.machine.memory, {run.name: run for run in self.runs}
        for stage in stages:
            if stage.memory > room:
                run = runs.get(stage.run)
                has = f"{self.machine.name} has {room / GB:.1f}"
                needs = f"{stage.stage} needs {stage.memory / GB:.1f} GB of memory, {has}"
                yield f"{needs}: {self._remedy(stage, run)}"
        new = [stage for stage in stages if stage.stage not in self.there]
        wanted = disk_of(new)
        if wanted > self.machine.disk:
            largest = max(new, key=lambda one: one.disk)
            remedy = f"most of it is {largest.stage}'s"
            if largest.run:
                remedy += f": set runs.{largest.run}.methods: {{lora: {{r: 16}}}}, or fewer seeds"
            free = self.machine.disk / GB
            yield f"the disk: {wanted / GB:.1f} GB are needed, {free:.1f} are free; {remedy}"

    def _remedy(self, stage: Planned, run: Recipe | None) -> str:
        if run is None:
            return f"set evaluation.batch_tokens lower, {ELSEWHERE}or take a smaller model"
        key = f"runs.{run.name}"
        case = self.cases[run.config.case]
        if not stage.stage.startswith("finetune"):
            if self._asking(case) > self.machine.memory / 2:
                return "set evaluation.batch_tokens lower"
            smaller = f"take a smaller model as cases.{case.name}.model"
            if not self.machine.host:
                return f"base and tuned model are held side by side: {ELSEWHERE}or {smaller}"
            return f"relearning trains all weights, on one device: {smaller}"
        held = self.training(run)
        devices = self.machine.devices
        alone = held.alone(devices, self.sharded)
        alone += (held.kept + held.process) * self.machine.host
        if self.sharded and held.whole > self.machine.memory:
            whole = f"before they are split its weights, which are read, take {held.whole / GB:.1f}"
            remedy = "take a smaller model"
            if case.shape.causal:
                remedy += f", or leave {', '.join(reads_first(run.config.methods))} out"
            return f"{whole}: {remedy}"
        if alone > self.machine.memory:
            if not adapts(run.config.methods):
                return (
                    f"weights, gradients and AdamW's moments alone take {alone / GB:.1f}: set "
                    f"{key}.methods: {{lora: {{r: 16}}}}"
                )
            smaller = f"its weights alone take {alone / GB:.1f}: take a smaller model"
            may = "lora" in run.config.methods and not self.machine.host
            return smaller + (f", or set {key}.quantise: 4bit" if may else "")
        each = f"{key}.batch_size below {run.config.batch_size}, {key}.accumulate above "
        each += str(run.config.accumulate)
        if not run.config.gradient_checkpointing:
            each += f", {key}.gradient_checkpointing: true"
        lengths = ", ".join(f"tasks.{name}.max_length" for name in case.config.targets)
        lower = "" if run.config.precision != "fp32" else f", or {key}.precision: bf16"
        return f"a batch takes {held.batch / GB:.1f} of it: set {each}, or a lower {lengths}{lower}"
