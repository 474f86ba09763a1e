"""The errors of the client. Each message has the cause; none quotes a token."""


class ClientError(Exception):
    """The request failed."""


class Unreachable(ClientError):
    """No broker, or no S3, answered after several tries."""


class FileRefused(ClientError):
    """The file cannot be uploaded: it has no known type, or S3 refused it."""


class FileChanged(FileRefused):
    """The file changed while it was being sent, or it is not the file of the upload."""

    def __init__(self, message: str = "The file changed while it was being sent.") -> None:
        super().__init__(message)


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
