"""Alignment through the real TRL: held-out answers get likelier, preferences are learnt, the chat template survives."""

import json
import random
import re
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from minitron.align import answer_loss, preference_accuracy
from minitron.checkpoint import load_parent, load_tokenizer
from minitron.conversations import held_out, read_chats, read_pairs
from minitron.errors import DatasetTooSmall, UnreadableData
from tests.checkpoints import CHAT_TEMPLATE, chat_tokenizer, sentences, write_checkpoint


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A student with a chat template, chats answered by a noun, and pairs that prefer a verb after all."""
    place = tmp_path_factory.mktemp("place")
    write_checkpoint(place / "student")
    chat_tokenizer().save_pretrained(place / "student")
    (place / "student" / "README.md").write_text("# the student's own card\n")
    draw = random.Random(0)
    nouns, verbs = (
        ("model", "layer", "head", "neuron", "token"),
        ("prunes", "keeps", "reads", "doubts", "trains"),
    )
    lines = sentences(120).splitlines()
    write_rows(
        place / "chats.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": line},
                    {"role": "assistant", "content": f"the {line.split()[1]} ."},
                ]
            }
            for line in lines
        ],
    )
    write_rows(
        place / "pairs.jsonl",
        [
            {"prompt": line, "chosen": f"the {draw.choice(verbs)}", "rejected": f"the {draw.choice(nouns)}"}
            for line in lines
        ],
    )
    return place


@pytest.mark.searches
def test_a_student_learns_chats_then_preferences(place, run):
    code, out, err = run(
        "align", place / "student", "-o", place / "aligned", "--sft", place / "chats.jsonl", "--dpo", place / "pairs.jsonl",
        "--sft-learning-rate", 5e-3, "--dpo-learning-rate", 2e-3, "--epochs", 3, "--validation-share", 0.2,
    )  # fmt: skip
    assert code == 0, err
    (before, after), (worse, better) = (
        map(float, pair) for pair in re.findall(r": ([\d.]+) -> ([\d.]+)", out)
    )
    assert after < before - 1.0
    assert better > max(worse, 0.5) + 0.3
    assert "supervised fine-tuning: " in err
    assert "preference optimisation: " in err

    # What was told is what the saved checkpoint does on what it never saw.
    model, tokenizer = load_parent(place / "aligned"), load_tokenizer(place / "aligned")
    _, pairs = held_out(read_pairs(place / "pairs.jsonl"), 0.2, where=place)
    assert preference_accuracy(model, tokenizer, pairs) == pytest.approx(better, abs=1e-4)

    assert tokenizer.chat_template == CHAT_TEMPLATE
    chat = [{"role": "user", "content": "the model"}]
    stock = AutoTokenizer.from_pretrained(place / "aligned")
    assert stock.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<user> the model <end> <assistant> "
    )
    AutoModelForCausalLM.from_pretrained(place / "aligned")
    before, after = (
        json.loads((place / name / "config.json").read_text()) for name in ("student", "aligned")
    )
    assert before | {"dtype": "float32"} == after
    card = (place / "aligned" / "README.md").read_text()
    assert "`student` aligned by supervised fine-tuning and then direct preference optimisation" in card
    assert "## Recipe: dpo" in card
    assert (place / "aligned" / "STUDENT.md").read_text() == "# the student's own card\n"


def test_the_loss_of_answers_counts_answers_alone(place):
    """A longer question changes what is predicted, not how many tokens count."""
    model, tokenizer = load_parent(place / "student"), chat_tokenizer()
    chats = read_chats(place / "chats.jsonl")[:3]
    alone = [answer_loss(model, tokenizer, [chat]) for chat in chats]
    assert answer_loss(model, tokenizer, chats) == pytest.approx(
        sum(alone) / 3
    )  # answers of four tokens each
    text = tokenizer.apply_chat_template([*chats[0].prompt, chats[0].answer], tokenize=False)
    token_ids = tokenizer(text, return_tensors="pt").input_ids
    labels = token_ids.clone()
    labels[:, :-4] = -100
    assert model(input_ids=token_ids, labels=labels).loss.item() == pytest.approx(alone[0], rel=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "1: cannot be read as JSON"),
        ("[]", "1: found list, allowed: a mapping with messages"),
        ('{"text": "x"}', "1: found text, allowed: a mapping with messages"),
        ('{"messages": "x"}', '1: messages: found "x", allowed: a list of messages'),
        ('{"messages": [{"role": "user"}]}', "1: messages: found .*, allowed: a list of messages"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}]}',
            "1: messages: found one, allowed: at least",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}]}',
            "1: messages: found an end by 'user', allowed: by 'assistant'",
        ),
    ],
)
def test_a_line_that_is_no_chat_is_named(tmp_path, line, message):
    path = tmp_path / "chats.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UnreadableData, match=f"chats.jsonl:{message}"):
        read_chats(path)


def test_pairs_may_be_texts_or_messages_and_may_repeat_their_prompt(tmp_path):
    user, good, bad = (
        {"role": role, "content": text}
        for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
    )
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
        {"prompt": [user], "chosen": [user, good], "rejected": [user, bad]},
    ]
    first, *others = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    assert others == [first, first]
    path = write_rows(tmp_path / "wrong.jsonl", [{"prompt": "q", "chosen": [good, good], "rejected": "b"}])
    with pytest.raises(UnreadableData, match=r"wrong.jsonl:1: chosen: found 2 messages, allowed: one answer"):
        read_pairs(path)


def test_a_rows_side_follows_from_its_content_alone(place):
    rows = read_chats(place / "chats.jsonl")
    training, held = held_out(rows, 0.2, where=place)
    assert sorted(map(repr, training + held)) == sorted(map(repr, rows))
    again, same = held_out(rows[::-1], 0.2, where=place)
    assert (again[::-1], same[::-1]) == (training, held)
    assert not {repr(row) for row in training} & {repr(row) for row in held}
    with pytest.raises(DatasetTooSmall, match="found 0 rows to train on and 120 held out"):
        held_out(rows, 1.0, where=place)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--sft, --dpo: found neither"),
        (
            ["--sft", "{place}/pairs.jsonl"],
            "pairs.jsonl:1: found prompt, chosen, rejected, allowed: a mapping with messages",
        ),
        (["--dpo", "{place}/pairs.jsonl", "--beta", "0"], "alignment.beta: found 0.0, allowed: above 0"),
        (
            ["--sft", "{place}/chats.jsonl", "--seed", "-1"],
            "alignment.seed: found -1, allowed: 0 to 4294967295",
        ),
        (
            ["--sft", "{place}/chats.jsonl", "--sft-learning-rate", "inf"],
            "alignment.learning_rate: found inf, allowed: above 0, and finite",
        ),
    ],
)
def test_a_mistake_is_one_line_before_any_work(place, run, arguments, message):
    code, out, err = run(
        "align", place / "student", "-o", place / "never", *(word.format(place=place) for word in arguments)
    )
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: (.*/)?{re.escape(message)}.*\n", err)
    assert not (place / "never").exists()


def test_rows_of_which_nothing_would_be_learnt_are_refused(place, run):
    """TRL drops rows whose question fills them, and of none it makes a traceback."""
    for option, file in (("--sft", "chats.jsonl"), ("--dpo", "pairs.jsonl")):
        code, out, err = run(
            "align", place / "student", "-o", place / "never", option, place / file, "--max-length", 8
        )
        assert (code, out) == (1, "")
        assert re.fullmatch(
            r"error: alignment\.max_length: found 8, allowed for rows whose shortest question has \d+ tokens: more\n",
            err,
        )


def test_rows_beyond_the_positions_of_a_model_are_refused(place, run, capsys):
    """GPT-2 has a table of them, and would end in the middle of the work."""
    write_checkpoint(place / "short", "gpt2", max_position_embeddings=10)
    chat_tokenizer().save_pretrained(place / "short")
    capsys.readouterr()
    code, out, err = run("align", place / "short", "-o", place / "never", "--sft", place / "chats.jsonl")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"error: alignment\.max_length: found a held-out row, which is not cut, of \d+ tokens, allowed by the model's "
        r"positions: at most 10\n",
        err,
    )


def test_a_student_without_a_template_is_refused(place, run):
    write_checkpoint(place / "plain")
    code, _, err = run("align", place / "plain", "-o", place / "never", "--sft", place / "chats.jsonl")
    assert code == 1
    assert "student: found a tokenizer without chat template, allowed: one with" in err


def test_a_missing_extra_is_named(place, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    code, _, err = run("align", place / "student", "-o", place / "never", "--sft", place / "chats.jsonl")
    assert code == 1
    assert (
        err == "error: align: needs trl, which this Python lacks: pip install 'minitron-nas[worker,align]'\n"
    )
