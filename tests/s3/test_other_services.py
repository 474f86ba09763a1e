"""SQS and STS on the same port believe signatures too, and nothing else."""

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError


def client(s3, service, access_key=None, secret_key=None, token=None):
    """Return a client of a service; of the server's own key when none is given."""
    return boto3.client(
        service,
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=access_key or s3.access_key,
        aws_secret_access_key=secret_key or s3.secret_key,
        aws_session_token=token,
        region_name=s3.region,
    )


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key": "AKIA0000000000000000"}, "InvalidClientTokenId"),
        ({"token": "unknown"}, "InvalidClientTokenId"),
    ],
)
@pytest.mark.parametrize(
    ("service", "call"), [("sts", "get_session_token"), ("sqs", "list_queues"), ("iam", "list_roles")]
)
def test_a_stranger_is_refused(service, call, keys, code, embedded_s3):
    stranger = client(embedded_s3, service, **keys)
    with pytest.raises(ClientError) as raised:
        getattr(stranger, call)()
    answer = raised.value.response
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (403, code)


def test_an_unsigned_request_for_a_session_is_refused(embedded_s3):
    action = {"Action": "GetSessionToken", "Version": "2011-06-15"}
    response = httpx.post(embedded_s3.endpoint_url, data=action)
    assert response.status_code == 403
    assert "SecretAccessKey" not in response.text


def test_a_message_goes_through_a_queue(embedded_s3):
    sqs = client(embedded_s3, "sqs")
    url = sqs.create_queue(QueueName="post-office")["QueueUrl"]
    assert url.startswith(embedded_s3.endpoint_url)
    sqs.send_message(QueueUrl=url, MessageBody="ü&<")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "ü&<"
