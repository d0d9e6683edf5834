from dataclasses import replace
from pathlib import Path

import pytest

from actors.core.types import InputError, Parameter
from pipelines.catalogs import aws


def test_the_newest_version_is_read_plain_or_gzipped(sdk: Path) -> None:
    seen: list[tuple[int, int]] = []
    operations = aws.read_operations(sdk, lambda done, total: seen.append((done, total)))
    assert [o.tool.tool_id for o in operations] == [
        "aws.mail.BurnLetter",
        "aws.mail.OldSend",
        "aws.mail.SendLetter",
        "aws.mail.TagResource",
        "aws.waf.CreateRule",
        "aws.waf-regional.CreateRule",
        "aws.waf-regional.TagResource",
    ]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_tool_has_words_plain_text_and_documented_parameters(sdk: Path) -> None:
    operation = next(o for o in aws.read_operations(sdk) if o.tool.name == "SendLetter")
    tool = operation.tool
    assert (tool.title, tool.namespace) == ("Amazon Simple Mail: Send Letter", "mail")
    assert tool.description == "Sends a letter. The letter waits in the outbox until a courier comes along."
    shape_text = "For example, if you send ten letters, wait a minute after each one."
    assert tool.parameters == (Parameter("QueueUrl", "string", True, "The URL."), Parameter("Delay", "integer", False, shape_text))
    assert operation.errors == ("Thrown when the letter is longer than the largest allowed envelope.",)


def test_near_duplicates_are_each_other_s_equivalents(sdk: Path) -> None:
    operations = aws.read_operations(sdk)
    assert aws.equivalents(operations) == {
        "aws.mail.OldSend": {"aws.mail.SendLetter"},
        "aws.mail.SendLetter": {"aws.mail.OldSend"},
        "aws.mail.TagResource": {"aws.waf-regional.TagResource"},
        "aws.waf-regional.TagResource": {"aws.mail.TagResource"},
        "aws.waf.CreateRule": {"aws.waf-regional.CreateRule"},
        "aws.waf-regional.CreateRule": {"aws.waf.CreateRule"},
    }
    left_out = [o.tool.tool_id for o in operations if aws.is_near_duplicate(o)]
    assert left_out == ["aws.mail.OldSend", "aws.mail.TagResource", "aws.waf.CreateRule", "aws.waf-regional.TagResource"]


def test_one_name_with_nearly_one_text_is_equivalent_in_any_service(sdk: Path) -> None:
    send = next(o for o in aws.read_operations(sdk) if o.tool.name == "SendLetter")
    copies = [
        replace(send, service=s, tool=replace(send.tool, tool_id=s, description=d))
        for s, d in [("x", "Sends one big letter now."), ("y", "Sends one big letter."), ("z", "Paints a house.")]
    ]
    assert aws.equivalents(copies) == {"x": {"y"}, "y": {"x"}}


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("TagResource", "tag"),
        ("AddTagsToStream", "tag"),
        ("PutBucketTagging", "tag"),
        ("UntagQueue", "untag"),
        ("RemoveTagsFromResource", "untag"),
        ("ListTagsForResource", "list"),
        ("GetObjectTagging", "list"),
        ("CreateDistributionWithTags", ""),
        ("CreateLFTag", ""),
        ("UpdateCostAllocationTagsStatus", ""),
        ("PutImageTagMutability", ""),
        ("CreateStage", ""),
    ],
)
def test_the_tagging_family_is_known_by_its_names(name: str, action: str) -> None:
    assert aws.tagging_action(name) == action


def test_service_names_are_short_parted_and_distinct() -> None:
    metadata = {
        "s3": {"serviceAbbreviation": "Amazon S3", "serviceFullName": "Amazon Simple Storage Service"},
        "kms": {"serviceAbbreviation": "KMS", "serviceFullName": "AWS Key Management Service"},
        "budget": {"serviceFullName": "AWSDeadlineCloud"},
        "elb": {"serviceFullName": "Elastic Load Balancing"},
        "elbv2": {"serviceAbbreviation": "Elastic Load Balancing v2", "serviceFullName": "Elastic Load Balancing"},
    }
    assert list(aws.service_titles(metadata).values()) == [
        "Amazon S3",
        "AWS Key Management Service",
        "AWS Deadline Cloud",
        "Elastic Load Balancing",
        "Elastic Load Balancing v2",
    ]


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no service models"):
        aws.read_operations(tmp_path)


def test_a_service_of_the_installed_sdk_is_read(tmp_path: Path) -> None:
    (tmp_path / "sqs").symlink_to(aws.data_dir() / "sqs")
    tools = {o.tool.name: o.tool for o in aws.read_operations(tmp_path)}
    send = tools["SendMessage"]
    assert send.title == "Amazon SQS: Send Message"
    assert send.description.startswith("Delivers a message to the specified queue.")
    assert [p.name for p in send.parameters if p.required] == ["QueueUrl", "MessageBody"]
    assert "<p>" not in "".join(p.description for p in send.parameters)
