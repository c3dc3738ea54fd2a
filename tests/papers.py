"""The papers' searches: what each is to find, and twins of them that are small enough to be run."""

from dataclasses import dataclass, replace
from pathlib import Path

from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe
from nas.axes import Axes, Multiples, Range
from nas.budget import Budget
from nas.search import SearchSpec
from nas.spec import load_spec
from tests.micro import SEQUENCE_LENGTH, STEP_TOKENS, VOCAB_SIZE, micro_parent, micro_text

FOLDER = Path(__file__).parents[1] / "deploy" / "examples" / "papers"

DEPTH, WIDTH, HEADS, HEAD_DIM = 4, 64, 4, 8
"""A twin has a quarter of the layers and heads and a sixty-fourth of the channels; its heads have 8 channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a paper made of a parent."""

    file: str
    sizes: dict[str, int]
    """By axis; the others are the parent's."""
    billions: str
    """Parameters, to the printed precision."""
    gigabytes: int
    """What a trial, or the correction of its teacher, takes on a device at most, as its file says."""
    num_feasible: int | None = None
    """Architectures in the paper's space, where it says so."""

    @property
    def spec(self) -> SearchSpec:
        """The search that is to find it."""
        return load_spec(FOLDER / self.file)


PUBLISHED = (
    Published(
        file="nemotron-15b-to-8b.yaml",
        sizes={"num_layers": 32, "hidden_size": 4096, "intermediate_size": 16_384, "num_attention_heads": 48},
        billions="8.27",
        gigabytes=101,
        num_feasible=15,
    ),
    Published(
        file="nemotron-8b-to-4b.yaml",
        sizes={"num_layers": 32, "hidden_size": 3072, "intermediate_size": 9216, "num_attention_heads": 24},
        billions="4.19",
        gigabytes=89,
        num_feasible=18,
    ),
    Published(
        file="llama-3.1-8b-to-4b-width.yaml",
        sizes={"hidden_size": 3072, "intermediate_size": 9216},
        billions="4.51",
        gigabytes=133,
    ),
    Published(file="llama-3.1-8b-to-4b-depth.yaml", sizes={"num_layers": 16}, billions="4.54", gigabytes=133),
    Published(
        file="mistral-nemo-12b-to-8b.yaml",
        sizes={"hidden_size": 4096, "intermediate_size": 11_520},
        billions="8.41",
        gigabytes=84,
    ),
)


def twin_sizes(sizes: dict[str, int]) -> dict[str, int]:
    """Return sizes of axes as a twin has them."""
    shrunk = {
        "num_layers": DEPTH,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_attention_heads": HEADS,
    }
    return {name: size // shrunk[name] for name, size in sizes.items()}


def twin(published: Published, directory: Path, *, window: Budget) -> SearchSpec:
    """Return the search on a random parent of the same family and proportions, written into ``directory``."""
    spec = published.spec
    config = spec.parent_config
    assert config is not None
    parent = micro_parent(
        directory / "parent",
        config["model_type"],
        num_hidden_layers=config["num_hidden_layers"] // DEPTH,
        hidden_size=config["hidden_size"] // WIDTH,
        intermediate_size=config["intermediate_size"] // WIDTH,
        num_attention_heads=config["num_attention_heads"] // HEADS,
        num_key_value_heads=config["num_key_value_heads"] // HEADS,
        head_dim=HEAD_DIM,
        vocab_size=VOCAB_SIZE,
        tie_word_embeddings=config["tie_word_embeddings"],
    )
    axes = spec.axes
    return replace(
        spec,
        parent=str(parent),
        parent_config=None,
        budget=window,
        axes=Axes(
            num_layers=_shrunk(axes.num_layers, DEPTH),
            hidden_size=_shrunk(axes.hidden_size, WIDTH),
            intermediate_size=_shrunk(axes.intermediate_size, WIDTH),
            num_attention_heads=_shrunk(axes.num_attention_heads, HEADS),
        ),
        data=DataRecipe(
            source=str(micro_text(directory / "text.jsonl")),
            sequence_length=SEQUENCE_LENGTH,
            validation_tokens=8 * SEQUENCE_LENGTH,
        ),
        calibration=CalibrationRecipe(num_tokens=8 * SEQUENCE_LENGTH),
        distillation=DistillationRecipe(teacher="live"),  # as the papers' recipes come to
        training=replace(
            spec.training,
            num_tokens=8 * STEP_TOKENS,
            batch_tokens=STEP_TOKENS,
            warmup_tokens=2 * STEP_TOKENS if spec.training.warmup_tokens else 0,
        ),
        num_points=2,
        num_trials=3,
        max_parallel=1,
        resources=replace(spec.resources, cpus=1, gpus=0, processes=min(2, spec.resources.processes)),
    )


def _shrunk(
    choices: tuple[int, ...] | Range | Multiples | None, by: int
) -> tuple[int, ...] | Multiples | None:
    if choices is None or isinstance(choices, Multiples):
        return choices
    sizes = range(choices.start, choices.stop + 1, choices.step) if isinstance(choices, Range) else choices
    return tuple(sorted({round(size / by) for size in sizes}))
