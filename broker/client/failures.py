"""The errors of the client. Each message has the cause; none quotes a token."""


class ClientError(Exception):
    """The request failed."""


class Unreachable(ClientError):
    """No broker, or no S3, answered after several tries."""


class FileRefused(ClientError):
    """S3 refused the file, or the file changed while it was sent."""


class BrokerProblem(ClientError):
    """The broker answered with an RFC 9457 problem.

    `slug` is the last part of its type, such as `quota-exceeded`; `facts` holds the members of the document.
    """

    def __init__(self, status: int, slug: str, title: str, detail: str, facts: dict[str, object]) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.facts = facts
