"""The failure of an upload."""


class UploadFailed(Exception):
    """The upload failed; the message has the reason and the next step.

    `problem` is the last word of the broker's problem type, such as `upload-expired`; empty if the broker named none.
    """

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem


class BrokerSilent(UploadFailed):
    """No broker answered."""
