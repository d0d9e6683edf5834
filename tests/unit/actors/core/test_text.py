import pytest

from actors.core.text import identifier_words, sentences
from actors.core.types import DOCUMENT_PARAMETERS, DOCUMENT_WORDS, Parameter, Tool


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DescribeDBInstances", "Describe DB Instances"),
        ("ListWebACLs", "List Web ACLs"),
        ("CreateOAuth2Token", "Create OAuth2 Token"),
        ("GetIPv6Pools", "Get IPv6 Pools"),
        ("EC2InstanceProfile", "EC2 Instance Profile"),
        ("max_results", "max results"),
        ("messageId", "message Id"),
    ],
)
def test_identifiers_fall_into_words(name: str, words: str) -> None:
    assert " ".join(identifier_words(name)) == words


def test_sentences_end_at_stops_and_lines_but_not_at_abbreviations() -> None:
    text = "Sends mail, e.g. Newsletters. Costs 1.5 cents! See U.S. Rates\nNew line"
    assert sentences(text) == ["Sends mail, e.g. Newsletters.", "Costs 1.5 cents!", "See U.S. Rates", "New line"]


def test_a_document_holds_title_two_sentences_and_parameter_words() -> None:
    parameters = (Parameter("QueueUrl"), Parameter("maxResults"))
    tool = Tool("t", "SendMessage", "Amazon SQS: Send Message", "Sends a message.\nIt waits. It is lost.", parameters)
    assert tool.document == "Amazon SQS: Send Message. Sends a message. It waits. Parameters: queue url, max results."


def test_a_document_of_a_long_tool_stays_short() -> None:
    parameters = tuple(Parameter(f"name{i}") for i in range(99))
    words = Tool("t", "n", "T", " ".join(["word"] * 500), parameters).document.split()
    assert words.count("word") == DOCUMENT_WORDS
    assert sum(word.startswith("name") for word in words) == DOCUMENT_PARAMETERS


def test_a_prescribed_document_is_kept_to_the_letter_and_counts_as_content() -> None:
    ready, other = (Tool("t", "n", "Title", "Text. More. Rest.", ready_document=text) for text in ("Title:  Text", "Title: Text"))
    assert ready.document == "Title:  Text"
    assert ready.content_hash != other.content_hash
