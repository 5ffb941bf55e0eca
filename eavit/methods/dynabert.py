"""DynaBERT: one width for all layers, evenly dropped layers, both trained by distillation in two phases."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import floor, isfinite

from eavit.methods.card import Card
from eavit.methods.choosing import Choosing, answer_on
from eavit.methods.phases import Phase, findings_of, portions_of, resorted, train_phase
from eavit.methods.recipe import Elastic, Recipe
from eavit.methods.sizes import choosing_size
from eavit.model.importance import METRICS
from eavit.model.submodel import Backbone, Submodel
from eavit.options import allowed
from eavit.selection.selectors import EVALUATIONS
from eavit.space.sizes import ListSpace
from eavit.training.prepare import prepare
from eavit.training.samplers import Always
from eavit.training.steps import TEACHER, Pass, Plan, plain
from eavit.training.task import Task

WIDTHS, DEPTHS = (0.25, 0.5, 0.75, 1.0), (0.5, 0.75, 1.0)

CARD = Card(
    title="DynaBERT",
    paper="DynaBERT: Dynamic BERT with Adaptive Width and Depth, NeurIPS 2020, arXiv 2004.04037",
    code="huawei-noah/Pretrained-Language-Model (DynaBERT)",
    elastic="heads and hidden width of all layers by one fraction m, depth by one fraction d; the embedding is full",
    step="phase 1 all widths (2.84 with the teacher's forward, ViT-B), phase 2 the grid of 12 (5.67, and 0.33 for the "
    "teacher)",
    distillation="logits and hidden states, no labels; phase 1 from the fine-tuned full model, phase 2 from phase 1's",
    selection="none: the grid is reported; ours takes the dearest size that fits",
    parameters={
        "widths": (WIDTHS, "paper"),
        "depths": (DEPTHS, "paper"),
        "heads": ("round(heads * m), a half to the even number: 3, 6, 9, 12 of 12 and 2, 3, 4, 6 of 6", "code"),
        "layers": ("round(d * L), the i-th being layer floor(i / d): 0 1 2 4 5 6 8 9 10 at 3/4 of 12", "code"),
        "logits_weight": (1.0, "code"),
        "hidden_weights": ((0.1, 1.0), "code"),
        "hidden_states": ("the sum over layers of mean squared errors, the embedding's among them", "code"),
        "phases": ("fine-tune, width, width and depth: 3 epochs each", "code"),
        "importance": ("first-order Taylor of the fine-tuned model, heads and neurons", "paper"),
        "teacher_share": ("a third of the steps, as each phase", "ours"),
    },
    ours=(
        "the choice of a size for a budget: the dearest that fits, of equal MACs the first in spelling",
        "a size that rounds to the depth of a deeper one is the same depth (3 layers: 3/4 and 1/2 are both 2)",
        "each fit runs through its own cycle of the learning rate, as in the source: two of them end as teachers",
    ),
    deviations=(
        "importance is taken on the fit split, not on the validation set",
        "which phase runs is decided, not tested by a condition that always holds",
        "in phase 2 the teacher is always the full width, as the code does; the paper teaches each width by its own",
        "the images are the fit split's; the source distils on augmented text, and without it trains on labels",
        "hidden states are a pre-norm ViT's residual stream, which is not normalised as BERT's are: the weights keep "
        "their numbers, not their effect",
        "of a shorter model the states that leave its layers meet the same layers' in the teacher; the source pairs "
        "those that enter, and the last one with the teacher's last",
        "no third phase of fine-tuning on labels (optional in the source)",
    ),
)


def dynabert(
    phases: int = 2,
    hidden: float = 0.1,
    hidden_deep: float = 1.0,
    importance: str = "taylor",
    select: str = "native",
    nesting: str = "free",
    evaluations: int = EVALUATIONS,
) -> Recipe:
    """``phases``: 2, or 1 for widths alone (DynaBERT-w); ``hidden`` and ``hidden_deep`` weigh hidden states in each."""
    allowed("importance", importance, METRICS)
    if phases not in (1, 2):
        raise ValueError(f"option phases={phases}: must be 1 (widths) or 2 (widths, then widths and depths)")
    for name, weight in {"hidden": hidden, "hidden_deep": hidden_deep}.items():
        if not (isfinite(weight) and weight >= 0):
            raise ValueError(f"option {name}={weight}: must be a number from 0 up")
    choose = choosing_size(select, nesting, evaluations)
    return Recipe("dynabert", _Dynabert(phases, (hidden, hidden_deep), importance, choose).run, CARD)


@dataclass(frozen=True, slots=True)
class _Dynabert:
    phases: int
    hidden: tuple[float, float]
    importance: str
    choose: Choosing

    def run(self, task: Task) -> Elastic:
        vit = prepare(task, self.importance)
        b = vit.backbone
        wide, deep = grid(b, depths=(1.0,)), grid(b)
        space = deep if self.phases == 2 else wide
        if self.choose.nesting == "nested" and not space.closed:
            raise ValueError(f"option nesting='nested': at {b.depth} layers the sizes of the grid do not nest")
        phases = [Phase(name, 1.0) for name in ("teacher", "width", "depth")[: self.phases + 1]]
        plans = [plain(Always(space, (b.full,))), *map(_distilled, (wide, deep), self.hidden)][: self.phases + 1]
        parts = portions_of(task, space, self.choose, phases, plans)
        steps = [train_phase(task, vit, plans[0], phases[0], parts[0])]
        vit = resorted(task, vit, self.importance, ("heads", "neurons"))  # as in the source; channels are all kept
        for plan, phase, part in zip(plans[1:], phases[1:], parts[1:], strict=True):
            steps.append(train_phase(task, vit, plan, phase, part, deepcopy(vit)))
        names = [phase.name for phase in phases]
        told = findings_of(task, vit, dict(zip(names, steps, strict=True)), dict(zip(names, plans, strict=True)))
        return answer_on(task, vit, space, self.choose, told)


def kept_layers(depth: int, fraction: float) -> tuple[int, ...]:
    """Layers that run at a depth fraction."""
    return tuple(floor(i / fraction) for i in range(max(1, round(fraction * depth))))


def grid(backbone: Backbone, depths: tuple[float, ...] = DEPTHS) -> ListSpace:
    """All widths at all depths, 12 where no two of them round to the same."""
    b, rows = backbone, dict[int, tuple[int, ...]]()
    for fraction in sorted(depths, reverse=True):
        layers = kept_layers(b.depth, fraction)
        rows.setdefault(len(layers), layers)

    def size(width: float, layers: tuple[int, ...]) -> Submodel:
        heads, hidden = max(1, round(b.heads * width)), max(1, round(b.mlp * width))
        on = [int(layer in layers) for layer in range(b.depth)]
        return Submodel(b.embed, tuple(heads * i for i in on), tuple(hidden * i for i in on))

    return ListSpace.of(b, [size(width, layers) for layers in rows.values() for width in WIDTHS])


def _distilled(space: ListSpace, hidden: float) -> Plan:
    """Every size at every step, the dearest first; hidden states summed over the kept layers and the embedding."""

    def taught(size: Submodel) -> Pass:
        states = 1 + sum(map(bool, size.heads))
        return Pass(size, hard=0.0, soft=1.0, source=TEACHER, features=hidden * states)

    passes = tuple(taught(size) for size in reversed(space.members))
    return lambda progress, rng: passes
