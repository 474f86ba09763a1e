"""The events that the embedded S3 sends to queues."""

import json

import boto3
import pytest


@pytest.fixture
def queue(embedded_s3, s3_client, bucket):
    """Let events of `in/….mp4` go to a queue; return a function that takes what arrived."""
    sqs = boto3.client(
        "sqs",
        endpoint_url=embedded_s3.endpoint_url,
        aws_access_key_id=embedded_s3.access_key,
        aws_secret_access_key=embedded_s3.secret_key,
        region_name=embedded_s3.region,
    )
    url = sqs.create_queue(QueueName=f"events-of-{bucket}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".mp4"}]
    s3_client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": "uploads",
                    "QueueArn": arn,
                    "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                    "Filter": {"Key": {"FilterRules": rules}},
                }
            ]
        },
    )

    def take():
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    return take


def test_a_new_notification_is_tested_first(queue, bucket):
    (event,) = queue()
    assert (event["Event"], event["Bucket"]) == ("s3:TestEvent", bucket)


def test_a_post_is_told_with_its_key_form_encoded_and_its_etag_unquoted(queue, form, bucket):
    queue()
    form.fields["key"] = "in/a b+ü.mp4"
    response = form.send()
    (event,) = queue()
    (record,) = event["Records"]
    assert record["eventName"] == "ObjectCreated:Post"
    assert record["awsRegion"] == form.s3.region
    assert record["s3"]["configurationId"] == "uploads"
    assert record["s3"]["bucket"]["name"] == bucket
    found = record["s3"]["object"]
    assert (found["key"], found["size"]) == ("in/a+b%2B%C3%BC.mp4", 10)
    assert found["eTag"] == response.headers["etag"].strip('"')


def test_put_copy_and_delete_are_told_in_order(queue, s3_client, bucket):
    queue()
    s3_client.put_object(Bucket=bucket, Key="in/a.mp4")
    s3_client.copy_object(Bucket=bucket, Key="in/b.mp4", CopySource=f"{bucket}/in/a.mp4")
    s3_client.delete_object(Bucket=bucket, Key="in/a.mp4")
    records = [record for event in queue() for record in event["Records"]]
    told = sorted((record["s3"]["object"]["sequencer"], record["eventName"]) for record in records)
    assert {name for _, name in told} == {
        "ObjectCreated:Put",
        "ObjectCreated:Copy",
        "ObjectRemoved:Delete",
    }
    assert told[0][1] == "ObjectCreated:Put"


def test_other_keys_and_refused_forms_are_not_told(queue, form, s3_client, bucket):
    queue()
    s3_client.put_object(Bucket=bucket, Key="out/a.mp4")
    s3_client.put_object(Bucket=bucket, Key="in/a.txt")
    form.fields["key"] = "in/a.mp4"
    form.conditions.append(["content-length-range", 0, 1])
    assert form.send().status_code == 400
    assert queue() == []
