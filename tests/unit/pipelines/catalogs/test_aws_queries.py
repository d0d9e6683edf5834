from pathlib import Path

import pytest

from actors.core.types import Corpus, Query
from pipelines.catalogs import aws, aws_queries, vague


@pytest.fixture
def corpus(sdk: Path, vague_folder: Path) -> Corpus:
    return aws_queries.build(aws.read_operations(sdk), vague.read(vague_folder))


def of_kind(corpus: Corpus, kind: str) -> list[Query]:
    return [q for q in corpus.queries if q.kind == kind]


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("To delete a DB cluster.", "Delete a DB cluster"),
        ("Set website configuration on a bucket", "Set website configuration on a bucket"),
        ("TagResource example", ""),
        ("DeleteEnvironment", ""),
    ],
)
def test_titles_are_cleaned(title: str, cleaned: str) -> None:
    assert aws_queries.clean_title(title) == cleaned


@pytest.mark.parametrize(
    ("description", "cleaned"),
    [
        ("The following example shows how to request details about an OU:/n/n", "Request details about an OU"),
        ("This example deletes the specified DB cluster. It is gone.", "Deletes the specified DB cluster"),
        ("The following list-contact-channels example lists the channels.", "Lists the channels"),
        ("The following example deletes a match set with the ID exampleIDs3t-46da.", "Deletes a match set"),
        ("The following command gets information about the password.", "Gets information about the password"),
        ("Returns a list of lexicons.", "Returns a list of lexicons"),
        ("", ""),
    ],
)
def test_descriptions_lose_their_opening_and_made_up_names(description: str, cleaned: str) -> None:
    assert aws_queries.clean_description(description) == cleaned


def test_standard_queries_follow_the_assignment_of_the_vague_ones(corpus: Corpus) -> None:
    standard = {next(iter(q.gold)): q for q in of_kind(corpus, "standard")}
    assert standard["aws.mail.SendLetter"].text == "Post an envelope overseas by plane"
    assert standard["aws.mail.SendLetter"].novelty == "seen"
    burn = standard["aws.mail.BurnLetter"]
    assert (burn.text, burn.split, burn.novelty) == ("Turn paper into smoke", "test", "unseen")
    assert "aws.mail.OldSend" not in standard  # its title is its name, and it has no description


def test_a_sentence_query_is_taken_out_of_the_description(corpus: Corpus) -> None:
    (sentence,) = of_kind(corpus, "sentence")
    assert sentence.text == "The letter waits in the outbox until a courier comes along."
    assert (sentence.split, sentence.gold) == ("train", {"aws.mail.SendLetter": 1})
    assert corpus.catalog.by_id["aws.mail.SendLetter"].description == "Sends a letter."


def test_unseen_operations_keep_their_description_and_give_no_training_query(corpus: Corpus) -> None:
    assert corpus.catalog.by_id["aws.mail.BurnLetter"].description.endswith("afterwards.")
    assert not any("aws.mail.BurnLetter" in q.gold for q in corpus.queries if q.split == "train")


def test_examples_and_symptoms_lose_their_openings(corpus: Corpus) -> None:
    assert [q.text for q in of_kind(corpus, "example")] == ["If you send ten letters, wait a minute after each one."]
    assert [q.text for q in of_kind(corpus, "symptom")] == ["The letter is longer than the largest allowed envelope."]


def test_vague_queries_stay_as_they_are(corpus: Corpus, vague_folder: Path) -> None:
    assert of_kind(corpus, "vague") == vague.read(vague_folder)


def test_a_training_text_like_a_test_text_is_dropped_and_stays_in_the_description(sdk: Path, vague_folder: Path) -> None:
    path = vague_folder / "queries.jsonl"
    copied = "a letter that waits in my outbox until some courier comes along"
    path.write_text(path.read_text().replace("words for somebody far off", copied))
    corpus = aws_queries.build(aws.read_operations(sdk), vague.read(vague_folder))
    assert of_kind(corpus, "sentence") == []
    assert "courier" in corpus.catalog.by_id["aws.mail.SendLetter"].description


def test_seen_queries_need_a_training_query() -> None:
    train = Query("a", "x", "vague", "train", {"t": 1})
    seen = Query("b", "y", "vague", "test", {"t": 1, "s": 1}, novelty="seen")
    orphan = Query("c", "z", "vague", "test", {"s": 1}, novelty="seen")
    unseen = Query("d", "w", "vague", "dev", {"u": 1}, novelty="unseen")
    sentence = Query("e", "v", "sentence", "train", {"s": 1})  # not labelled by anybody, so it makes no operation known
    assert aws_queries.seen_only([train, seen, orphan, unseen, sentence]) == [train, seen, unseen, sentence]


def test_equivalents_of_an_unseen_operation_give_no_training_query(sdk: Path, vague_folder: Path) -> None:
    for name in ("train", "test"):
        path = vague_folder / "qrels" / f"{name}.tsv"
        swapped = {"aws.mail.SendLetter": "aws.waf.CreateRule", "aws.mail.BurnLetter": "aws.mail.OldSend"}
        text = path.read_text()
        for old, new in swapped.items():
            text = text.replace(old, new)
        path.write_text(text)
    corpus = aws_queries.build(aws.read_operations(sdk), vague.read(vague_folder))
    # OldSend is unseen and SendLetter took its place, so SendLetter may be trained on by nothing.
    assert not any("aws.mail.SendLetter" in q.gold for q in corpus.queries if q.split == "train")
