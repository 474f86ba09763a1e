"""The address of a bucket: AWS's regional endpoint or a custom one, in virtual-host or path style."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from botocore.session import get_session

from broker.errors import SettingsInvalid

_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LENGTHS = range(3, 64)


def bucket_url(
    bucket: str, *, region: str, endpoint_url: str | None, path_style: bool, dual_stack: bool, fips: bool
) -> str:
    """Return the URL of `bucket`, with a trailing slash.

    Without `endpoint_url` it is S3's own for the region. A name that cannot stand in a host name, or that a
    certificate of AWS would not cover, stands in the path. The addresses equal botocore's. Raises SettingsInvalid if
    AWS has no such region. Source: Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
    """
    endpoint = endpoint_url or _regional_endpoint(region, dual_stack=dual_stack, fips=fips)
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    if path_style or not _is_host(bucket, parts.scheme) or _is_ip_address(parts.hostname or ""):
        return f"{parts.scheme}://{parts.netloc}{path}/{bucket}/"
    return f"{parts.scheme}://{bucket}.{parts.netloc}{path}/"


def _regional_endpoint(region: str, *, dual_stack: bool, fips: bool) -> str:
    host = f"s3{'-fips' if fips else ''}{'.dualstack' if dual_stack else ''}.{region}"
    for partition in get_session().get_data("partitions")["partitions"]:
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return f"https://{host}.{partition['outputs']['dnsSuffix']}"
    raise SettingsInvalid(
        problems=f"AWS_S3_REGION: should be a region of AWS, not {region!r}, unless BROKER_S3_ENDPOINT_URL is set"
    )


def _is_host(bucket: str, scheme: str) -> bool:
    labels = bucket.split(".")
    if len(bucket) not in _LENGTHS or (len(labels) > 1 and scheme == "https"):
        return False
    return all(_HOST_LABEL.fullmatch(label) for label in labels) and not _is_ip_address(bucket)


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
